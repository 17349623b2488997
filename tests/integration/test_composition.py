"""Mapped operators and sensors, in real DAG runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
    ListConnectionDatasetsOperator,
    ListScopeDatasetsOperator,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from support.ids import CUSTOMERS, ORDERS, SCOPE, UPLOADS, WAREHOUSE

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_faraday.sandbox import Sandbox
    from support.run_dag import DagRunResult

pytestmark = pytest.mark.usefixtures("faraday_default")

Run = Callable[[DAG], "DagRunResult"] if TYPE_CHECKING else Any


@pytest.fixture(autouse=True)
def ready(sandbox: Sandbox) -> None:
    for id_ in (CUSTOMERS, ORDERS):
        sandbox.set_dataset(id_, status="ready")


def test_operators_and_sensors_can_be_mapped(run_dag: Run) -> None:
    with DAG("mapped", schedule=None) as dag:
        ListConnectionDatasetsOperator.partial(task_id="listed", fields=["name"]).expand(
            connection_id=[WAREHOUSE, UPLOADS]
        )
        listed = ListScopeDatasetsOperator(task_id="list", scope_id=SCOPE, fields=["id", "name"])
        for deferrable in (False, True):
            DatasetsReadySensor.partial(
                task_id=f"deferrable_{deferrable}", fields=["name"], poke_interval=0.1, deferrable=deferrable
            ).expand(datasets=listed.output)

    result = run_dag(dag)

    def returned(task_id: str) -> list[Any]:
        return [result[f"{task_id}[{index}]"].xcom for index in range(2)]

    assert [len(datasets) for datasets in returned("listed")] == [5, 1]
    assert returned("deferrable_False") == [[{"name": "customers"}], [{"name": "orders"}]]
    assert returned("deferrable_True") == [[{"name": "customers"}], [{"name": "orders"}]]


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_output_of_mapped_force_updates_is_the_input_of_a_wait(
    run_dag: Run, sandbox: Sandbox, deferrable: bool
) -> None:
    with DAG("force_and_wait", schedule=None) as dag:
        rebuild = ForceUpdateDatasetsOperator.partial(task_id="rebuild").expand(datasets=[CUSTOMERS, ORDERS])
        DatasetsReadySensor(
            task_id="wait",
            datasets=rebuild.output["datasets"],
            updated_after=rebuild.output["requested_at"],
            fields=["id"],
            poke_interval=0.1,
            deferrable=deferrable,
        )

    result = run_dag(dag)

    assert [dataset["id"] for dataset in result["wait"].xcom] == [CUSTOMERS, ORDERS]
    for id_ in (CUSTOMERS, ORDERS):
        statuses = [change["status"] for change in sandbox.history() if change["id"] == id_]
        assert statuses[-3:] == ["starting", "running", "ready"]
