"""Waits with ``updated_after``: old errors, and builds that read their input too early."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from airflow_provider_faraday.exceptions import DatasetsFailedError
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import MODES, outcome

Serve = Callable[[Account], Account]
Fields = dict[str, Any]

BOTH = pytest.mark.parametrize("mode", ["poke", "deferrable"])
DATASET, TARGET = id_of(13), id_of(7)
REQUESTED = datetime(2026, 1, 3, 1, tzinfo=UTC)
READ_EARLY = REQUESTED - timedelta(minutes=1)
DATASET_BUILT = REQUESTED + timedelta(minutes=5)
TARGET_BUILT = REQUESTED + timedelta(minutes=6)
LATER = REQUESTED + timedelta(minutes=8)
LIMIT = timedelta(minutes=10)
SOON = timedelta(seconds=1.5)
"""The rest of the ten minutes when a test starts. The ``Date`` header has whole seconds."""


def at(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def dataset(**fields: Any) -> Fields:
    times = {"last_read_input_at": at(REQUESTED), "last_updated_output_at": at(DATASET_BUILT)}
    return node(DATASET, "datasets", "Orders", **{**times, **fields})


def target(**fields: Any) -> Fields:
    times = {"last_read_input_at": at(READ_EARLY), "last_updated_output_at": at(TARGET_BUILT)}
    return node(TARGET, "targets", "Buyers table", **{**times, **fields})


def delivery(delivered: Fields, **clock: Any) -> Account:
    """Return an account with a target that is built from a forcibly updated dataset."""
    orders = dataset()
    return Account(orders, delivered, links=[(orders, delivered)], **clock)


ARGUMENTS: Any = {"task_id": "gate", "poke_interval": 0.05, "timeout": 60}
SINCE = {**ARGUMENTS, "updated_after": {DATASET: at(REQUESTED)}}
delivered_sensor = partial(TargetsReadySensor, targets=[TARGET], include_upstream=True, **SINCE)
dataset_sensor = partial(DatasetsReadySensor, datasets=[DATASET], **SINCE)
force_update = partial(ForceUpdateDatasetsOperator, datasets=[DATASET], wait_for_completion=True, **ARGUMENTS)


def mentions_input(lines: list[str], *words: str) -> bool:
    return any("input" in line and all(word in line for word in words) for line in lines)


@pytest.mark.parametrize("mode", MODES)
def test_a_target_that_read_its_input_too_early_is_waited_for(
    serve: Serve, task_log: list[str], mode: str
) -> None:
    delivered = target()
    account = serve(delivery(delivered, began_at=TARGET_BUILT + timedelta(seconds=5)))
    built = {"status": "ready", "last_read_input_at": at(DATASET_BUILT), "last_updated_output_at": at(LATER)}
    account.script = [str, lambda: delivered.update(status="running"), lambda: delivered.update(built)]
    (returned,) = outcome(delivered_sensor, mode)
    assert returned["last_updated_output_at"] == at(LATER)
    assert account.polls >= 4
    assert mentions_input(task_log, "Buyers table")


@BOTH
@pytest.mark.parametrize("waited", ["target", "dataset"])
def test_ten_minutes_after_a_build_its_time_decides(
    serve: Serve, task_log: list[str], waited: str, mode: str
) -> None:
    if waited == "target":
        account = delivery(target(), began_at=TARGET_BUILT + LIMIT - SOON)
    else:
        early = dataset(last_read_input_at=at(READ_EARLY))
        account = Account(early, waited="datasets", began_at=DATASET_BUILT + LIMIT - SOON)
    serve(account)
    assert outcome(delivered_sensor if waited == "target" else dataset_sensor, mode)
    assert account.now >= (TARGET_BUILT if waited == "target" else DATASET_BUILT) + LIMIT
    assert mentions_input(task_log, f"1 of 1 {waited}s ready")


@pytest.mark.parametrize("read", [None, "missing", at(DATASET_BUILT)])
def test_a_target_that_read_its_input_in_time_or_at_an_unknown_time_is_ready(
    serve: Serve, read: str | None
) -> None:
    delivered = target(last_read_input_at=read)
    if read == "missing":
        del delivered["last_read_input_at"]
    account = serve(delivery(delivered, began_at=TARGET_BUILT))
    assert outcome(delivered_sensor, "poke")
    assert account.polls == 1


@BOTH
def test_a_dataset_upstream_that_read_its_input_before_the_request_is_waited_for(
    serve: Serve, mode: str
) -> None:
    delivered = target(last_read_input_at=at(DATASET_BUILT))
    account = serve(delivery(delivered, began_at=TARGET_BUILT))
    orders = account.resources[0]
    orders["last_read_input_at"] = at(READ_EARLY)
    again = at(REQUESTED + timedelta(minutes=7))
    account.script = [
        str,
        lambda: orders.update(last_read_input_at=at(TARGET_BUILT), last_updated_output_at=again),
        lambda: delivered.update(last_read_input_at=again, last_updated_output_at=at(LATER)),
    ]
    (returned,) = outcome(delivered_sensor, mode)
    assert returned["last_updated_output_at"] == at(LATER)


def test_without_a_date_header_our_clock_decides(serve: Serve) -> None:
    built = datetime.now(UTC) - LIMIT + SOON
    early = dataset(last_read_input_at=at(READ_EARLY), last_updated_output_at=at(built))
    serve(Account(early, waited="datasets", began_at=None))
    assert outcome(dataset_sensor, "poke")
    assert datetime.now(UTC) >= built + LIMIT


@BOTH
def test_a_forced_update_waits_for_a_build_that_read_its_input_after_the_request(
    serve: Serve, mode: str
) -> None:
    # This build was running when the update was requested.
    orders = dataset(
        status="running", last_read_input_at=at(READ_EARLY), last_updated_output_at=at(READ_EARLY)
    )
    account = serve(Account(orders, waited="datasets", began_at=REQUESTED))
    old = {"status": "ready", "last_updated_output_at": at(REQUESTED + timedelta(seconds=30))}
    new = {"last_read_input_at": at(DATASET_BUILT), "last_updated_output_at": at(TARGET_BUILT)}
    account.script = [lambda: orders.update(old), str, lambda: orders.update(new)]
    assert [*outcome(force_update, mode)["requested_at"]] == [DATASET]
    assert not account.script, "succeeded on the build that was running when the update was requested"


WITHOUT_TIME = {"status": "error", "status_error": "No such table", "status_changed_at": None}


@BOTH
@pytest.mark.parametrize("task", [dataset_sensor, force_update], ids=["sensor", "forced update"])
def test_an_error_without_a_time_of_a_dataset_that_was_last_updated_before_is_waited_for(
    serve: Serve, task: Callable[..., Any], mode: str
) -> None:
    failed = dataset(updated_at=at(READ_EARLY), **WITHOUT_TIME)
    account = serve(Account(failed, waited="datasets", began_at=REQUESTED))
    built = {"status": "ready", "last_updated_output_at": at(LATER), "last_read_input_at": at(LATER)}
    account.script = [str, str, lambda: failed.update(built)]
    assert outcome(task, mode)
    assert account.polls >= 4


@pytest.mark.parametrize("updated_at", [at(LATER), None])
def test_an_error_without_a_time_of_any_other_dataset_fails_the_task(
    serve: Serve, updated_at: str | None
) -> None:
    serve(Account(dataset(updated_at=updated_at, **WITHOUT_TIME), waited="datasets"))
    with pytest.raises(DatasetsFailedError, match="No such table"):
        outcome(dataset_sensor, "poke")
