"""Hold a pipeline until the datasets behind a scope are ready, then go on in plain Python.

The gate's result is an ordinary XCom: a TaskFlow task takes it as an argument.

Needs the Airflow connection `faraday_default` (type Faraday).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

with DAG(
    dag_id="faraday_scope_gate",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    params={
        "scope_id": Param(
            "50000000-0000-4000-8000-000000000001",
            type="string",
            format="uuid",
            description="The Faraday scope to wait for.",
        ),
    },
    tags=["faraday", "example"],
):
    wait_until_ready = DatasetsReadySensor(
        task_id="wait_until_ready",
        scope_id="{{ params.scope_id }}",
        # The sandbox builds in seconds; Faraday takes longer, and a poll a minute is plenty there.
        poke_interval=2,
        timeout=timedelta(hours=6).total_seconds(),
        # Waits in the triggerer, where everyone who waits for the same list shares one poll.
        deferrable=True,
    )

    @task
    def summarize(datasets: list[dict[str, Any]]) -> dict[str, int]:
        """Count the rows of each dataset; the place of whatever needs the scope's data to be fresh."""
        return {dataset["name"]: dataset.get("row_count") or 0 for dataset in datasets}

    summarize(wait_until_ready.output)
