"""What the tests of the hook share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_faraday.hooks.faraday import FaradayHook
from support.clients import KEY


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FaradayHook]:
    """Return a function that sets the fields of the Airflow connection, and returns its hook."""

    def set_connection(host: str | None = None, *, password: str = KEY, **extra: Any) -> FaradayHook:
        fields = {"conn_type": "faraday", "password": password, "host": host, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(fields))
        return FaradayHook()

    return set_connection
