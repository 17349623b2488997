"""FaradayHook.list_ingress_logs: pages, their order and the limit."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.sandbox import Sandbox
from support.ids import ORDERS

pytestmark = pytest.mark.usefixtures("faraday_default")


@pytest.mark.parametrize(("limit", "requests"), [(None, 3), (100, 1), (120, 2)])
def test_lists_as_many_pages_of_ingress_logs_as_needed_newest_first(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, limit: int | None, requests: int
) -> None:
    logs = [{"id": str(number), "started_at": f"2026-01-01T00:{number:03}"} for number in range(250)]
    monkeypatch.setattr(sandbox, "ingress_logs", lambda dataset_id: logs[::-1])
    assert FaradayHook().list_ingress_logs(ORDERS, limit=limit) == logs[::-1][:limit]
    assert len(sandbox.requests(f"/v1/datasets/{ORDERS}/logs/ingress")) == requests


@pytest.mark.parametrize("limit", [0, "5", 2.5, True])
def test_a_limit_must_be_a_positive_integer(sandbox: Sandbox, limit: Any) -> None:
    with pytest.raises(FaradayInputError, match="limit"):
        FaradayHook().list_ingress_logs(ORDERS, limit=limit)
    assert sandbox.requests() == []
