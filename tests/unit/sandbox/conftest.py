"""A sandbox at its default speed, and a client for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox


class Client:
    """A client with the right key, for the Faraday API and the control API."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {sandbox.api_key}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(f"{self._sandbox.url}{path}", timeout=10, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.session.post(f"{self._sandbox.url}{path}", timeout=10, **options)

    def control(self, method: str, path: str, json: Any = None) -> requests.Response:
        return requests.request(method, f"{self._sandbox.origin}/sandbox{path}", json=json, timeout=10)


@pytest.fixture
def faraday_sandbox_speed() -> float:
    """Build as slowly as by default: tests advance the clock."""
    return 1.0


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    client = Client(sandbox)
    yield client
    client.session.close()
