"""Builds that ended late enough but read their input too early, according to ``last_read_input_at``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import MODES, outcome

Serve = Callable[[Account], Account]

DATASET, COHORT, TARGET = (id_of(kind) for kind in (13, 11, 7))
REQUESTED = datetime(2026, 1, 3, 1, tzinfo=UTC)
READ_EARLY = REQUESTED - timedelta(minutes=1)
DATASET_BUILT = REQUESTED + timedelta(minutes=5)
TARGET_BUILT = REQUESTED + timedelta(minutes=6)
LIMIT = timedelta(minutes=10)
SOON = timedelta(seconds=1.5)
"""The rest of the ten minutes when a test starts. The ``Date`` header has whole seconds."""


def at(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def dataset(**fields: Any) -> dict[str, Any]:
    times = {"last_read_input_at": at(REQUESTED), "last_updated_output_at": at(DATASET_BUILT)}
    return node(DATASET, "datasets", "Orders", **{**times, **fields})


def target(**fields: Any) -> dict[str, Any]:
    times = {"last_read_input_at": at(READ_EARLY), "last_updated_output_at": at(TARGET_BUILT)}
    return node(TARGET, "targets", "Buyers table", **{**times, **fields})


def delivery(delivered: dict[str, Any], **clock: Any) -> Account:
    """Return an account with a target that is built from a refreshed dataset."""
    orders = dataset()
    return Account(orders, delivered, links=[(orders, delivered)], **clock)


def delivered_sensor(**mode: Any) -> TargetsReadySensor:
    return TargetsReadySensor(
        task_id="gate",
        targets=[TARGET],
        updated_after={DATASET: at(REQUESTED)},
        include_upstream=True,
        poke_interval=0.05,
        timeout=12,
        **mode,
    )


def dataset_sensor(**mode: Any) -> DatasetsReadySensor:
    return DatasetsReadySensor(
        task_id="gate",
        datasets=[DATASET],
        updated_after={DATASET: at(REQUESTED)},
        poke_interval=0.05,
        timeout=12,
        **mode,
    )


def mentions_input(lines: list[str], *words: str) -> bool:
    return any("input" in line and all(word in line for word in words) for line in lines)


@pytest.mark.parametrize("mode", MODES)
def test_a_delivery_that_read_too_early_is_waited_for(serve: Serve, task_log: list[str], mode: str) -> None:
    delivered = target()
    account = serve(delivery(delivered, began_at=TARGET_BUILT + timedelta(seconds=5)))
    again = REQUESTED + timedelta(minutes=8)
    built = {"status": "ready", "last_read_input_at": at(DATASET_BUILT), "last_updated_output_at": at(again)}
    account.script = [str, lambda: delivered.update(status="running"), lambda: delivered.update(built)]
    (returned,) = outcome(delivered_sensor, mode)
    assert returned["last_updated_output_at"] == at(again)
    assert account.polls >= 4
    assert mentions_input(task_log, "Buyers table")


@pytest.mark.parametrize("mode", MODES)
def test_ten_minutes_after_the_delivery_the_time_of_the_build_decides(
    serve: Serve, task_log: list[str], mode: str
) -> None:
    account = serve(delivery(target(), began_at=TARGET_BUILT + LIMIT - SOON))
    assert outcome(delivered_sensor, mode)
    assert account.now >= TARGET_BUILT + LIMIT
    assert mentions_input(task_log, "Buyers table", "1 of 1 targets ready")


@pytest.mark.parametrize("mode", MODES)
def test_a_delivery_that_begins_again_after_the_ten_minutes_is_waited_for(serve: Serve, mode: str) -> None:
    delivered = target(status="running")
    account = serve(delivery(delivered, began_at=TARGET_BUILT + LIMIT + SOON))
    account.script = [str, str, lambda: delivered.update(status="ready")]
    assert outcome(delivered_sensor, mode)
    assert account.polls >= 4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("read", [None, "missing", at(DATASET_BUILT)])
def test_a_delivery_that_does_not_say_when_it_read_or_read_late_enough_is_ready(
    serve: Serve, mode: str, read: str | None
) -> None:
    delivered = target(last_read_input_at=read)
    if read == "missing":
        del delivered["last_read_input_at"]
    account = serve(delivery(delivered, began_at=TARGET_BUILT))
    assert outcome(delivered_sensor, mode)
    assert account.polls == 1
    assert account.now < TARGET_BUILT + LIMIT


@pytest.mark.parametrize("mode", MODES)
def test_a_refreshed_dataset_that_read_before_the_request_is_waited_for(serve: Serve, mode: str) -> None:
    early = dataset(last_read_input_at=at(READ_EARLY))
    account = serve(Account(early, waited="datasets", began_at=DATASET_BUILT))
    built = {"last_read_input_at": at(REQUESTED), "last_updated_output_at": at(TARGET_BUILT)}
    account.script = [str, str, lambda: early.update(built)]
    (returned,) = outcome(dataset_sensor, mode)
    assert returned["last_updated_output_at"] == at(TARGET_BUILT)
    assert account.polls >= 4


@pytest.mark.parametrize("mode", MODES)
def test_a_refreshed_dataset_upstream_that_read_before_the_request_is_waited_for(
    serve: Serve, mode: str
) -> None:
    delivered = target(last_read_input_at=at(DATASET_BUILT))
    account = serve(delivery(delivered, began_at=TARGET_BUILT))
    orders = account.resources[0]
    orders["last_read_input_at"] = at(READ_EARLY)
    again, then = (at(REQUESTED + timedelta(minutes=minutes)) for minutes in (7, 8))
    account.script = [
        str,
        lambda: orders.update(last_read_input_at=at(TARGET_BUILT), last_updated_output_at=again),
        lambda: delivered.update(last_read_input_at=again, last_updated_output_at=then),
    ]
    (returned,) = outcome(delivered_sensor, mode)
    assert returned["last_updated_output_at"] == then


@pytest.mark.parametrize("mode", MODES)
def test_ten_minutes_after_a_refreshed_dataset_was_built_the_time_of_the_build_decides(
    serve: Serve, task_log: list[str], mode: str
) -> None:
    early = dataset(last_read_input_at=at(READ_EARLY))
    account = serve(Account(early, waited="datasets", began_at=DATASET_BUILT + LIMIT - SOON))
    assert outcome(dataset_sensor, mode)
    assert account.now >= DATASET_BUILT + LIMIT
    assert mentions_input(task_log, "Orders", "1 of 1 datasets ready")


def test_without_a_date_faradays_clock_is_taken_to_be_ours(serve: Serve) -> None:
    built = datetime.now(UTC) - LIMIT + SOON
    early = dataset(last_read_input_at=at(READ_EARLY), last_updated_output_at=at(built))
    serve(Account(early, waited="datasets", began_at=None))
    assert outcome(dataset_sensor, "poke")
    assert datetime.now(UTC) >= built + LIMIT


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_force_update_waits_for_a_build_that_read_after_the_request(serve: Serve, mode: str) -> None:
    orders = dataset(last_read_input_at=at(READ_EARLY), last_updated_output_at=at(READ_EARLY))
    # The build was running when the update was requested.
    orders["status"] = "running"
    account = serve(Account(orders, waited="datasets", began_at=REQUESTED))
    old = {"status": "ready", "last_updated_output_at": at(REQUESTED + timedelta(seconds=30))}
    new = {"last_read_input_at": at(DATASET_BUILT), "last_updated_output_at": at(TARGET_BUILT)}
    account.script = [lambda: orders.update(old), str, lambda: orders.update(new)]

    def force_update(**mode: Any) -> ForceUpdateDatasetsOperator:
        return ForceUpdateDatasetsOperator(
            task_id="force_update",
            datasets=[DATASET],
            wait_for_completion=True,
            poke_interval=0.05,
            timeout=12,
            **mode,
        )

    assert [*outcome(force_update, mode)["requested_at"]] == [DATASET]
    assert not account.script, "succeeded on the build that was running when the update was requested"
    assert account.now < REQUESTED + LIMIT
