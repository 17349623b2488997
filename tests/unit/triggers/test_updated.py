"""Watchers: an event for each build. Failures never end a watch."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException

from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger
from airflow_provider_faraday.waiting import watch
from raw_server import answer
from support.accounts import Account
from support.ids import CUSTOMERS, ORDERS, SCOPE, UNKNOWN
from support.run_dag import AIRFLOW_3
from support.triggers import States, Waiting, polled, until, waiting_for

Build = Callable[..., None]

since_airflow_3 = pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers")
LIST = f"/scopes/{SCOPE}/datasets"


@since_airflow_3
@pytest.mark.anyio
@pytest.mark.parametrize(
    "watched", [{}, {"scope_id": None, "datasets": [ORDERS.upper(), CUSTOMERS]}], ids=["scope", "ids"]
)
async def test_watchers_and_deferred_tasks_share_each_poll(
    account: Account, build: Build, waiting: Waiting, watched: dict[str, Any]
) -> None:
    build(ORDERS, 1, status="running")
    watchers = [waiting.watch(**watched, emit_initial=True) for _ in range(20)]
    source: dict[str, Any] = {"resource_ids": [ORDERS]} if watched else {"scope_id": SCOPE}
    task = waiting.start(waiting_for(resource_type="datasets", poke_interval=0.03, **source))
    await until(lambda: all(watcher.events for watcher in watchers))
    assert sum(task.get_name().startswith("faraday feed") for task in asyncio.all_tasks()) == 1
    assert account.server.connections == 1
    build(ORDERS, 2)
    await until(lambda: task.done() and all(("orders", "2026-01-02") in each.builds for each in watchers))


@since_airflow_3
@pytest.mark.anyio
@pytest.mark.parametrize(("status", "least"), [(401, 1), (503, 3)])
async def test_a_watcher_backs_off_from_a_failing_api_and_misses_no_build(
    account: Account, build: Build, waiting: Waiting, task_log: list[str], status: int, least: int
) -> None:
    states = States("asset")
    watcher = waiting.watch(states)
    await polled(account)
    account.steps[LIST] = answer(status)
    failing_from = len(account.server.received)
    build(CUSTOMERS, 2)
    await until(lambda: states.problem)
    # A transient failure is reported after the third one.
    assert sum("Poll for updates failed" in line and f" {status} " in line for line in task_log) >= least
    await until(lambda: len(account.server.received) >= failing_from + 5)
    account.steps.clear()
    await until(lambda: watcher.builds == [("customers", "2026-01-02")])
    times = [request.at for request in account.server.received[failing_from:]]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert all(pause >= factor * 0.03 for pause, factor in zip(pauses, (1, 1, 3, 7), strict=False))


def test_pauses_grow_to_a_quarter_of_an_hour() -> None:
    pauses = [watch._pause_after(failures, 60) for failures in (1, 2, 3, 4, 5, 6, 2000)]
    assert pauses == [0, 60, 180, 420, 900, 900, 900]
    assert watch._pause_after(9, 3600) == 3600


@since_airflow_3
@pytest.mark.anyio
async def test_a_missing_dataset_is_logged_once_and_shown_in_the_state_of_the_asset(
    account: Account, build: Build, waiting: Waiting, task_log: list[str]
) -> None:
    states = States("asset")
    waiting.watch(states, scope_id=None, datasets=[CUSTOMERS, UNKNOWN])
    await until(lambda: UNKNOWN in states.problem)
    await polled(account, 3)
    assert sum(f"{UNKNOWN} is watched, but Faraday does not return it" in line for line in task_log) == 1


@since_airflow_3
@pytest.mark.anyio
async def test_a_problem_is_shown_with_its_beginning_until_it_is_solved(
    account: Account, build: Build, waiting: Waiting
) -> None:
    states = States("asset")
    first = waiting.watch(states)
    await polled(account)
    assert not states.problem
    account.steps[LIST] = answer(403, {"error": "FORBIDDEN", "note": "no access for the-key"})
    await until(lambda: "403 FORBIDDEN" in states.problem)
    assert "the-key" not in states.problem
    since, _, _ = states.problem.partition("Z:")
    now = datetime.now(UTC).replace(microsecond=0)
    await until(lambda: datetime.now(UTC).replace(microsecond=0) > now)
    account.steps[LIST] = answer(404)
    await until(lambda: " 404 " in states.problem)
    assert states.problem.startswith(f"{since}Z:")
    # Another process solves it.
    await first.stop()
    account.steps.clear()
    waiting.watch(states)
    await until(lambda: not states.problem)


@since_airflow_3
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"datasets": []},
        {"scope_id": SCOPE, "poke_interval": 0},
        {"scope_id": SCOPE, "poke_interval": math.inf},
    ],
)
def test_invalid_arguments_are_rejected_when_the_dag_file_is_parsed(arguments: dict[str, Any]) -> None:
    with pytest.raises(FaradayInputError):
        DatasetUpdatedTrigger(**arguments)


@pytest.mark.skipif(AIRFLOW_3, reason="about Airflow 2")
def test_watchers_are_rejected_on_airflow_2() -> None:
    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"requires Airflow 3\.0 or later"):
        DatasetUpdatedTrigger(scope_id=SCOPE)
