"""Watchers: an event for each build, at least once, whatever happens in between."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException

from airflow_provider_faraday.compat import has_watcher_queues
from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger
from airflow_provider_faraday.triggers.resources import ResourcesReadyTrigger, ResourceUpdatedTrigger
from airflow_provider_faraday.waiting import account, feed, marks, watch
from support.ids import CUSTOMERS, ORDERS, SCOPE, UNKNOWN, WAREHOUSE

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

INTERVAL = 0.05
CONFIRM = 0.3

AIRFLOW_2 = airflow_version.startswith("2.")
since_airflow_3 = pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 has no asset watchers")

pytestmark = pytest.mark.usefixtures("faraday_default")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(feed, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(marks, "CONFIRM_SECONDS", CONFIRM)
    monkeypatch.setattr(marks, "RETRY_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def built(sandbox: Sandbox) -> None:
    for id_ in (CUSTOMERS, ORDERS):
        sandbox.set_dataset(id_, status="ready", last_updated_output_at="2026-01-01T00:00:00.000Z")
    sandbox.clear_requests()


class States:
    """The state store of one or several assets, as Airflow passes it to a trigger. It outlives triggers."""

    def __init__(self, *assets: str) -> None:
        self.values: dict[str, dict[str, Any]] = {name: {} for name in assets}
        self.down = False
        self.inactive: set[str] = set()
        self.read_only: set[str] = set()
        self.writes: list[tuple[str, str]] = []

    @property
    def accessors(self) -> Any:
        named = {name: Accessor(self, name) for name in self.values}
        return type("Accessors", (), {"_by_name": named, "_by_uri": {}})()


class Accessor:
    """The state of one asset. Reading that of an inactive one returns nothing, and writing fails."""

    def __init__(self, states: States, name: str) -> None:
        self._states = states
        self._name = name
        self._values = states.values[name]

    async def aget(self, key: str, default: Any = None) -> Any:
        if self._states.down:
            raise ConnectionError("the API server is away")
        return default if self._name in self._states.inactive else self._values.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self._check()
        self._states.writes.append((self._name, key))
        self._values[key] = value

    async def adelete(self, key: str) -> None:
        self._check()
        self._values.pop(key, None)

    def _check(self) -> None:
        if self._states.down or self._name in self._states.read_only:
            raise ConnectionError("the API server is away")
        if self._name in self._states.inactive:
            error = RuntimeError(f"asset {self._name} not found")
            error.error = SimpleNamespace(detail={"status_code": 404})  # type: ignore[attr-defined]
            raise error


class Watcher:
    """A running trigger, and the events that it has yielded."""

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
        before = asyncio.all_tasks()
        await test()
        gc.collect()
        await asyncio.sleep(0.05)
        assert not account._accounts.get(asyncio.get_running_loop())
        assert asyncio.all_tasks() == before

    asyncio.run(asyncio.wait_for(checked(), 30))


def problems(states: States) -> list[str]:
    return [value for key, value in states.values["a"].items() if key.endswith(".problem")]


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
    "watched", [{"scope_id": SCOPE}, {"scope_id": None, "datasets": [ORDERS.upper(), CUSTOMERS]}]
)
def test_each_build_is_one_event_with_its_row_count(sandbox: Sandbox, watched: dict[str, Any]) -> None:
    async def test() -> None:
        watcher = Watcher(**watched)
        await polls(sandbox)
        assert watcher.events == []
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox)
        rebuild(sandbox, ORDERS, 3)
        await polls(sandbox, 3)
        assert watcher.builds == ["customers 2026-01-02", "orders 2026-01-03"]
        assert watcher.events[0] == {
            "resource_type": "datasets",
            "id": CUSTOMERS,
            "name": "customers",
            "status": "ready",
            "last_updated_output_at": "2026-01-02T00:00:00.000Z",
            "row_count": sandbox.dataset(CUSTOMERS)["row_count"],
        }
        await watcher.stop()

    run(test)


@since_airflow_3
def test_a_forced_update_is_one_event(sandbox: Sandbox) -> None:
    async def test() -> None:
        watcher = Watcher()
        await polls(sandbox)
        sandbox.force_update(CUSTOMERS)
        await until(lambda: watcher.events)
        await polls(sandbox, 3)
        assert [event["id"] for event in watcher.events] == [CUSTOMERS]
        await watcher.stop()

    run(test)


@since_airflow_3
def test_the_initial_state_and_errors_are_events_on_request(sandbox: Sandbox) -> None:
    async def test() -> None:
        watcher = Watcher(emit_initial=True, on_error=True)
        await polls(sandbox)
        assert watcher.builds == ["customers 2026-01-01", "orders 2026-01-01"]
        sandbox.set_dataset(ORDERS, status="error", status_error="No such table")
        await polls(sandbox, 3)
        assert [event["status"] for event in watcher.events[2:]] == ["error"]
        assert watcher.events[2]["status_error"] == "No such table"
        await watcher.stop()

    run(test)


@since_airflow_3
def test_a_build_while_no_triggerer_runs_is_announced_after_the_restart(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("customers and orders")
        first = Watcher(states)
        await polls(sandbox)
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox)
        await asyncio.sleep(CONFIRM + 0.1)
        await first.stop()
        rebuild(sandbox, ORDERS, 3)
        second = Watcher(states)
        await polls(sandbox, 3)
        assert (first.builds, second.builds) == (["customers 2026-01-02"], ["orders 2026-01-03"])
        await second.stop()

    run(test)


@since_airflow_3
def test_a_build_is_announced_again_if_the_triggerer_stops_before_airflow_can_have_stored_it(
    sandbox: Sandbox,
) -> None:
    async def test() -> None:
        states = States("customers")
        first = Watcher(states)
        await polls(sandbox)
        rebuild(sandbox, CUSTOMERS, 2)
        await until(lambda: first.events)
        await first.stop()
        second = Watcher(states)
        await polls(sandbox)
        assert first.builds == second.builds == ["customers 2026-01-02"]
        await second.stop()

    run(test)


@since_airflow_3
def test_a_build_is_recorded_in_time_even_if_later_polls_fail(sandbox: Sandbox, faraday_default: Any) -> None:
    async def test() -> None:
        faraday_default(extra={"max_attempts": 1})
        states = States("customers")
        first = Watcher(states)
        await polls(sandbox)
        rebuild(sandbox, CUSTOMERS, 2)
        await until(lambda: first.events)
        sandbox.fail_next(times=1000, status=503)
        await asyncio.sleep(CONFIRM + 0.1)
        await first.stop()
        sandbox.clear_faults()
        second = Watcher(states)
        await polls(sandbox)
        assert second.builds == []
        await second.stop()

    run(test)


@since_airflow_3
def test_a_build_is_not_recorded_before_its_event_can_be_stored_even_if_the_store_fails_in_between(
    sandbox: Sandbox,
) -> None:
    async def test() -> None:
        states = States("customers")
        first = Watcher(states)
        await polls(sandbox)
        await until(lambda: states.writes)
        rebuild(sandbox, CUSTOMERS, 2)
        states.down = True
        await until(lambda: first.events)
        await asyncio.sleep(0.02)
        states.down = False
        await asyncio.sleep(CONFIRM * 0.8)
        await first.stop()
        second = Watcher(states)
        await polls(sandbox)
        assert second.builds == ["customers 2026-01-02"]
        await second.stop()

    run(test)


@since_airflow_3
def test_another_interval_does_not_lose_what_was_announced(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a")
        by_id: dict[str, Any] = {"scope_id": None, "datasets": [CUSTOMERS, ORDERS]}
        first = Watcher(states, **by_id)
        await polls(sandbox)
        await until(lambda: states.writes)
        await first.stop()
        rebuild(sandbox, CUSTOMERS, 2)
        second = Watcher(states, scope_id=None, datasets=[ORDERS, CUSTOMERS], poke_interval=0.07)
        await polls(sandbox)
        assert second.builds == ["customers 2026-01-02"]
        await second.stop()

    run(test)


@since_airflow_3
@pytest.mark.parametrize(
    "stored", [["x"], "text", {CUSTOMERS: {}}, {CUSTOMERS: {"built": 5, "failed": None}}]
)
def test_an_invalid_state_is_ignored(sandbox: Sandbox, task_log: list[str], stored: Any) -> None:
    async def test() -> None:
        states = States("a")
        first = Watcher(states)
        await polls(sandbox)
        await until(lambda: states.writes)
        await first.stop()
        for key in states.values["a"]:
            states.values["a"][key] = stored
        second = Watcher(states)
        await polls(sandbox)
        rebuild(sandbox, CUSTOMERS, 2)
        await until(lambda: second.builds == ["customers 2026-01-02"])
        await second.stop()

    run(test)
    assert any("of asset 'a' is not valid" in line for line in task_log)


@since_airflow_3
def test_overlapping_watchers_of_one_asset_each_announce_and_each_remember(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("customers")
        by_id = {"scope_id": None, "datasets": [CUSTOMERS]}
        watched: list[dict[str, Any]] = [{}, by_id, {"on_error": True}]
        first = [Watcher(states, **arguments) for arguments in watched]
        await polls(sandbox, 6)
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox, 6)
        await asyncio.sleep(CONFIRM + 0.1)
        for each in first:
            assert each.builds == ["customers 2026-01-02"]
            await each.stop()
        rebuild(sandbox, CUSTOMERS, 3)
        second = [Watcher(states, **arguments) for arguments in watched]
        await polls(sandbox, 6)
        for each in second:
            assert each.builds == ["customers 2026-01-03"]
            await each.stop()

    run(test)


@since_airflow_3
def test_watchers_of_different_datasets_on_one_asset_do_not_overwrite_each_other(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("both")
        watched: list[dict[str, Any]] = [{"datasets": [CUSTOMERS]}, {"datasets": [ORDERS]}]
        for each in [Watcher(states, scope_id=None, **arguments) for arguments in watched]:
            await polls(sandbox, 4)
            await each.stop()
        rebuild(sandbox, CUSTOMERS, 2)
        rebuild(sandbox, ORDERS, 3)
        restarted = [Watcher(states, scope_id=None, **arguments) for arguments in watched]
        await polls(sandbox, 6)
        assert [each.builds for each in restarted] == [["customers 2026-01-02"], ["orders 2026-01-03"]]
        for each in restarted:
            await each.stop()

    run(test)


@since_airflow_3
def test_an_asset_whose_state_cannot_be_written_does_not_keep_the_others_from_theirs(
    sandbox: Sandbox,
) -> None:
    async def test() -> None:
        states = States("a", "b")
        states.read_only.add("a")
        first = Watcher(states)
        await polls(sandbox)
        await until(lambda: states.values["b"])
        rebuild(sandbox, CUSTOMERS, 2)
        await first.stop()
        second = Watcher(states)
        await until(lambda: second.builds == ["customers 2026-01-02"])
        await second.stop()

    run(test)


@since_airflow_3
def test_an_inactive_asset_does_not_keep_the_others_from_their_events(
    sandbox: Sandbox, task_log: list[str]
) -> None:
    async def test() -> None:
        states = States("active", "inactive")
        first = Watcher(states)
        await polls(sandbox)
        states.inactive.add("inactive")
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox, 3)
        rebuild(sandbox, ORDERS, 3)
        await polls(sandbox, 3)
        assert first.builds == ["customers 2026-01-02", "orders 2026-01-03"]
        await asyncio.sleep(CONFIRM + 0.1)
        await first.stop()
        # Airflow does not name an inactive asset when it starts a trigger.
        del states.values["inactive"]
        second = Watcher(states)
        await polls(sandbox)
        assert second.builds == []
        await second.stop()

    run(test)
    assert sum("state of asset 'inactive'" in line for line in task_log) == 1


@since_airflow_3
def test_marks_of_resources_that_are_gone_are_dropped(sandbox: Sandbox) -> None:
    def stored(states: States) -> list[int]:
        return [len(value) for value in states.values["a"].values()]

    async def test() -> None:
        states = States("a")
        watcher = Watcher(states, scope_id=None, connection_id=WAREHOUSE)
        await polls(sandbox)
        await until(lambda: stored(states) == [5])
        await watcher.stop()
        restarted = Watcher(states, scope_id=None, connection_id=WAREHOUSE)
        await polls(sandbox)
        sandbox.remove_dataset(ORDERS)
        await polls(sandbox)
        await until(lambda: stored(states) == [4])
        rebuild(sandbox, CUSTOMERS, 2)
        await until(lambda: "customers 2026-01-02" in restarted.builds)
        await restarted.stop()

    run(test)


@since_airflow_3
def test_an_unknown_id_is_shown_in_the_state_of_the_asset(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a")
        watcher = Watcher(states, scope_id=None, datasets=[CUSTOMERS, UNKNOWN])
        await until(lambda: problems(states))
        assert UNKNOWN in problems(states)[0]
        await watcher.stop()

    run(test)


@since_airflow_3
def test_a_problem_of_an_earlier_process_is_removed_when_it_is_solved(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a")
        sandbox.fail_next(times=1000, status=401)
        first = Watcher(states)
        await until(lambda: problems(states))
        (shown,) = problems(states)
        await polls(sandbox)
        assert problems(states) == [shown]
        await first.stop()
        sandbox.clear_faults()
        second = Watcher(states)
        await until(lambda: not problems(states))
        await second.stop()

    run(test)


@since_airflow_3
def test_a_problem_is_shown_in_the_state_of_the_asset_until_it_is_solved(
    sandbox: Sandbox, faraday_default: Any
) -> None:
    async def test() -> None:
        states = States("a")
        watcher = Watcher(states)
        await polls(sandbox)
        assert problems(states) == []
        sandbox.rotate_key("the-new-key")
        await until(lambda: problems(states))
        assert "401 EXPIRED_API_KEY" in problems(states)[0]
        assert sandbox.api_key not in problems(states)[0]
        faraday_default(password="the-new-key")
        await until(lambda: not problems(states))
        await watcher.stop()

    run(test)


@since_airflow_3
def test_a_problem_says_since_when_although_its_text_changes(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a")
        sandbox.fail_next(times=4, status=403, body="first")
        sandbox.fail_next(times=1000, status=403, body="then")
        watcher = Watcher(states)
        await until(lambda: "first" in str(problems(states)))
        since = problems(states)[0].partition("Z:")[0]
        await asyncio.sleep(1.0)
        await until(lambda: "then" in str(problems(states)))
        assert problems(states)[0].startswith(f"{since}Z:")
        await watcher.stop()

    run(test)


@since_airflow_3
def test_without_stored_state_a_restart_begins_with_the_initial_state(sandbox: Sandbox) -> None:
    async def test() -> None:
        first = Watcher()
        await polls(sandbox)
        await first.stop()
        rebuild(sandbox, CUSTOMERS, 2)
        second = Watcher()
        await polls(sandbox)
        rebuild(sandbox, ORDERS, 3)
        await polls(sandbox)
        assert (first.builds, second.builds) == ([], ["orders 2026-01-03"])
        await second.stop()

    run(test)


@since_airflow_3
def test_marks_are_stored_with_each_asset_of_the_trigger(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a", "b")
        first = Watcher(states)
        await polls(sandbox)
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox)
        await asyncio.sleep(CONFIRM + 0.1)
        await first.stop()
        assert len(first.events) == 1
        # One of the assets is gone, and another is new.
        later = States("b", "c")
        later.values["b"] = states.values["b"]
        second = Watcher(later)
        await polls(sandbox)
        assert second.events == []
        await second.stop()

    run(test)


@since_airflow_3
def test_state_is_written_only_when_it_changes(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a")
        watcher = Watcher(states)
        await polls(sandbox, 5)
        assert len(states.writes) == 1
        rebuild(sandbox, CUSTOMERS, 2)
        await until(lambda: watcher.events)
        await asyncio.sleep(CONFIRM + 0.2)
        assert len(states.writes) == 2
        await watcher.stop()

    run(test)


@since_airflow_3
def test_builds_are_announced_while_the_state_cannot_be_written_and_recorded_afterwards(
    sandbox: Sandbox, task_log: list[str]
) -> None:
    async def test() -> None:
        states = States("a")
        first = Watcher(states)
        await polls(sandbox)
        states.down = True
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox, 3)
        assert first.builds == ["customers 2026-01-02"]
        await asyncio.sleep(CONFIRM + 0.1)
        states.down = False
        await asyncio.sleep(CONFIRM + 0.3)
        await first.stop()
        second = Watcher(states)
        await polls(sandbox)
        assert second.builds == []
        await second.stop()

    run(test)
    assert sum("state of asset 'a' cannot be read or written" in line for line in task_log) == 1


@since_airflow_3
def test_a_state_that_cannot_be_read_at_the_start_is_retried(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a")
        before = Watcher(states)
        await polls(sandbox)
        await before.stop()
        rebuild(sandbox, CUSTOMERS, 2)
        states.down = True
        watcher = Watcher(states)
        await asyncio.sleep(0.2)
        states.down = False
        await polls(sandbox)
        assert watcher.builds == ["customers 2026-01-02"]
        await watcher.stop()

    run(test)


@since_airflow_3
@pytest.mark.parametrize("status", [401, 404, 503])
def test_a_watcher_backs_off_from_a_failing_api_and_misses_nothing(
    sandbox: Sandbox, faraday_default: Any, task_log: list[str], status: int
) -> None:
    async def test() -> None:
        faraday_default(extra={"max_attempts": 1})
        watcher = Watcher()
        await polls(sandbox)
        sandbox.fail_next(times=4, status=status)
        sandbox.clear_requests()
        rebuild(sandbox, CUSTOMERS, 2)
        await polls(sandbox, 6)
        assert watcher.builds == ["customers 2026-01-02"]
        await watcher.stop()

    run(test)
    at = [datetime.fromisoformat(request["time"]) for request in sandbox.requests()]
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(at)]
    assert all(pause >= factor * INTERVAL for pause, factor in zip(pauses, (1, 1, 3, 7), strict=False))
    warnings = [line for line in task_log if "Poll for updates failed" in line]
    assert len(warnings) == 4
    assert f" {status} " in warnings[0]


@since_airflow_3
def test_pauses_grow_to_a_quarter_of_an_hour() -> None:
    pauses = [watch._pause_after(failures, 60) for failures in (1, 2, 3, 4, 5, 6, 1000)]
    assert pauses == [0, 60, 180, 420, 900, 900, 900]
    assert watch._pause_after(9, 3600) == 3600


@since_airflow_3
@pytest.mark.parametrize("watched", [{"scope_id": SCOPE}, {"scope_id": None}])
def test_fifty_watchers_share_each_poll_and_each_has_its_own_events(
    sandbox: Sandbox, watched: dict[str, Any]
) -> None:
    async def test() -> None:
        named = {"datasets": [CUSTOMERS]} if watched["scope_id"] is None else {}
        watchers = [Watcher(**watched, **named) for _ in range(50)]
        await polls(sandbox)
        sandbox.clear_requests()
        rebuild(sandbox, CUSTOMERS, 2)
        started = asyncio.get_running_loop().time()
        await polls(sandbox, 5)
        intervals = (asyncio.get_running_loop().time() - started) / INTERVAL
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
        sensor = ResourcesReadyTrigger(
            faraday_conn_id="faraday_default",
            source={"resource_type": "datasets", "scope_id": SCOPE},
            criteria={},
            poke_interval=0.2,
            deadline=4e9,
        )
        waiting = asyncio.create_task(anext(sensor.run()))
        watcher = Watcher(poke_interval=0.2)
        await polls(sandbox, 1)
        sandbox.clear_requests()
        started = asyncio.get_running_loop().time()
        await polls(sandbox, 4)
        assert len(sandbox.requests()) <= (asyncio.get_running_loop().time() - started) / 0.2 + 1
        waiting.cancel()
        await asyncio.wait([waiting])
        await watcher.stop()

    run(test)


@since_airflow_3
def test_a_dataset_that_faraday_does_not_return_is_warned_about_once(
    sandbox: Sandbox, task_log: list[str]
) -> None:
    nobody = "d0000000-0000-4000-8000-00000000ffff"

    async def test() -> None:
        watcher = Watcher(scope_id=None, datasets=[nobody, CUSTOMERS])
        await polls(sandbox, 3)
        await watcher.stop()

    run(test)
    assert sum(f"{nobody} is watched, but Faraday does not return it" in line for line in task_log) == 1


@since_airflow_3
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"scope_id": SCOPE, "connection_id": WAREHOUSE},
        {"datasets": []},
        {"scope_id": "customers"},
        {"scope_id": ""},
        {"datasets": "customers"},
        {"scope_id": SCOPE, "poke_interval": 0},
        {"scope_id": SCOPE, "poke_interval": "60"},
    ],
)
def test_invalid_arguments_are_rejected_when_the_dag_file_is_parsed(
    arguments: dict[str, Any],
) -> None:
    with pytest.raises(FaradayInputError):
        DatasetUpdatedTrigger(**arguments)


@since_airflow_3
def test_stored_watchers_keep_loading() -> None:
    """Airflow compares watchers by these arguments: they must never change."""
    stored: dict[str, Any] = {
        "resource_type": "datasets",
        "connection_id": None,
        "scope_id": None,
        "resource_ids": [CUSTOMERS],
        "on_error": True,
        "emit_initial": True,
        "poke_interval": 30,
        "faraday_conn_id": "other",
    }
    path, arguments = ResourceUpdatedTrigger(**stored).serialize()
    assert path == "airflow_provider_faraday.triggers.resources.ResourceUpdatedTrigger"
    assert arguments == stored


@since_airflow_3
def test_watchers_of_the_same_datasets_are_equal_regardless_of_class() -> None:
    options: dict[str, Any] = {"poke_interval": 30, "on_error": True}
    generic = ResourceUpdatedTrigger(resource_type="datasets", resource_ids=[CUSTOMERS], **options)
    assert DatasetUpdatedTrigger(datasets=[CUSTOMERS], **options).serialize() == generic.serialize()


@since_airflow_3
@pytest.mark.skipif(not has_watcher_queues(), reason="Airflow before 3.4 has no queues of triggerers")
def test_a_queue_does_not_identify_a_watcher() -> None:
    plain = DatasetUpdatedTrigger(datasets=[CUSTOMERS])
    queued = DatasetUpdatedTrigger(datasets=[CUSTOMERS], queue="faraday")
    assert (plain.queue, queued.queue) == (None, "faraday")
    assert queued.serialize() == plain.serialize()


@since_airflow_3
@pytest.mark.skipif(has_watcher_queues(), reason="Airflow 3.4 has queues of triggerers")
def test_a_queue_is_refused_before_airflow_3_4() -> None:
    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"queue .* requires Airflow 3\.4"):
        DatasetUpdatedTrigger(datasets=[CUSTOMERS], queue="faraday")


@pytest.mark.skipif(not AIRFLOW_2, reason="about Airflow 2")
def test_on_airflow_2_the_trigger_says_what_it_requires() -> None:
    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"requires Airflow 3\.0 or later"):
        DatasetUpdatedTrigger(scope_id=SCOPE)


def announce_by_webhook(states: States, *assets: str, day: int) -> None:
    """Record in the state of assets that a webhook has announced a build, as Airflow's API server does."""
    mark = {"built": f"2026-01-{day:02}T00:00:00.000Z", "failed": None}
    for asset in assets:
        states.values[asset]["airflow-provider-faraday.webhook"] = {CUSTOMERS: mark}


@since_airflow_3
def test_what_a_webhook_has_announced_is_not_announced_again(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a")
        watcher = Watcher(states, on_error=True)
        await polls(sandbox)
        announce_by_webhook(states, "a", day=2)
        rebuild(sandbox, CUSTOMERS, 2)
        rebuild(sandbox, ORDERS, 2)
        await until(lambda: watcher.events)
        # The next build comes without a webhook, and the failure after it.
        rebuild(sandbox, CUSTOMERS, 3)
        await polls(sandbox, 3)
        sandbox.set_dataset(CUSTOMERS, status="error", status_error="No such table")
        await polls(sandbox, 3)
        assert watcher.builds == ["orders 2026-01-02", "customers 2026-01-03", "customers 2026-01-03"]
        assert [event["status"] for event in watcher.events] == ["ready", "ready", "error"]
        await watcher.stop()
        # Nor after a restart.
        await asyncio.sleep(CONFIRM + 0.1)
        second = Watcher(states, on_error=True)
        await polls(sandbox, 3)
        assert "customers 2026-01-02" not in second.builds
        await second.stop()

    run(test)


@since_airflow_3
def test_an_asset_that_no_webhook_has_reached_gets_the_event(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a", "b")
        watcher = Watcher(states)
        await polls(sandbox)
        announce_by_webhook(states, "a", day=2)
        rebuild(sandbox, CUSTOMERS, 2)
        await until(lambda: watcher.events)
        announce_by_webhook(states, "a", day=3)
        announce_by_webhook(states, "b", day=4)
        rebuild(sandbox, CUSTOMERS, 3)
        await polls(sandbox, 3)
        assert watcher.builds == ["customers 2026-01-02"]
        await watcher.stop()

    run(test)


@since_airflow_3
def test_a_build_is_announced_if_nobody_knows_whether_a_webhook_did(sandbox: Sandbox) -> None:
    async def test() -> None:
        states = States("a")
        watcher = Watcher(states)
        await polls(sandbox)
        announce_by_webhook(states, "a", day=2)
        states.down = True
        rebuild(sandbox, CUSTOMERS, 2)
        await until(lambda: watcher.events)
        states.down = False
        # What is not valid counts as nothing.
        states.values["a"]["airflow-provider-faraday.webhook"] = ["?"]
        rebuild(sandbox, CUSTOMERS, 3)
        await polls(sandbox, 3)
        assert watcher.builds == ["customers 2026-01-02", "customers 2026-01-03"]
        await watcher.stop()

    run(test)
