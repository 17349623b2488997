"""What unit tests share."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from support.certificates import certified


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
