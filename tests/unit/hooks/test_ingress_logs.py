"""FaradayHook: ingress logs, and uploads that are deleted."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_faraday.exceptions import FaradayInputError, FaradayNotFoundError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.sandbox import Sandbox
from support.ids import ORDERS

pytestmark = pytest.mark.usefixtures("faraday_default")

PATH = f"/v1/datasets/{ORDERS}/logs/ingress"


@pytest.fixture
def logs(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Return 250 logs, oldest first. Faraday sends 100 at a time."""
    found = [{"id": str(number), "started_at": f"2026-01-01T00:{number:03}"} for number in range(250)]
    monkeypatch.setattr(sandbox, "ingress_logs", lambda dataset_id: found[::-1])
    return found


def test_lists_all_pages_of_ingress_logs_newest_first(sandbox: Sandbox, logs: list[dict[str, str]]) -> None:
    assert FaradayHook().list_ingress_logs(ORDERS) == logs[::-1]
    assert len(sandbox.requests(PATH)) == 3


@pytest.mark.parametrize(("limit", "requests"), [(1, 1), (100, 1), (120, 2)])
def test_requests_no_more_pages_than_the_limit_needs(
    sandbox: Sandbox, logs: list[dict[str, str]], limit: int, requests: int
) -> None:
    assert FaradayHook().list_ingress_logs(ORDERS, limit=limit) == logs[::-1][:limit]
    assert len(sandbox.requests(PATH)) == requests


def test_a_dataset_may_have_no_ingress_logs(logs: list[dict[str, str]]) -> None:
    logs.clear()
    assert FaradayHook().list_ingress_logs("orders", limit=5) == []


@pytest.mark.parametrize("limit", [0, "5", 2.5, True])
def test_a_limit_must_be_a_positive_integer(sandbox: Sandbox, limit: Any) -> None:
    with pytest.raises(FaradayInputError, match="limit"):
        FaradayHook().list_ingress_logs(ORDERS, limit=limit)
    assert sandbox.requests() == []


def test_deletes_an_upload(sandbox: Sandbox, tmp_path) -> None:
    hook = FaradayHook()
    (tmp_path / "a.csv").write_text("id\n1\n")
    for name in ("a.csv", "b.csv"):
        hook.upload_file(f"file://{tmp_path}/a.csv", directory="web_orders", filename=name)

    hook.delete_upload("web_orders", "a.csv")

    assert [upload["subpath"] for upload in hook.list_uploads()] == ["web_orders/b.csv"]
    with pytest.raises(FaradayNotFoundError):
        hook.delete_upload("web_orders", "a.csv")


@pytest.mark.parametrize(("directory", "filename"), [("..", "a.csv"), ("web_orders", "../a.csv"), ("", "")])
def test_only_an_upload_can_be_deleted(sandbox: Sandbox, directory: str, filename: str) -> None:
    with pytest.raises(FaradayInputError):
        FaradayHook().delete_upload(directory, filename)
    assert sandbox.requests() == []
