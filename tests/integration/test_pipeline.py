"""From a dataset to a target, in every mode on Airflow: no sensor accepts yesterday's predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from support.ids import TARGET, WEB_ORDERS
from support.sensor_rig import MODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_faraday.sandbox import Sandbox
    from support.run_dag import DagRunResult


@pytest.mark.once
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("faraday_default")
def test_the_sensor_of_a_target_waits_for_the_refresh_of_a_dataset(
    run_dag: Callable[..., DagRunResult], sandbox: Sandbox, mode: str
) -> None:
    sandbox.advance(3600)
    before = sandbox.resource("targets", TARGET)
    assert before["status"] == "ready"
    sandbox.clear_requests()
    with DAG(f"pipeline_{mode}", schedule=None) as dag:
        refresh = ForceUpdateDatasetsOperator(task_id="refresh", datasets=[WEB_ORDERS])
        TargetsReadySensor(
            task_id="wait",
            targets=[TARGET],
            include_upstream=True,
            updated_after=refresh.output["requested_at"],
            # Airflow's dag.test() checks once a second whether a rescheduled task is due.
            poke_interval=0 if mode == "reschedule" else 0.2,
            timeout=3600,
            **MODES[mode],
        )

    (delivered,) = run_dag(dag)["wait"].xcom

    refreshed = sandbox.dataset(WEB_ORDERS)
    assert delivered["last_updated_output_at"] > refreshed["last_updated_output_at"]
    assert refreshed["last_updated_output_at"] > before["last_updated_output_at"]
    paths = [request["path"] for request in sandbox.requests() if request["method"] == "GET"]
    # Each poll of the targets is followed by one of the graph. Other requests look up previews.
    polls = [path for path in paths if path in ("/v1/targets", "/v1/graph")]
    assert polls == ["/v1/targets", "/v1/graph"] * (len(polls) // 2)
