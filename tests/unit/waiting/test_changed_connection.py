"""Changes of the Airflow connection while triggers are waiting, and lookups that fail."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_faraday.waiting import account
from raw_server import RawServer, answer
from support.accounts import id_of
from support.ids import SCOPE
from support.triggers import Waiting, until, waiting_for

Connect = Callable[..., None]

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]


def targets(status: str) -> Any:
    return answer(body=[{"id": id_of(7), "name": "Buyers table", "status": status}])


def by_key(**statuses: str) -> Callable[[Any], Any]:
    """Respond with the status of the target for a key. Reject other keys."""

    def respond(request: Any) -> Any:
        key = request.headers["authorization"].removeprefix("Bearer ")
        return targets(statuses[key]) if key in statuses else answer(401, {"error": "EXPIRED_API_KEY"})

    return respond


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list of connections and exceptions that the next lookups return or raise.

    Other lookups succeed, and append None.
    """
    scripted: list[Any] = []
    look_up = account.get_async_connection

    async def next_lookup(conn_id: str) -> Any:
        if not any(scripted):
            scripted.append(None)
            return await look_up(conn_id)
        step = scripted.pop()
        if isinstance(step, Exception):
            raise step
        return step

    monkeypatch.setattr(account, "get_async_connection", next_lookup)
    return scripted


async def test_a_trigger_that_starts_after_a_change_uses_the_new_server_and_key(
    set_connection: Connect, waiting: Waiting
) -> None:
    with RawServer([targets("running")]) as old, RawServer(by_key(new="ready")) as new:
        set_connection(old.url, password="old")
        waiting.start(waiting_for(scope_id=SCOPE))
        await until(lambda: len(old.received) >= 2)
        set_connection(new.url, password="new")
        event = await waiting.event(waiting_for(scope_id=SCOPE))
        assert event["status"] == "ready"
        for request in [*old.received, *new.received]:
            keys = "new" if f":{new.port}" in request.headers["host"] else "old"
            assert request.headers["authorization"] == f"Bearer {keys}"


async def test_a_waiting_trigger_uses_the_last_configuration_until_another_one_is_looked_up(
    set_connection: Connect, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "REFRESH_SECONDS", 0.1)
    with RawServer([targets("running")]) as old, RawServer([targets("ready")]) as new:
        set_connection(old.url)
        event = waiting.start(waiting_for(scope_id=SCOPE))
        await until(lambda: len(old.received) >= 2)
        monkeypatch.delenv("AIRFLOW_CONN_FARADAY_DEFAULT")
        seen = len(old.received)
        await until(lambda: len(old.received) >= seen + 10)
        assert not event.done()
        set_connection(new.url)
        assert (await event)["status"] == "ready"


async def test_a_lookup_that_takes_too_long_is_not_canceled_and_its_failure_not_quoted(
    set_connection: Connect,
    waiting: Waiting,
    monkeypatch: pytest.MonkeyPatch,
    task_log: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The triggerer of Airflow 3.1 would confuse the responses to all later requests."""
    released, look_up = asyncio.Event(), account.get_async_connection
    started: list[str] = []

    async def slow(conn_id: str) -> Any:
        started.append(conn_id)
        if len(started) > 1:
            return await look_up(conn_id)
        await released.wait()
        raise RuntimeError("said secret-token")

    monkeypatch.setattr(account, "get_async_connection", slow)
    monkeypatch.setattr(account, "LOOKUP_SECONDS", 0.01)
    with RawServer([targets("ready")]) as server:
        set_connection(server.url)
        event = waiting.start(waiting_for(scope_id=SCOPE))
        await until(lambda: sum("Poll failed" in line and "TimeoutError" in line for line in task_log) >= 2)
        assert len(started) == 1
        released.set()
        assert (await event)["status"] == "ready"
    gc.collect()
    assert "secret-token" not in caplog.text + "".join(task_log)


class Undecryptable:
    """An Airflow connection that Airflow 2 decrypts when a field is read."""

    conn_id = "faraday_default"
    extra = host = schema = port = None

    @property
    def password(self) -> str:
        raise RuntimeError("secret-token")


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("said secret-token"), AirflowNotFoundException("no secret-token"), Undecryptable()],
)
async def test_a_failed_lookup_is_retried_and_does_not_quote_a_secrets_backend(
    set_connection: Connect, waiting: Waiting, lookups: list[Any], task_log: list[str], failure: Any
) -> None:
    # The first lookup is for the new subscriber, the second one for its poll.
    lookups += [failure, failure]
    with RawServer([targets("ready")]) as server:
        set_connection(server.url)
        assert (await waiting.event(waiting_for(scope_id=SCOPE)))["status"] == "ready"
    name = type(failure).__name__ if isinstance(failure, Exception) else "RuntimeError"
    assert any("Poll failed" in line and name in line for line in task_log)
    assert "secret-token" not in "".join(task_log)


@pytest.mark.parametrize("lookup", ["succeeds", "fails"])
async def test_a_rotated_key_is_looked_up_after_a_401(
    set_connection: Connect, waiting: Waiting, lookups: list[Any], task_log: list[str], lookup: str
) -> None:
    statuses = {"old": "running"}
    with RawServer(lambda request: by_key(**statuses)(request)) as server:
        set_connection(server.url, password="old")
        events = [waiting.start(waiting_for(connection_id=id_of(12, n))) for n in range(4)]
        await until(lambda: len(server.received) >= 24)
        # At most once for each new subscriber, and never for a poll.
        assert len(lookups) <= 4
        looked_up = len(lookups)
        if lookup == "fails":
            lookups.append(AirflowNotFoundException("a blip"))
        statuses.clear()
        statuses["new"] = "ready"
        set_connection(server.url, password="new")
        assert [event["status"] for event in await asyncio.gather(*events)] == ["ready"] * 4
    # A 401 that arrives during a lookup is followed by another lookup.
    assert len(lookups) <= looked_up + 3
    assert any("Poll failed" in line for line in task_log) == (lookup == "fails")


async def test_an_invalid_connection_ends_the_wait(set_connection: Connect, waiting: Waiting) -> None:
    set_connection("http://127.0.0.1:9/v1", password="")
    event = await waiting.event(waiting_for(scope_id=SCOPE))
    assert event["kind"] == "FaradayConfigurationError"
    assert "no API key" in event["message"]
