"""Waits with ``updated_after``: builds that read their input too early, and Faraday's clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import MODES, outcome

Serve = Callable[[Account], Account]

DATASET, TARGET = id_of(13), id_of(7)
REQUESTED = datetime(2026, 1, 3, 1, tzinfo=UTC)
READ_EARLY = REQUESTED - timedelta(minutes=1)
BUILT = REQUESTED + timedelta(minutes=5)
LIMIT = timedelta(minutes=10)
SOON = timedelta(seconds=1.5)
"""The rest of the ten minutes when a test starts. The ``Date`` header has whole seconds."""
ARGUMENTS: Any = {"task_id": "gate", "poke_interval": 0.05, "timeout": 60}


def at(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def resource(id_: str, kind: str, built_at: datetime, read_at: datetime = READ_EARLY) -> dict[str, Any]:
    return node(id_, kind, last_read_input_at=at(read_at), last_updated_output_at=at(built_at))


SINCE = {**ARGUMENTS, "updated_after": {DATASET: at(REQUESTED)}}
dataset_sensor = partial(DatasetsReadySensor, datasets=[DATASET], **SINCE)
target_sensor = partial(TargetsReadySensor, targets=[TARGET], include_upstream=True, **SINCE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("waited", "sensor"), [("targets", target_sensor), ("datasets", dataset_sensor)])
def test_ten_minutes_after_a_build_its_time_decides(
    serve: Serve, task_log: list[str], waited: str, sensor: Any, mode: str
) -> None:
    read_at = READ_EARLY if waited == "datasets" else REQUESTED
    dataset, target = resource(DATASET, "datasets", BUILT, read_at), resource(TARGET, "targets", BUILT)
    links = [(dataset, target)]
    account = serve(Account(dataset, target, links=links, waited=waited, began_at=BUILT + LIMIT - SOON))
    assert outcome(sensor, mode)
    assert account.now >= BUILT + LIMIT
    assert any(f"1 of 1 {waited} ready" in line and "input" in line for line in task_log)


def test_without_a_date_header_our_clock_decides(serve: Serve) -> None:
    built = datetime.now(UTC) - LIMIT + SOON
    serve(Account(resource(DATASET, "datasets", built), waited="datasets", began_at=None))
    assert outcome(dataset_sensor, "poke")
    assert datetime.now(UTC) >= built + LIMIT


@pytest.mark.parametrize("mode", MODES)
def test_a_forced_update_waits_for_a_build_that_read_its_input_after_the_request(
    serve: Serve, mode: str
) -> None:
    # This build was running when the update was requested.
    dataset = resource(DATASET, "datasets", READ_EARLY) | {"status": "running"}
    account = serve(Account(dataset, waited="datasets", began_at=REQUESTED))
    old = resource(DATASET, "datasets", REQUESTED + timedelta(seconds=30))
    new = resource(DATASET, "datasets", BUILT, REQUESTED + timedelta(minutes=1))
    account.script = [lambda: dataset.update(old), str, lambda: dataset.update(new)]
    task = partial(ForceUpdateDatasetsOperator, datasets=[DATASET], wait_for_completion=True, **ARGUMENTS)
    assert [*outcome(task, mode)["requested_at"]] == [DATASET]
    assert not account.script, "succeeded on the build that was running when the update was requested"
