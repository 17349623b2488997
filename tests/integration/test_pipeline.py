"""From a dataset to a target, in every mode on Airflow: nothing opens on yesterday's predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_faraday.exceptions import ResourcesFailedError
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.operators.resources import ForceUpdateResourcesOperator
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from support.ids import OUTCOME, TARGET, WEB_ORDERS
from support.run_dag import run_dag
from support.sensor_rig import MODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("airflow_home")

FIELDS = ["id", "count", "last_updated_output_at"]


@pytest.fixture
def sandbox(faraday_default: Callable[..., None]) -> Iterator[Sandbox]:
    """Return a sandbox in which everything is ready."""
    with Sandbox(speed=20) as sandbox:
        sandbox.advance(60)
        assert sandbox.resource("targets", TARGET)["status"] == "ready"
        faraday_default(host=sandbox.url, password=sandbox.api_key)
        sandbox.clear_requests()
        yield sandbox


def pipeline(name: str, mode: str, **arguments: Any) -> Any:
    with DAG(name, schedule=None) as dag:
        refresh = ForceUpdateDatasetsOperator(task_id="refresh", datasets=[WEB_ORDERS])
        TargetsReadySensor(
            task_id="wait",
            targets=[TARGET],
            include_upstream=True,
            updated_after=refresh.output["requested_at"],
            fields=FIELDS,
            # Airflow's dag.test() checks once a second whether a rescheduled task is due.
            poke_interval=0 if mode == "reschedule" else 0.2,
            timeout=60,
            **MODES[mode],
            **arguments,
        )
    return dag


@pytest.mark.parametrize("mode", MODES)
def test_the_wait_for_a_target_sees_the_refresh_of_a_dataset_through(sandbox: Sandbox, mode: str) -> None:
    before = sandbox.resource("targets", TARGET)
    (delivered,) = run_dag(pipeline(f"pipeline_{mode}", mode))["wait"].xcom
    refreshed = sandbox.dataset(WEB_ORDERS)
    assert delivered["last_updated_output_at"] > refreshed["last_updated_output_at"]
    assert refreshed["last_updated_output_at"] > before["last_updated_output_at"]
    assert delivered["count"] > before["count"]
    paths = [request["path"] for request in sandbox.requests() if request["method"] == "GET"]
    # Each poll of the targets is followed by one of the graph. Other requests look up previews.
    polls = [path for path in paths if path in ("/v1/targets", "/v1/graph")]
    assert polls == ["/v1/targets", "/v1/graph"] * (len(polls) // 2)


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_on_the_way_fails_the_task_with_the_path(sandbox: Sandbox, mode: str) -> None:
    sandbox.set_resource("outcomes", OUTCOME, sandbox={"outcome": "error", "status_error": "Too few buyers"})
    wait = run_dag(pipeline(f"failure_{mode}", mode))["wait"]
    assert wait.state == "failed"
    (error,) = wait.errors
    assert isinstance(error, ResourcesFailedError)
    assert str(error).startswith(
        "target 'Likely buyers CSV' cannot be built: outcome 'Will buy in 30 days' failed: Too few buyers "
        "(outcome → scope 'Likely buyers' → target)."
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_refresh_that_changes_nothing_ends_after_unchanged_after(sandbox: Sandbox, mode: str) -> None:
    sandbox.set_resource("datasets", WEB_ORDERS, sandbox={"changes": False})
    before = sandbox.resource("targets", TARGET)
    task = run_dag(pipeline(f"unchanged_{mode}", mode, unchanged_after=1))["wait"]
    assert task.xcom == [{name: before[name] for name in FIELDS} | {"unchanged": True}]
    assert "target 'Likely buyers CSV' is unchanged" in task.log


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_forced_update_of_a_target_can_wait_for_what_is_upstream(sandbox: Sandbox, mode: str) -> None:
    sandbox.force_update(WEB_ORDERS)
    with DAG(f"forced_{mode}", schedule=None) as dag:
        ForceUpdateResourcesOperator(
            task_id="update",
            resource_type="targets",
            resource_ids=[TARGET],
            wait_for_completion=True,
            include_upstream=True,
            poke_interval=0.2,
            timeout=60,
            deferrable=mode == "deferrable",
        )
    assert run_dag(dag)["update"].state == "success"
    assert all(edge["upstream_status"] != "running" for edge in sandbox.graph())
