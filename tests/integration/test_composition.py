"""The operators and the sensor in TaskFlow, mapped tasks and task groups, in real DAG runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, PokeReturnValue, task, task_group

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


def test_a_list_operator_maps_over_faraday_connections(run_dag: Run) -> None:
    with DAG("mapped_list", schedule=None) as dag:
        ListConnectionDatasetsOperator.partial(task_id="list", fields=["name"]).expand(
            connection_id=[WAREHOUSE, UPLOADS]
        )

    result = run_dag(dag)

    assert [len(result[f"list[{index}]"].xcom) for index in range(2)] == [5, 1]


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_sensor_maps_over_the_datasets_of_a_list(run_dag: Run, deferrable: bool) -> None:
    with DAG("mapped_sensor", schedule=None) as dag:
        listed = ListScopeDatasetsOperator(task_id="list", scope_id=SCOPE, fields=["id", "name"])
        DatasetsReadySensor.partial(
            task_id="wait", fields=["name"], poke_interval=0.1, deferrable=deferrable
        ).expand(datasets=listed.output)

    result = run_dag(dag)

    assert [result[f"wait[{index}]"].xcom for index in range(2)] == [
        [{"name": "customers"}],
        [{"name": "orders"}],
    ]


def test_the_generic_sensor_can_be_mapped(run_dag: Run) -> None:
    with DAG("mapped_generic_sensor", schedule=None) as dag:
        ResourcesReadySensor.partial(
            task_id="wait", resource_type="datasets", fields=["name"], poke_interval=0.1
        ).expand(resource_ids=[[CUSTOMERS], [ORDERS]])
        ResourcesReadySensor.partial(
            task_id="same", resource_type="datasets", resource_ids=[ORDERS], poke_interval=0.1
        ).expand(fields=[["id"], ["name"]])

    result = run_dag(dag)

    assert [result[f"wait[{index}]"].xcom for index in range(2)] == [
        [{"name": "customers"}],
        [{"name": "orders"}],
    ]
    assert [result[f"same[{index}]"].xcom for index in range(2)] == [[{"id": ORDERS}], [{"name": "orders"}]]


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_output_of_a_force_update_is_the_input_of_a_wait(
    run_dag: Run, sandbox: Sandbox, deferrable: bool
) -> None:
    with DAG("force_and_wait", schedule=None) as dag:
        rebuild = ForceUpdateDatasetsOperator(task_id="rebuild", datasets=[CUSTOMERS, ORDERS])
        DatasetsReadySensor(
            task_id="wait",
            datasets=rebuild.output["datasets"],
            updated_after=rebuild.output["requested_at"],
            fields=["id", "last_updated_output_at"],
            poke_interval=0.1,
            deferrable=deferrable,
        )

    result = run_dag(dag)

    assert result.states == {"rebuild": "success", "wait": "success"}
    assert result["rebuild"].xcom["datasets"] == [CUSTOMERS, ORDERS]
    for dataset in result["wait"].xcom:
        requested_at = result["rebuild"].xcom["requested_at"]
        # One time per dataset, or one for all.
        requested_at = requested_at[dataset["id"]] if isinstance(requested_at, dict) else requested_at
        assert dataset["last_updated_output_at"] >= requested_at[:19]
        statuses = [c["status"] for c in sandbox.history() if c["id"] == dataset["id"]]
        assert statuses[-3:] == ["starting", "running", "ready"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_mapped_task_group_rebuilds_each_dataset(run_dag: Run, sandbox: Sandbox, deferrable: bool) -> None:
    with DAG("mapped_group", schedule=None) as dag:
        listed = ListScopeDatasetsOperator(task_id="list", scope_id=SCOPE, fields=["id", "name"])

        @task_group
        def each(dataset: dict[str, Any]) -> None:
            rebuild = ForceUpdateDatasetsOperator(
                task_id="rebuild",
                datasets=[dataset],
                wait_for_completion=True,
                deferrable=deferrable,
                poke_interval=0.1,
            )

            @task
            def ids(rebuilt: dict[str, Any]) -> list[str]:
                return rebuilt["datasets"]

            ids(rebuild.output)

        each.expand(dataset=listed.output)

    result = run_dag(dag)

    assert [result[f"each.ids[{index}]"].xcom for index in range(2)] == [[CUSTOMERS], [ORDERS]]
    posted = [request["path"] for request in sandbox.requests() if request["method"] == "POST"]
    assert sorted(posted) == [f"/v1/datasets/{id_}/force_update" for id_ in (CUSTOMERS, ORDERS)]


def test_a_task_sensor_can_use_the_hook(run_dag: Run) -> None:
    with DAG("task_sensor", schedule=None) as dag:

        @task.sensor(poke_interval=0.1, timeout=20)
        def rows(least: int) -> PokeReturnValue:
            count = FaradayHook().get_dataset(CUSTOMERS)["row_count"]
            return PokeReturnValue(is_done=count >= least, xcom_value=count)

        @task
        def double(count: int) -> int:
            return 2 * count

        double(rows(1))

    result = run_dag(dag)

    assert result["double"].xcom == 2 * result["rows"].xcom > 0


def test_taskflow_tasks_can_come_before_and_after_a_sensor(run_dag: Run) -> None:
    with DAG("taskflow", schedule=None) as dag:

        @task
        def choose() -> list[str]:
            return [ORDERS]

        wait = DatasetsReadySensor(task_id="wait", datasets=choose(), fields=["name"], poke_interval=0.1)

        @task
        def names(datasets: list[dict[str, Any]]) -> list[str]:
            return [dataset["name"] for dataset in datasets]

        names(wait.output)

    result = run_dag(dag)

    assert result["names"].xcom == ["orders"]


def test_templates_with_params_are_rendered(run_dag: Run) -> None:
    with DAG(
        "templates", schedule=None, params={"ids": [CUSTOMERS]}, render_template_as_native_obj=True
    ) as dag:
        ForceUpdateDatasetsOperator(task_id="rebuild", datasets="{{ params.ids }}")

    result = run_dag(dag)

    assert result["rebuild"].xcom["datasets"] == [CUSTOMERS]
