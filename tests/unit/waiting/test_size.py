"""Limits on the size of messages, events and stored arguments."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from airflow_provider_faraday.api.readiness import Verdict
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayInputError,
    FaradayNotFoundError,
    NothingToWaitForError,
    ResourcesFailedError,
)
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from airflow_provider_faraday.waiting import feed
from raw_server import answer
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import MODES, deferral_of, event_of, outcome
from support.triggers import run, triggerer, until, waiting_for

Serve = Callable[[Account], Account]

SCOPE = id_of(5)
WHY = "The table is gone. " * 15
MOST_BYTES = 20_000


def check(text: str, *, most: int = 10) -> None:
    """Check that a text names at most ten resources of each type, by name or id, and is short."""
    assert len(text) < MOST_BYTES
    for kind, prefix in (("Target", "00000007"), ("Dataset", "0000000d")):
        assert len(set(re.findall(rf"{kind} \d{{4}}", text))) <= most, text[:1000]
        assert len(set(re.findall(rf"{prefix}-[-0-9a-f]+", text))) <= most, text[:1000]


def datasets(number: int, **fields: Any) -> list[dict[str, Any]]:
    return [node(id_of(13, n), "datasets", f"Dataset {n:04}", **fields) for n in range(number)]


def targets(number: int, **fields: Any) -> list[dict[str, Any]]:
    return [node(id_of(7, n), "targets", f"Target {n:04}", **fields) for n in range(number)]


def account_of(upstream: list[dict[str, Any]], delivered: list[dict[str, Any]], **fields: Any) -> Account:
    """Return an account in which all targets are built from one scope, and that from all datasets."""
    scope = node(SCOPE, "scopes", "All")
    links = [*((each, scope) for each in upstream), *((scope, each) for each in delivered)]
    return Account(*upstream, scope, *delivered, links=links, **fields)


def gate(**arguments: Any) -> Callable[..., TargetsReadySensor]:
    fields = {"scope_id": SCOPE, "include_upstream": True, "poke_interval": 0.05, "timeout": 10}
    return partial(TargetsReadySensor, task_id="gate", **{**fields, **arguments})


FAILED = {"status": "error", "status_error": WHY}


@pytest.mark.parametrize("mode", MODES)
def test_ten_failed_datasets_upstream_of_many_targets_make_a_short_exception(
    serve: Serve, task_log: list[str], mode: str
) -> None:
    serve(account_of(datasets(10, **FAILED), targets(300)))
    with pytest.raises(ResourcesFailedError, match="Dataset 0000") as caught:
        outcome(gate(), mode)
    for text in (str(caught.value), *task_log):
        check(text)


def test_ten_failed_datasets_upstream_of_many_targets_make_a_short_event(
    serve: Serve, task_log: list[str]
) -> None:
    upstream = datasets(10)
    serve(account_of(upstream, targets(300, status="running")))
    trigger = deferral_of(gate(deferrable=True)()).trigger
    for each in upstream:
        each.update(FAILED)
    event = event_of(trigger)
    assert event["kind"] == "failed"
    for text in (json.dumps(event), *task_log):
        check(text)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_many_targets_that_wait_for_upstream_datasets_make_short_lines(
    serve: Serve, task_log: list[str], mode: str
) -> None:
    upstream = datasets(15, **FAILED)
    account = serve(account_of(upstream, targets(300)))
    account.script = [str, lambda: [each.update(status="ready") for each in upstream]]
    assert len(outcome(gate(fail_on_error=False, fields=["id"]), mode)) == 300
    for line in task_log:
        check(line)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_many_unchanged_targets_make_short_lines(serve: Serve, task_log: list[str], mode: str) -> None:
    serve(account_of(datasets(2), targets(300)))
    unchanged = gate(updated_after="2026-01-02T12:00:00Z", unchanged_after=60, fields=["id"])
    assert all(each["unchanged"] for each in outcome(unchanged, mode))
    for line in task_log:
        check(line)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
@pytest.mark.parametrize(
    ("fields", "error"),
    [(FAILED, ResourcesFailedError), ({"archived_at": "2026-01-01T00:00:00Z"}, NothingToWaitForError)],
)
def test_many_targets_that_fail_or_are_archived_make_a_short_exception(
    serve: Serve, task_log: list[str], fields: dict[str, Any], error: type[Exception], mode: str
) -> None:
    all_of_them = targets(300, status="running")
    account = serve(account_of([], all_of_them))
    account.script = [lambda: [each.update(fields) for each in all_of_them]]
    with pytest.raises(error) as caught:
        outcome(gate(include_upstream=False), mode)
    for text in (str(caught.value), *task_log):
        check(text)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_many_missing_ids_make_a_short_exception(serve: Serve, task_log: list[str], mode: str) -> None:
    all_of_them = targets(300, status="running")
    account = serve(account_of([], all_of_them))
    ids = [each["id"] for each in all_of_them]
    account.script = [str, str, account.resources.clear]
    with pytest.raises(FaradayNotFoundError) as caught:
        outcome(gate(scope_id=None, targets=ids, include_upstream=False), mode)
    for text in (str(caught.value), *task_log):
        check(text)


def force_update(all_of_them: list[dict[str, Any]], **arguments: Any) -> ForceUpdateDatasetsOperator:
    ids = [each["id"] for each in all_of_them]
    return ForceUpdateDatasetsOperator(task_id="force_update", datasets=ids, **arguments)


@pytest.mark.parametrize(
    "fields", [{"status": "ready"}, {"status": "running"}, {"archived_at": "2026-01-01T00:00:00Z"}]
)
def test_a_force_update_of_many_datasets_logs_short_lines(
    serve: Serve, task_log: list[str], fields: dict[str, Any]
) -> None:
    some = datasets(150, **fields)
    serve(Account(*some, waited="datasets"))
    force_update(some, allow_empty=True).execute({})
    for line in task_log:
        check(line)


def test_a_force_update_of_many_datasets_that_is_rejected_makes_a_short_exception(serve: Serve) -> None:
    some = datasets(150)
    account = serve(Account(*some, waited="datasets"))
    refused = answer(409, {"error": "CONFLICT", "note": WHY})
    account.steps = {f"/datasets/{each['id']}/force_update": refused for each in some[1:]}
    with pytest.raises(FaradayApiError, match="1 of 150 datasets") as caught:
        force_update(some).execute({})
    check(str(caught.value), most=11)


REQUESTED = datetime(2026, 1, 2, tzinfo=UTC)
THOUSAND = {id_of(13, n): (REQUESTED + timedelta(seconds=n)).isoformat() for n in range(1000)}


def stored(operator: Any) -> tuple[str, dict[str, datetime]]:
    """Return what Airflow stores of a deferred task, and the times in the arguments of its trigger."""
    deferral = deferral_of(operator)
    _, arguments = deferral.trigger.serialize()
    times = dict(arguments["criteria"]["updated_after"])
    return json.dumps([arguments, deferral.kwargs]), {
        id_: datetime.fromisoformat(time) for id_, time in times.items()
    }


def mapped(number: int, **mode: Any) -> DatasetsReadySensor:
    """Return one of a thousand mapped sensors, each of which gets all times."""
    arguments = {"poke_interval": 0.02, "timeout": 10, **mode}
    return DatasetsReadySensor(
        task_id="gate", datasets=id_of(13, number), updated_after=THOUSAND, **arguments
    )


def test_a_wait_by_id_stores_the_times_of_its_own_ids_only(serve: Serve) -> None:
    serve(Account(*datasets(20, status="running"), waited="datasets"))
    text, times = stored(mapped(7, deferrable=True))
    assert times == {id_of(13, 7): REQUESTED + timedelta(seconds=7)}
    assert len(text) < 2_000


@pytest.mark.parametrize("mode", MODES)
def test_each_of_many_mapped_sensors_waits_for_its_own_time(serve: Serve, mode: str) -> None:
    (dataset,) = (each for each in datasets(8) if each["id"] == id_of(13, 7))
    account = serve(Account(dataset, waited="datasets"))
    built = (REQUESTED + timedelta(seconds=7)).isoformat()
    new = {"last_updated_output_at": built, "last_read_input_at": built}
    account.script = [str, lambda: dataset.update(new)]
    (returned,) = outcome(partial(mapped, 7), mode)
    assert returned["last_updated_output_at"] == built
    assert account.polls >= 3


def test_an_id_without_a_time_is_an_error(serve: Serve) -> None:
    serve(Account(*datasets(2000, status="running"), waited="datasets"))
    with pytest.raises(FaradayInputError, match=id_of(13, 1500)):
        mapped(1500, deferrable=True).execute({"task_reschedule_count": 0})


def test_a_wait_with_upstream_also_stores_the_times_upstream(serve: Serve) -> None:
    upstream = datasets(3)
    account = account_of(upstream, targets(1, status="running"))
    others = datasets(200)[3:]
    account.links += [(each, node(id_of(7, 900), "targets")) for each in others]
    serve(account)
    sensor = gate(scope_id=None, targets=[id_of(7, 0)], updated_after=THOUSAND, deferrable=True)()
    text, times = stored(sensor)
    assert times == {id_of(13, n): REQUESTED + timedelta(seconds=n) for n in range(3)}
    assert len(text) < 3_000


def test_waits_with_unlike_criteria_keep_no_verdicts_between_polls(serve: Serve) -> None:
    """Thousands of verdicts would keep Python's garbage collector, and so the event loop, busy."""
    account = serve(Account(*datasets(20, status="running"), waited="datasets"))

    async def test() -> None:
        async with triggerer() as waiting:
            for number in range(50):
                after = (REQUESTED + timedelta(seconds=number)).isoformat()
                criteria, of = {"updated_after": after}, {"resource_type": "datasets", "scope_id": SCOPE}
                waiting.start(waiting_for(criteria=criteria, **of))
            await until(lambda: account.polls >= 3)
            gc.collect()
            assert sum(type(thing) is Verdict for thing in gc.get_objects()) <= feed.VERDICTS

    run(test)
