"""Wait until the datasets of a scope are ready, then process them in a TaskFlow task.

The sensor returns the datasets as an XCom, so a TaskFlow task can take them as an argument.

Requires the Airflow connection `faraday_default` (type Faraday).
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
        # The sandbox builds in seconds. For Faraday, 60 is plenty.
        poke_interval=2,
        timeout=timedelta(hours=6).total_seconds(),
        # Frees the worker slot. Deferred sensors that wait for the same list share one request per interval.
        deferrable=True,
    )

    @task
    def summarize(datasets: list[dict[str, Any]]) -> dict[str, int]:
        """Return the row count of each dataset. Replace this with the tasks that need the data."""
        return {dataset["name"]: dataset.get("row_count") or 0 for dataset in datasets}

    summarize(wait_until_ready.output)
