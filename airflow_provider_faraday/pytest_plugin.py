"""Pytest fixtures for tests of DAGs: a sandbox, the Airflow connection to it, and waits that take no time.

Every run of pytest loads this module, also in projects that do not use it: it imports nothing but pytest.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_faraday.sandbox import Sandbox


@pytest.fixture
def faraday_sandbox(
    faraday_sandbox_account: str | Path | dict[str, Any] | None,
    faraday_sandbox_speed: float,
    faraday_sandbox_age: float,
    faraday_conn_id: str,
    faraday_poke_interval: float | None,
    _faraday_server: _Server,
) -> Iterator[Sandbox]:
    """Return a local Faraday API in its initial state.

    The Airflow connection points to it, and sensors and operators poll it without long waits.
    """
    sandbox = _faraday_server.serve(
        account=faraday_sandbox_account, speed=faraday_sandbox_speed, age=faraday_sandbox_age
    )
    # Not the test's own monkeypatch, which it may undo.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"AIRFLOW_CONN_{faraday_conn_id.upper()}", json.dumps(sandbox.airflow_connection))
        # The proxy of the environment cannot reach it. The name in lower case wins.
        direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        patch.setenv("no_proxy", f"{direct},{sandbox.host}" if direct else sandbox.host)
        if faraday_poke_interval is not None:
            _shorten_waits(faraday_poke_interval, patch)
        yield sandbox


@pytest.fixture
def faraday_sandbox_account() -> str | Path | dict[str, Any] | None:
    """Return the account that the sandbox serves: the path of an account file, its content, or None for the
    bundled account.
    """
    return None


@pytest.fixture
def faraday_sandbox_speed() -> float:
    """Return how many times faster than configured the sandbox builds."""
    return 100.0


@pytest.fixture
def faraday_sandbox_age() -> float:
    """Return how many seconds ago the sandbox's first builds began.

    An hour is enough for everything to be built. With 0, everything begins to build when a test starts.
    """
    return 3600.0


@pytest.fixture
def faraday_conn_id() -> str:
    """Return the id of the Airflow connection to the sandbox."""
    return "faraday_default"


@pytest.fixture
def faraday_poke_interval() -> float | None:
    """Return how many seconds to wait at most between polls, and before a request is retried.

    It applies to all sensors and operators of this provider. With None, they wait as long as they always do.
    """
    return 0.1


class _Server:
    """The sandbox of the test session: it is replaced only when a test needs another one."""

    def __init__(self) -> None:
        self._sandbox: Sandbox | None = None
        self._options: dict[str, Any] = {}
        self._running = ExitStack()

    def serve(self, **options: Any) -> Sandbox:
        """Return a running sandbox with these options, in its initial state."""
        if self._sandbox is None or options != self._options:
            self.stop()
            from airflow_provider_faraday.sandbox import Sandbox

            self._sandbox = self._running.enter_context(Sandbox(**options))
            # A copy, so that an account that is changed in place starts another sandbox.
            self._options = deepcopy(options)
        self._sandbox.reset()
        # A test may have stopped it.
        return self._sandbox.start()

    def stop(self) -> None:
        self._sandbox = None
        self._running.close()


@pytest.fixture(scope="session")
def _faraday_server() -> Iterator[_Server]:
    server = _Server()
    yield server
    server.stop()


class _AtMost:
    """An attribute that has its own value on each instance, but reads as a limit where it is above that."""

    def __init__(self, name: str, limit: float) -> None:
        self._name = name
        self._limit = limit

    def __get__(self, instance: object, owner: type) -> float:
        if instance is None:
            raise AttributeError(self._name)
        value: float = vars(instance)[self._name]
        return min(value, self._limit)

    def __set__(self, instance: object, value: float) -> None:
        vars(instance)[self._name] = value


def _shorten_waits(seconds: float, patch: pytest.MonkeyPatch) -> None:
    # On the classes, since the tasks under test may exist already, and may outlive the test.
    from airflow_provider_faraday.api import retries
    from airflow_provider_faraday.operators.resources import ForceUpdateResourcesOperator
    from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
    from airflow_provider_faraday.waiting import feed

    for waiting in (ResourcesReadySensor, ForceUpdateResourcesOperator):
        patch.setattr(waiting, "poke_interval", _AtMost("poke_interval", seconds), raising=False)
    patch.setattr(feed, "SETTLE_SECONDS", seconds)
    backoff = retries.BACKOFF
    patch.setattr(retries, "BACKOFF", lambda state: min(backoff(state), seconds))
