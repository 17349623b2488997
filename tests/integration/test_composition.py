"""Operators and sensors in TaskFlow and in mapped tasks, in real DAG runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, PokeReturnValue, task

from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
    ListConnectionDatasetsOperator,
    ListScopeDatasetsOperator,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
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
        generic = ResourcesReadySensor.partial(task_id="generic", resource_type="datasets")
        generic.expand(resource_ids=[[CUSTOMERS], [ORDERS]])

    result = run_dag(dag)

    def returned(task_id: str) -> list[Any]:
        return [result[f"{task_id}[{index}]"].xcom for index in range(2)]

    assert [len(datasets) for datasets in returned("listed")] == [5, 1]
    assert returned("deferrable_False") == [[{"name": "customers"}], [{"name": "orders"}]]
    assert returned("deferrable_True") == [[{"name": "customers"}], [{"name": "orders"}]]
    assert [datasets[0]["id"] for datasets in returned("generic")] == [CUSTOMERS, ORDERS]


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


def test_taskflow_tasks_can_come_before_and_after_a_sensor(run_dag: Run) -> None:
    with DAG("taskflow", schedule=None) as dag:

        @task
        def choose() -> list[str]:
            return [ORDERS]

        @task.sensor(poke_interval=0.1, timeout=60)
        def rows(datasets: list[dict[str, Any]]) -> PokeReturnValue:
            count = FaradayHook().get_dataset(datasets[0]["id"])["row_count"]
            return PokeReturnValue(is_done=count > 0, xcom_value=count)

        rows(DatasetsReadySensor(task_id="wait", datasets=choose(), poke_interval=0.1).output)

    assert run_dag(dag)["rows"].xcom > 0
