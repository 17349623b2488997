"""Sensors: what they wait for, return and log in a single poke."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_faraday.exceptions import NothingToWaitForError
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.sensors.scopes import ScopesReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from support.ids import (
    CUSTOMER_COHORT,
    CUSTOMERS,
    LEGACY_ORDERS,
    ORDERS,
    SCOPE,
    SUBSCRIBERS,
    TARGET,
    VISITS,
    WAREHOUSE,
    WAREHOUSE_TARGET,
)

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("faraday_default")

OF_WAREHOUSE, OF_SCOPE = f"connections/{WAREHOUSE}", f"scopes/{SCOPE}"
FIRST: Any = {"task_reschedule_count": 0}


@pytest.fixture
def faraday_sandbox_age() -> float:
    """Return an age at which everything is built."""
    return 3600.0


@pytest.mark.parametrize(
    ("kind", "arguments", "path", "ids"),
    [
        (
            DatasetsReadySensor,
            {"connection_id": WAREHOUSE},
            f"{OF_WAREHOUSE}/datasets",
            [CUSTOMERS, ORDERS, SUBSCRIBERS, VISITS],
        ),
        (DatasetsReadySensor, {"scope_id": SCOPE}, f"{OF_SCOPE}/datasets", [CUSTOMERS, ORDERS]),
        (DatasetsReadySensor, {"datasets": {"id": ORDERS, "name": "orders"}}, "datasets", [ORDERS]),
        (TargetsReadySensor, {"connection_id": WAREHOUSE}, f"{OF_WAREHOUSE}/targets", [WAREHOUSE_TARGET]),
        (TargetsReadySensor, {"scope_id": SCOPE}, f"{OF_SCOPE}/targets", [TARGET, WAREHOUSE_TARGET]),
        (TargetsReadySensor, {"targets": [TARGET.upper()]}, "targets", [TARGET]),
        (ScopesReadySensor, {"scopes": SCOPE}, "scopes", [SCOPE]),
        (
            ResourcesReadySensor,
            {"resource_type": "cohorts", "resource_ids": [{"id": CUSTOMER_COHORT}]},
            "cohorts",
            [CUSTOMER_COHORT],
        ),
    ],
)
def test_a_sensor_returns_the_ready_resources_of_its_source(
    sandbox: Sandbox, kind: Any, arguments: dict[str, Any], path: str, ids: list[str]
) -> None:
    gate = kind(task_id="gate", updated_after="2020-01-01", fields=["id"], **arguments)
    assert gate.execute(FIRST) == [{"id": id_} for id_ in ids]
    assert [request["path"] for request in sandbox.requests()] == [f"/v1/{path}"]


@pytest.mark.parametrize("datasets", [[], [LEGACY_ORDERS]])
def test_nothing_to_wait_for_fails_unless_allowed(datasets: list[str]) -> None:
    gate = partial(DatasetsReadySensor, task_id="gate", datasets=datasets)
    with pytest.raises(NothingToWaitForError, match="no datasets to wait for"):
        gate().poke(FIRST)
    # Without a context, as in the tests of a DAG.
    done = gate(allow_empty=True, mode="reschedule").poke({})
    assert (done.is_done, done.xcom_value) == (True, [])


def test_a_verdict_is_logged_once_while_nothing_changes(sandbox: Sandbox, task_log: list[str]) -> None:
    sandbox.set_dataset(ORDERS, status="pending")
    gate = DatasetsReadySensor(task_id="gate", connection_id=WAREHOUSE)
    for _ in range(2):
        assert not gate.poke(FIRST).is_done
    assert [line for line in task_log if "ready" in line] == [
        f"INFO 3 of 4 datasets ready; waiting for: dataset 'orders' ({ORDERS}): unknown status pending; "
        f"skipped: dataset 'legacy_orders' ({LEGACY_ORDERS}): archived",
    ]
