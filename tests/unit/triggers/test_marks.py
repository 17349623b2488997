"""Announced builds: recorded in the state of assets, so that each build is announced at least once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_faraday.waiting import marks
from support.accounts import Account
from support.ids import CUSTOMERS, ORDERS, WAREHOUSE
from support.run_dag import AIRFLOW_3
from support.triggers import States, Waiting, Watcher, polled, until

Build = Callable[..., None]

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("short_confirmation"),
    pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers"),
]

BY_ID: dict[str, Any] = {"scope_id": None, "datasets": [CUSTOMERS, ORDERS]}
FIRST, SECOND, THIRD = (f"2026-01-0{day}" for day in range(1, 4))


@pytest.fixture
def short_confirmation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "CONFIRM_SECONDS", 0.05)
    monkeypatch.setattr(marks, "RETRY_SECONDS", 0.02)


def is_recorded(states: States, date: str, asset: str = "a", id_: str = CUSTOMERS) -> Callable[[], bool]:
    return lambda: states.builds(asset).get(id_) == date


@pytest.fixture
def states() -> States:
    return States("a")


@pytest.fixture
async def watcher(build: Build, waiting: Waiting, states: States) -> Watcher:
    """Return a watcher that has recorded the current builds."""
    watcher = waiting.watch(states)
    await until(is_recorded(states, FIRST))
    return watcher


async def test_builds_are_recorded_in_each_asset_and_later_builds_announced_after_a_restart(
    build: Build, waiting: Waiting
) -> None:
    states = States("a", "b")
    first = waiting.watch(states)
    await until(is_recorded(states, FIRST))
    build(CUSTOMERS, 2)
    await until(is_recorded(states, SECOND, "b"))
    await first.stop()
    build(ORDERS, 3)
    # One of the assets is gone, and another is new.
    later = States("b", "c")
    later.values["b"] = states.values["b"]
    second = waiting.watch(later)
    await until(is_recorded(later, THIRD, "c", ORDERS))
    assert first.builds == [("customers", SECOND)]
    assert second.builds == [("orders", THIRD)]


async def test_without_stored_state_a_restart_begins_with_the_current_builds(
    account: Account, build: Build, waiting: Waiting
) -> None:
    first = waiting.watch()
    await polled(account)
    await first.stop()
    build(CUSTOMERS, 2)
    second = waiting.watch()
    await polled(account)
    build(ORDERS, 3)
    await until(lambda: second.builds)
    assert second.builds == [("orders", THIRD)]


async def test_a_build_is_announced_again_if_the_triggerer_stops_before_airflow_stores_the_event(
    build: Build, waiting: Waiting, states: States, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "CONFIRM_SECONDS", 3600)
    build(CUSTOMERS, 2)
    await until(lambda: states.calls == ["get", "set", "get"])
    await watcher.stop()
    second = waiting.watch(states)
    await until(lambda: second.events)
    assert watcher.builds == second.builds == [("customers", SECOND)]


async def test_a_build_is_recorded_after_two_responses_of_the_state_store(
    account: Account, build: Build, states: States, watcher: Watcher, task_log: list[str]
) -> None:
    await polled(account, 3)
    assert states.calls == ["get", "set"], "an unchanged poll was recorded"
    states.is_down = True
    build(CUSTOMERS, 2)
    await until(lambda: states.calls.count("failed") >= 3)
    assert watcher.builds == [("customers", SECOND)]
    states.is_down = False
    await until(lambda: states.calls[-1] == "get")
    states.is_down = True
    await until(lambda: states.calls[-1] == "failed")
    # Polls need not succeed meanwhile.
    account.server.__exit__(None, None, None)
    states.is_down = False
    await until(is_recorded(states, SECOND))
    assert states.calls[-4:] == ["failed", "get", "get", "set"]
    assert sum("state of asset 'a' cannot be read or written" in line for line in task_log) == 1


async def test_a_build_is_not_recorded_before_the_event_loop_has_turned_for_each_trigger(
    build: Build, states: States, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two deliveries of events, the triggerer lets the event loop turn for each of its triggers."""
    monkeypatch.setattr(marks, "CONFIRM_SECONDS", 0.0)
    triggers = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(200)]
    build(CUSTOMERS, 2)
    turns = 0
    while not is_recorded(states, SECOND)():
        await asyncio.sleep(0)
        turns += len(watcher.events)
    assert turns >= 2 * len(triggers)
    for trigger in triggers:
        trigger.cancel()


async def test_a_build_that_is_announced_during_a_write_is_recorded(
    account: Account, build: Build, waiting: Waiting, states: States
) -> None:
    states.may_write.clear()
    watcher = waiting.watch(states)
    await polled(account)
    build(CUSTOMERS, 2)
    await until(lambda: watcher.events)
    states.may_write.set()
    await until(is_recorded(states, SECOND))


async def test_a_watcher_that_joins_others_is_polled_without_waiting_for_their_interval(
    account: Account, build: Build, waiting: Waiting
) -> None:
    first, second = (
        {"scope_id": None, "datasets": [id_], "poke_interval": 3600} for id_ in (CUSTOMERS, ORDERS)
    )
    waiting.watch(**first)
    await until(lambda: account.polls)
    joined = waiting.watch(emit_initial=True, **second)
    await until(lambda: joined.builds == [("orders", FIRST)])
    assert account.polls == 2


async def test_a_state_that_cannot_be_read_is_read_again_before_the_first_poll(
    build: Build, waiting: Waiting, states: States, watcher: Watcher
) -> None:
    await watcher.stop()
    build(CUSTOMERS, 2)
    states.is_down = True
    second = waiting.watch(states)
    await until(lambda: states.calls.count("failed") >= 2)
    states.is_down = False
    await until(lambda: second.builds == [("customers", SECOND)])


async def test_an_invalid_state_is_ignored(
    build: Build, waiting: Waiting, states: States, watcher: Watcher, task_log: list[str]
) -> None:
    await watcher.stop()
    states.calls.clear()
    (key,) = states.values["a"]
    states.values["a"] = {key: {CUSTOMERS: {"built": 5, "failed": None}}}
    second = waiting.watch(states)
    await until(lambda: "set" in states.calls)
    build(CUSTOMERS, 2)
    await until(lambda: second.builds == [("customers", SECOND)])
    assert any("of asset 'a' is not valid" in line for line in task_log)


async def test_several_watchers_of_an_asset_have_records_of_their_own(
    build: Build, waiting: Waiting, states: States
) -> None:
    watched: list[dict[str, Any]] = [{}, BY_ID, {"on_error": True}, {"scope_id": None, "datasets": [ORDERS]}]
    for arguments in watched:
        watcher = waiting.watch(states, **arguments)
        keys = len(states.values["a"])
        await until(lambda keys=keys: len(states.values["a"]) > keys)
        await watcher.stop()
    build(CUSTOMERS, 2)
    build(ORDERS, 3)
    *both, by_id = [waiting.watch(states, **arguments) for arguments in watched]
    await until(lambda: by_id.events and all(len(each.events) == 2 for each in both))
    assert by_id.builds == [("orders", THIRD)]


async def test_an_asset_whose_state_cannot_be_written_does_not_affect_the_others(
    account: Account, build: Build, waiting: Waiting, task_log: list[str]
) -> None:
    states = States("a", "b")
    states.read_only.add("a")
    watcher = waiting.watch(states)
    for day, date in ((2, SECOND), (3, THIRD)):
        await polled(account)
        build(CUSTOMERS, day)
        await until(is_recorded(states, date, "b"))
    assert watcher.builds == [("customers", SECOND), ("customers", THIRD)]
    assert not states.values["a"]
    assert any("state of asset 'a'" in line for line in task_log)


async def test_deleted_resources_of_a_list_are_dropped_from_the_record(
    account: Account, build: Build, waiting: Waiting, states: States
) -> None:
    watcher = waiting.watch(states, scope_id=None, connection_id=WAREHOUSE)
    await until(is_recorded(states, FIRST, id_=ORDERS))
    assert account.resources.pop()["id"] == ORDERS
    await until(lambda: states.builds("a").keys() == {CUSTOMERS})
    # It is still known in this process.
    build(ORDERS, 2)
    await until(lambda: watcher.builds == [("orders", SECOND)])


async def test_a_watcher_by_id_keeps_the_records_of_datasets_that_are_not_returned(
    account: Account, build: Build, waiting: Waiting, states: States
) -> None:
    """A key of another account returns other datasets."""
    first = waiting.watch(states, **BY_ID)
    await until(is_recorded(states, FIRST))
    await first.stop()
    account.resources = [each for each in account.resources if each["id"] == ORDERS]
    second = waiting.watch(states, **BY_ID)
    await polled(account, 2)
    await second.stop()
    build(CUSTOMERS, 2)
    third = waiting.watch(states, **BY_ID)
    await until(lambda: third.builds == [("customers", SECOND)])


def announce_by_webhook(states: States, asset: str, day: int) -> None:
    """Record an announced build of a webhook, as the plugin does in Airflow's API server."""
    mark = {"built": f"2026-01-{day:02}T00:00:00.000Z", "failed": None}
    states.values[asset]["airflow-provider-faraday.webhook"] = {CUSTOMERS: mark}


async def test_a_build_that_a_webhook_has_announced_is_not_announced_again(
    account: Account, build: Build, waiting: Waiting, states: States
) -> None:
    first = waiting.watch(states, on_error=True)
    await until(is_recorded(states, FIRST))
    announce_by_webhook(states, "a", day=2)
    build(CUSTOMERS, 2)
    build(ORDERS, 2)
    await until(is_recorded(states, SECOND))
    build(CUSTOMERS, 3)
    await until(is_recorded(states, THIRD))
    build(CUSTOMERS, 3, status="error")
    await until(lambda: len(first.events) == 3)
    assert first.builds == [("orders", SECOND), ("customers", THIRD), ("customers", THIRD)]
    await first.stop()
    second = waiting.watch(states, on_error=True)
    await polled(account, 2)
    assert ("customers", SECOND) not in second.builds


async def test_a_build_that_a_webhook_has_not_announced_to_all_assets_is_announced(
    account: Account, build: Build, waiting: Waiting
) -> None:
    states = States("a", "b")
    watcher = waiting.watch(states)
    await until(is_recorded(states, FIRST, "b"))
    announce_by_webhook(states, "a", day=2)
    build(CUSTOMERS, 2)
    await until(lambda: watcher.builds == [("customers", SECOND)])
    announce_by_webhook(states, "a", day=3)
    announce_by_webhook(states, "b", day=4)
    build(CUSTOMERS, 3)
    await polled(account, 2)
    assert len(watcher.events) == 1


async def test_a_build_is_announced_if_announcements_of_webhooks_cannot_be_read(
    build: Build, states: States, watcher: Watcher
) -> None:
    announce_by_webhook(states, "a", day=2)
    states.is_down = True
    build(CUSTOMERS, 2)
    await until(lambda: watcher.builds == [("customers", SECOND)])
