"""Shared fixtures of the unit tests."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from support.certificates import certified

if TYPE_CHECKING:
    from support.accounts import Account
    from support.triggers import Waiting


@pytest.fixture
def task_log() -> Iterator[list[str]]:
    """Give the lines that operators and sensors log, each as ``LEVEL message``, as they come."""
    from support.run_dag import watching_tasks

    with watching_tasks() as watcher:
        watcher.current = "task"
        yield watcher.lines.setdefault("task", [])


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """Return a server's TLS context with a self-signed certificate, which is also in ``server.pem``."""
    return certified(tmp_path, x509.IPAddress(ip_address("127.0.0.1")))


@pytest.fixture
def for_another_host(tmp_path: Path) -> ssl.SSLContext:
    """Return a server's TLS context with a certificate, also in ``server.pem``, of another host."""
    return certified(tmp_path, x509.DNSName("elsewhere.test"))


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once."""
    monkeypatch.setattr("airflow_provider_faraday.api.retries.BACKOFF", lambda state: 0.0)


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests with asyncio, as the triggerer does."""
    return "asyncio"


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let triggers poll as soon as they start."""
    monkeypatch.setattr("airflow_provider_faraday.waiting.feed.SETTLE_SECONDS", 0.02)
    monkeypatch.setattr("airflow_provider_faraday.waiting.feed.TICK_SECONDS", 0.01)


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


@pytest.fixture
async def waiting(anyio_backend: str) -> AsyncIterator[Waiting]:
    """Return a triggerer, which stops after the test. Check that its triggers leave no tasks or sockets."""
    from support.triggers import Waiting

    waiting = Waiting()
    yield waiting
    await waiting.stop()
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if "airflow_provider_faraday" in repr(task)]
    gc.collect()  # an unclosed session warns when it is collected, which pytest turns into a failure
