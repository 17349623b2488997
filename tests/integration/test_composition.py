"""What DAG authors build out of the pieces: TaskFlow, mapping, task groups, .output, in real DAG runs."""

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

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_faraday.sandbox import Sandbox
    from airflow_rig import DagRunResult

pytestmark = pytest.mark.usefixtures("faraday_default")

SCOPE = "50000000-0000-4000-8000-000000000001"
CONNECTIONS = [f"c0000000-0000-4000-8000-00000000000{number}" for number in (1, 2)]
CUSTOMERS = "d0000000-0000-4000-8000-000000000001"
ORDERS = "d0000000-0000-4000-8000-000000000002"

Run = Callable[[DAG], "DagRunResult"] if TYPE_CHECKING else Any


@pytest.fixture(autouse=True)
def ready(sandbox: Sandbox) -> None:
    for id_ in (CUSTOMERS, ORDERS):
        sandbox.set_dataset(id_, status="ready")


def test_list_operators_map_over_connections(run_dag: Run) -> None:
    with DAG("mapped_list", schedule=None) as dag:
        ListConnectionDatasetsOperator.partial(task_id="list", fields=["name"]).expand(
            connection_id=CONNECTIONS
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


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_was_asked_for_is_waited_for_by_output(run_dag: Run, sandbox: Sandbox, deferrable: bool) -> None:
    with DAG("force_and_wait", schedule=None) as dag:
        asked = ForceUpdateDatasetsOperator(task_id="ask", datasets=[CUSTOMERS, ORDERS])
        DatasetsReadySensor(
            task_id="wait",
            datasets=asked.output["dataset_ids"],
            updated_after=asked.output["requested_at"],
            fields=["id", "last_updated_output_at"],
            poke_interval=0.1,
            deferrable=deferrable,
        )

    result = run_dag(dag)

    assert result.states == {"ask": "success", "wait": "success"}
    assert result["ask"].xcom["dataset_ids"] == [CUSTOMERS, ORDERS]
    for dataset in result["wait"].xcom:
        assert dataset["last_updated_output_at"] >= result["ask"].xcom["requested_at"][:19]
        statuses = [c["status"] for c in sandbox.history() if c["dataset_id"] == dataset["id"]]
        assert statuses[-3:] == ["starting", "running", "ready"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_mapped_task_group_refreshes_each_dataset(run_dag: Run, sandbox: Sandbox, deferrable: bool) -> None:
    with DAG("mapped_group", schedule=None) as dag:
        listed = ListScopeDatasetsOperator(task_id="list", scope_id=SCOPE, fields=["id", "name"])

        @task_group
        def each(dataset: dict[str, Any]) -> None:
            asked = ForceUpdateDatasetsOperator(
                task_id="ask",
                datasets=[dataset],
                wait_for_completion=True,
                deferrable=deferrable,
                poke_interval=0.1,
            )

            @task
            def told(requested: dict[str, Any]) -> list[str]:
                return requested["dataset_ids"]

            told(asked.output)

        each.expand(dataset=listed.output)

    result = run_dag(dag)

    assert [result[f"each.told[{index}]"].xcom for index in range(2)] == [[CUSTOMERS], [ORDERS]]
    posted = [request["path"] for request in sandbox.requests() if request["method"] == "POST"]
    assert sorted(posted) == [f"/v1/datasets/{id_}/force_update" for id_ in (CUSTOMERS, ORDERS)]


def test_a_task_sensor_asks_the_hook(run_dag: Run) -> None:
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


def test_taskflow_takes_what_a_sensor_returns_and_gives_what_it_waits_for(run_dag: Run) -> None:
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


def test_mapped_templates_and_parameters_are_rendered(run_dag: Run) -> None:
    with DAG(
        "templates", schedule=None, params={"ids": [CUSTOMERS]}, render_template_as_native_obj=True
    ) as dag:
        ForceUpdateDatasetsOperator(task_id="ask", datasets="{{ params.ids }}")

    result = run_dag(dag)

    assert result["ask"].xcom["dataset_ids"] == [CUSTOMERS]
