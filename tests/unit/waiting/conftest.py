"""Fixtures for tests of whole waits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from airflow_provider_faraday.waiting import feed
from support.accounts import Account


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let triggers poll as soon as they start."""
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.02)
    monkeypatch.setattr(feed, "TICK_SECONDS", 0.01)


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets the Airflow connection ``faraday_default``, without retries."""

    def set_connection(url: str, *, password: str = "the-key", **extra: Any) -> None:
        fields = {"conn_type": "faraday", "password": password, "host": url}
        fields["extra"] = json.dumps({"max_attempts": 1} | extra)
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(fields))

    return set_connection


@pytest.fixture
def serve(short_waits: None, set_connection: Callable[..., None]) -> Iterator[Callable[[Account], Account]]:
    """Return a function that starts an account and points the Airflow connection at it."""
    with ExitStack() as stack:

        def start(account: Account) -> Account:
            set_connection(stack.enter_context(account.server).url)
            return account

        yield start
