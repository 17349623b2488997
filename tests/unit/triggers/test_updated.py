"""DatasetUpdatedTrigger: one event for each build, whatever happens in between, and one poll for all."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException

from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.triggers import datasets as triggers
from airflow_provider_faraday.triggers import feed
from airflow_provider_faraday.triggers.datasets import DatasetsReadyTrigger, DatasetUpdatedTrigger

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

CONNECTION = "c0000000-0000-4000-8000-000000000001"
SCOPE = "50000000-0000-4000-8000-000000000001"
CUSTOMERS = "d0000000-0000-4000-8000-000000000001"
ORDERS = "d0000000-0000-4000-8000-000000000002"
INTERVAL = 0.05

AIRFLOW_2 = airflow_version.startswith("2.")
since_airflow_3 = pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 has no asset watchers")

pytestmark = pytest.mark.usefixtures("faraday_default")


@pytest.fixture(autouse=True)
def settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.01)


@pytest.fixture(autouse=True)
def built(sandbox: Sandbox) -> None:
    for id_ in (CUSTOMERS, ORDERS):
        sandbox.set_dataset(id_, status="ready", last_updated_output_at="2026-01-01T00:00:00.000Z")
    sandbox.clear_requests()


class States:
    """Stands for Airflow's state store of one asset or several; outlives the triggers."""

    def __init__(self, *assets: str) -> None:
        self.values: dict[str, dict[str, Any]] = {name: {} for name in assets}
        self.down = False
        self.writes = 0

    @property
    def accessors(self) -> Any:
        named = {name: Accessor(self, name) for name in self.values}
        return type("Accessors", (), {"_by_name": named, "_by_uri": {}})()


class Accessor:
    def __init__(self, states: States, name: str) -> None:
        self._states = states
        self._values = states.values[name]

    async def aget(self, key: str, default: Any = None) -> Any:
        self._check()
        return self._values.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self._check()
        self._states.writes += 1
        self._values[key] = value

    def _check(self) -> None:
        if self._states.down:
            raise ConnectionError("the API server is away")


class Watching:
    """A trigger that runs, and the events that it has given."""

    def __init__(self, states: States | None = None, **arguments: Any) -> None:
        trigger = DatasetUpdatedTrigger(**{"scope_id": SCOPE, "poke_interval": INTERVAL} | arguments)
        if states is not None:
            trigger.asset_state_store = states.accessors
        self.events: list[dict[str, Any]] = []
        self.task = asyncio.create_task(self._run(trigger))

    async def _run(self, trigger: DatasetUpdatedTrigger) -> None:
        async for event in trigger.run():
            self.events.append(event.payload)

    @property
    def builds(self) -> list[str]:
        return [f"{event['name']} {event['last_updated_output_at'][:10]}" for event in self.events]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def checked() -> None:
        await test()
        gc.collect()
        await asyncio.sleep(0.05)
        assert not feed._feeds.get(asyncio.get_running_loop())

    asyncio.run(asyncio.wait_for(checked(), 30))


async def polls(sandbox: Sandbox, count: int = 2) -> None:
    """Wait for so many further polls, and for what is made of them."""
    seen = len(sandbox.requests())
    await until(lambda: len(sandbox.requests()) >= seen + count)
    await asyncio.sleep(0.02)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  the sandbox runs in another thread
        await asyncio.sleep(0.01)


def rebuild(sandbox: Sandbox, id_: str, day: int) -> None:
    sandbox.set_dataset(id_, status="ready", last_updated_output_at=f"2026-01-{day:02}T00:00:00.000Z")


@since_airflow_3
@pytest.mark.parametrize(
    "watched", [{"scope_id": SCOPE}, {"scope_id": None, "dataset_ids": [ORDERS.upper(), CUSTOMERS]}]
)
def test_each_build_is_one_event_with_its_rows(sandbox: Sandbox, watched: dict[str, Any]) -> None:
    async def test() -> None:
        watching = Watching(**watched)
        await polls(sandbox)
        assert watching.events == []
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox)
        rebuild(sandbox, ORDERS, 3)
        await polls(sandbox, 3)
        assert watching.builds == ["customers 2026-01-02", "orders 2026-01-03"]
        assert watching.events[0] == {
            "id": CUSTOMERS,
            "name": "customers",
            "status": "ready",
            "last_updated_output_at": "2026-01-02T00:00:00.000Z",
            "row_count": sandbox.dataset(CUSTOMERS)["row_count"],
        }
        await watching.stop()

    run(test)


@since_airflow_3
def test_a_forced_update_is_one_event(sandbox: Sandbox) -> None:
    async def test() -> None:
        watching = Watching()
        await polls(sandbox)
        sandbox.force_update(CUSTOMERS)
        await until(lambda: watching.events)
        await polls(sandbox, 3)
        assert [event["id"] for event in watching.events] == [CUSTOMERS]
        await watching.stop()

    run(test)


@since_airflow_3
def test_first_sight_and_errors_are_events_where_asked_for(sandbox: Sandbox) -> None:
    async def test() -> None:
        watching = Watching(on_first_sight=True, on_error=True)
        await polls(sandbox)
        assert watching.builds == ["customers 2026-01-01", "orders 2026-01-01"]
        sandbox.set_dataset(ORDERS, status="error", status_error="No such table")
        await polls(sandbox, 3)
        assert [event["status"] for event in watching.events[2:]] == ["error"]
        assert watching.events[2]["status_error"] == "No such table"
        await watching.stop()

    run(test)


@since_airflow_3
def test_a_restart_gives_no_event_twice_and_none_too_few(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("customers and orders")
        first = Watching(states)
        await polls(sandbox)
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox)
        await first.stop()
        rebuild(sandbox, ORDERS, 3)
        second = Watching(states)
        await polls(sandbox, 3)
        assert (first.builds, second.builds) == (["customers 2026-01-02"], ["orders 2026-01-03"])
        await second.stop()

    run(test)


@since_airflow_3
def test_where_airflow_keeps_no_state_watching_begins_anew(sandbox: Sandbox) -> None:
    async def test() -> None:
        first = Watching()
        await polls(sandbox)
        await first.stop()
        rebuild(sandbox, CUSTOMERS, 2)
        second = Watching()
        await polls(sandbox)
        rebuild(sandbox, ORDERS, 3)
        await polls(sandbox)
        assert (first.builds, second.builds) == ([], ["orders 2026-01-03"])
        await second.stop()

    run(test)


@since_airflow_3
def test_state_is_kept_with_each_asset_that_the_trigger_stands_for(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a", "b")
        first = Watching(states)
        await polls(sandbox)
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox)
        await first.stop()
        assert len(first.events) == 1
        # One of the assets is gone, and another is new.
        later = States("b", "c")
        later.values["b"] = states.values["b"]
        second = Watching(later)
        await polls(sandbox)
        assert second.events == []
        await second.stop()

    run(test)


@since_airflow_3
def test_state_is_written_when_it_changes(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a")
        watching = Watching(states)
        await polls(sandbox, 5)
        assert states.writes == 1
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox, 5)
        assert states.writes == 2
        await watching.stop()

    run(test)


@since_airflow_3
def test_what_cannot_be_kept_is_announced_when_it_can(sandbox: Sandbox, task_log: list[str]) -> None:
    async def test() -> None:
        states = States("a")
        watching = Watching(states)
        await polls(sandbox)
        states.down = True
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox, 3)
        assert watching.events == []
        states.down = False
        await polls(sandbox)
        assert watching.builds == ["customers 2026-01-02"]
        await watching.stop()

    run(test)
    assert any("state of the asset could not be read or written" in line for line in task_log)


@since_airflow_3
def test_a_state_that_cannot_be_read_at_the_start_is_waited_for(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a")
        before = Watching(states)
        await polls(sandbox)
        await before.stop()
        rebuild(sandbox, CUSTOMERS, 2)
        states.down = True
        watching = Watching(states)
        await asyncio.sleep(0.2)
        states.down = False
        await polls(sandbox)
        assert watching.builds == ["customers 2026-01-02"]
        await watching.stop()

    run(test)


@since_airflow_3
@pytest.mark.parametrize("status", [401, 404, 503])
def test_a_failing_api_is_backed_off_from_and_nothing_is_missed(
    sandbox: Sandbox, faraday_default: Any, task_log: list[str], status: int
) -> None:
    async def test() -> None:
        faraday_default(extra={"max_attempts": 1})
        watching = Watching()
        await polls(sandbox)
        sandbox.fail_next(times=4, status=status)
        sandbox.clear_requests()
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox, 6)
        assert watching.builds == ["customers 2026-01-02"]
        await watching.stop()

    run(test)
    at = [datetime.fromisoformat(request["time"]) for request in sandbox.requests()]
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(at)]
    assert all(pause >= factor * INTERVAL for pause, factor in zip(pauses, (1, 1, 3, 7), strict=False))
    said = [line for line in task_log if "could not be asked for updates" in line]
    assert len(said) == 4
    assert f" {status} " in said[0]


@since_airflow_3
def test_pauses_grow_to_a_quarter_of_an_hour() -> None:
    trigger = DatasetUpdatedTrigger(scope_id=SCOPE, poke_interval=60)
    assert [trigger._pause(n) for n in (1, 2, 3, 4, 5, 6, 1000)] == [0, 60, 180, 420, 900, 900, 900]
    assert DatasetUpdatedTrigger(scope_id=SCOPE, poke_interval=3600)._pause(9) == 3600


@since_airflow_3
@pytest.mark.parametrize("watched", [{"scope_id": SCOPE}, {"scope_id": None}])
def test_fifty_watchers_share_one_poll_and_their_events_are_their_own(
    sandbox: Sandbox, watched: dict[str, Any]
) -> None:
    async def test() -> None:
        named = {"dataset_ids": [CUSTOMERS]} if watched["scope_id"] is None else {}
        watchers = [Watching(**watched, **named) for _ in range(50)]
        await polls(sandbox)
        sandbox.clear_requests()
        rebuild(sandbox, CUSTOMERS, 2)
        begun = asyncio.get_running_loop().time()
        await polls(sandbox, 5)
        intervals = (asyncio.get_running_loop().time() - begun) / INTERVAL
        assert len(sandbox.requests()) <= intervals + 1
        assert [watcher.builds for watcher in watchers] == [["customers 2026-01-02"]] * 50
        assert len({request["client"] for request in sandbox.requests()}) == 1
        for watcher in watchers:
            await watcher.stop()

    run(test)


@since_airflow_3
def test_watchers_and_sensors_share_a_poll(sandbox: Sandbox) -> None:
    async def test() -> None:
        sandbox.set_dataset(ORDERS, status="running")
        sensor = DatasetsReadyTrigger(
            faraday_conn_id="faraday_default", scope_id=SCOPE, poke_interval=0.2, deadline=4e9
        )
        waiting = asyncio.create_task(anext(sensor.run()))
        watching = Watching(poke_interval=0.2)
        await polls(sandbox, 1)
        sandbox.clear_requests()
        begun = asyncio.get_running_loop().time()
        await polls(sandbox, 4)
        assert len(sandbox.requests()) <= (asyncio.get_running_loop().time() - begun) / 0.2 + 1
        waiting.cancel()
        await asyncio.wait([waiting])
        await watching.stop()

    run(test)


@since_airflow_3
def test_a_dataset_that_faraday_does_not_return_is_said_once(sandbox: Sandbox, task_log: list[str]) -> None:
    nobody = "d0000000-0000-4000-8000-00000000ffff"

    async def test() -> None:
        watching = Watching(scope_id=None, dataset_ids=[nobody, CUSTOMERS])
        await polls(sandbox, 3)
        await watching.stop()

    run(test)
    assert sum(f"does not return dataset {nobody}" in line for line in task_log) == 1


@since_airflow_3
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"scope_id": SCOPE, "connection_id": CONNECTION},
        {"dataset_ids": []},
        {"scope_id": "customers"},
        {"scope_id": ""},
        {"dataset_ids": "customers"},
        {"scope_id": SCOPE, "poke_interval": 0},
        {"scope_id": SCOPE, "poke_interval": "60"},
    ],
)
def test_arguments_that_cannot_be_used_are_refused_when_the_dag_file_is_parsed(
    arguments: dict[str, Any],
) -> None:
    with pytest.raises(FaradayInputError):
        DatasetUpdatedTrigger(**arguments)


@since_airflow_3
def test_a_stored_watcher_is_what_it_was_in_every_release() -> None:
    """The golden test: Airflow tells equal watchers by these arguments, so that they must never change."""
    stored = {
        "connection_id": None,
        "scope_id": None,
        "dataset_ids": [CUSTOMERS],
        "on_error": True,
        "on_first_sight": True,
        "poke_interval": 30,
        "faraday_conn_id": "other",
    }
    path, arguments = DatasetUpdatedTrigger(**stored).serialize()
    assert path == "airflow_provider_faraday.triggers.datasets.DatasetUpdatedTrigger"
    assert arguments == stored


@pytest.mark.skipif(not AIRFLOW_2, reason="is about Airflow 2")
def test_on_airflow_2_the_trigger_says_what_it_needs() -> None:
    assert triggers.DatasetsReadyTrigger
    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"needs Airflow 3\.0 or newer"):
        DatasetUpdatedTrigger(scope_id=SCOPE)
