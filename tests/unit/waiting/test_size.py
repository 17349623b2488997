"""Limits on the size of messages, events and stored arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

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
from raw_server import answer
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import MODES, deferral_of, event_of, outcome

Serve = Callable[[Account], Account]

SCOPE = id_of(5)
WHY = "The table is gone. " * 15
FAILED = {"status": "error", "status_error": WHY}
ARCHIVED = {"archived_at": "2026-01-01T00:00:00Z"}
BOTH = pytest.mark.parametrize("mode", ["poke", "deferrable"])


def check(*texts: str, most: int = 10) -> None:
    """Check that texts are short, and name at most ten resources of each type."""
    for text in texts:
        assert len(text) < 20_000
        for kind, prefix in (("Target", "00000007"), ("Dataset", "0000000d")):
            assert len(set(re.findall(rf"{kind} \d{{4}}", text))) <= most, text[:1000]
            assert len(set(re.findall(rf"{prefix}-[-0-9a-f]+", text))) <= most, text[:1000]


def datasets(number: int, **fields: Any) -> list[dict[str, Any]]:
    return [node(id_of(13, n), "datasets", f"Dataset {n:04}", **fields) for n in range(number)]


def targets(number: int, **fields: Any) -> list[dict[str, Any]]:
    return [node(id_of(7, n), "targets", f"Target {n:04}", **fields) for n in range(number)]


def account_of(upstream: list[dict[str, Any]], delivered: list[dict[str, Any]]) -> Account:
    """Return an account in which all targets are built from one scope, and that from all datasets."""
    scope = node(SCOPE, "scopes", "All")
    links = [*((each, scope) for each in upstream), *((scope, each) for each in delivered)]
    return Account(*upstream, scope, *delivered, links=links)


def gate(**arguments: Any) -> Callable[..., TargetsReadySensor]:
    fields = {"scope_id": SCOPE, "include_upstream": True, "poke_interval": 0.05, "timeout": 60}
    return partial(TargetsReadySensor, task_id="gate", **{**fields, **arguments})


@BOTH
def test_many_failed_datasets_upstream_of_many_targets(serve: Serve, task_log: list[str], mode: str) -> None:
    upstream, delivered = datasets(15), targets(300, status="running")
    account = serve(account_of(upstream, delivered))
    account.script = [lambda: [each.update(FAILED) for each in upstream]]
    with pytest.raises(ResourcesFailedError, match="Dataset 0000") as caught:
        outcome(gate(), mode)
    check(str(caught.value), *task_log)
    for each in upstream:
        each["status"] = "ready"
    trigger = deferral_of(gate(deferrable=True)()).trigger
    for each in upstream:
        each["status"] = "error"
    event = event_of(trigger)
    assert event["kind"] == "failed"
    check(json.dumps(event))


@BOTH
def test_many_targets_that_wait_for_many_failed_datasets(
    serve: Serve, task_log: list[str], mode: str
) -> None:
    upstream = datasets(15, **FAILED)
    account = serve(account_of(upstream, targets(300)))
    account.script = [str, lambda: [each.update(status="ready") for each in upstream]]
    assert len(outcome(gate(fail_on_error=False, fields=["id"]), mode)) == 300
    check(*task_log)


@BOTH
def test_many_unchanged_targets(serve: Serve, task_log: list[str], mode: str) -> None:
    serve(account_of(datasets(2), targets(300)))
    unchanged = gate(updated_after="2026-01-02T12:00:00Z", unchanged_after=60, fields=["id"])
    assert all(each["unchanged"] for each in outcome(unchanged, mode))
    check(*task_log)


@BOTH
@pytest.mark.parametrize(
    ("fields", "error"),
    [(FAILED, ResourcesFailedError), (ARCHIVED, NothingToWaitForError), (None, FaradayNotFoundError)],
)
def test_many_targets_that_fail_or_are_archived_or_deleted(
    serve: Serve, task_log: list[str], fields: dict[str, Any] | None, error: type[Exception], mode: str
) -> None:
    delivered = targets(90, status="running")
    ids = [each["id"] for each in delivered]
    account = serve(account_of([], delivered))

    def end() -> None:
        for each in delivered:
            each.update(fields or {})
        if fields is None:
            account.resources.clear()

    account.script = [end]
    with pytest.raises(error) as caught:
        outcome(gate(scope_id=None, targets=ids, include_upstream=False), mode)
    check(str(caught.value), *task_log)


def force_update(some: list[dict[str, Any]]) -> ForceUpdateDatasetsOperator:
    ids = [each["id"] for each in some]
    return ForceUpdateDatasetsOperator(task_id="force_update", datasets=ids, allow_empty=True)


@pytest.mark.parametrize("fields", [{"status": "ready"}, ARCHIVED])
def test_a_forced_update_of_many_datasets(serve: Serve, task_log: list[str], fields: dict[str, Any]) -> None:
    some = datasets(50, **fields)
    serve(Account(*some, waited="datasets"))
    force_update(some).execute({})
    check(*task_log)


def test_a_rejected_update_of_many_datasets(serve: Serve) -> None:
    some = datasets(50)
    account = serve(Account(*some, waited="datasets"))
    rejected = answer(409, {"error": "CONFLICT", "note": WHY})
    account.steps = {f"/datasets/{each['id']}/force_update": rejected for each in some[1:]}
    with pytest.raises(FaradayApiError, match="1 of 50 datasets") as caught:
        force_update(some).execute({})
    check(str(caught.value), most=11)


REQUESTED = datetime(2026, 1, 2, tzinfo=UTC)
THOUSAND = {id_of(13, n): (REQUESTED + timedelta(seconds=n)).isoformat() for n in range(1000)}


def stored_times(operator: Any) -> dict[str, datetime]:
    """Return the times by id that Airflow stores of a deferred task."""
    deferral = deferral_of(operator)
    _, arguments = deferral.trigger.serialize()
    assert len(json.dumps([arguments, deferral.kwargs])) < 3_000
    times = dict(arguments["criteria"]["updated_after"])
    return {id_: datetime.fromisoformat(time) for id_, time in times.items()}


@pytest.mark.parametrize("mode", MODES)
def test_each_of_many_mapped_sensors_waits_for_its_own_time(serve: Serve, mode: str) -> None:
    dataset = datasets(8)[7]
    account = serve(Account(dataset, waited="datasets"))
    built = THOUSAND[dataset["id"]]
    account.script = [str, lambda: dataset.update(last_updated_output_at=built, last_read_input_at=built)]
    arguments = {"updated_after": THOUSAND, "poke_interval": 0.02}
    mapped = partial(DatasetsReadySensor, task_id="gate", datasets=dataset["id"], **arguments)
    if mode == "deferrable":
        assert stored_times(mapped(deferrable=True)) == {dataset["id"]: datetime.fromisoformat(built)}
    (returned,) = outcome(mapped, mode)
    assert returned["last_updated_output_at"] == built
    account.resources = [node(id_of(13, 1500), "datasets")]
    with pytest.raises(FaradayInputError, match=id_of(13, 1500)):
        outcome(partial(mapped, datasets=id_of(13, 1500)), mode)


def test_a_wait_with_upstream_also_stores_the_times_upstream(serve: Serve) -> None:
    account = account_of(datasets(3), targets(1, status="running"))
    account.links += [(each, node(id_of(7, 900), "targets")) for each in datasets(200)[3:]]
    serve(account)
    sensor = gate(scope_id=None, targets=[id_of(7, 0)], updated_after=THOUSAND, deferrable=True)()
    assert stored_times(sensor) == {id_of(13, n): REQUESTED + timedelta(seconds=n) for n in range(3)}
