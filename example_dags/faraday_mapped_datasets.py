"""One task, or one group of tasks, for each dataset: as many as there are on that day.

A mapped sensor waits for each dataset by itself; deferred, all of them together cost one request per
interval. The mapped task group then refreshes each dataset, and waits for that very build.

Needs the Airflow connection `faraday_default` (type Faraday).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task, task_group

from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
    ListScopeDatasetsOperator,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

# The sandbox builds in seconds; Faraday takes longer, and a poll a minute is plenty there.
WAIT: dict[str, Any] = {
    "poke_interval": 2,
    "timeout": timedelta(hours=6).total_seconds(),
    "deferrable": True,
}

with DAG(
    dag_id="faraday_mapped_datasets",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    params={
        "scope_id": Param(
            "50000000-0000-4000-8000-000000000001",
            type="string",
            format="uuid",
            description="The Faraday scope whose datasets to go through.",
        ),
    },
    tags=["faraday", "example"],
):
    list_datasets = ListScopeDatasetsOperator(
        task_id="list_datasets",
        scope_id="{{ params.scope_id }}",
        fields=["id", "name"],
    )

    wait_until_ready = DatasetsReadySensor.partial(
        task_id="wait_until_ready",
        fields=["id", "name", "row_count"],
        map_index_template="{{ task.datasets['name'] }}",
        **WAIT,
    ).expand(datasets=list_datasets.output)

    @task_group
    def refresh(ready: list[dict[str, Any]]) -> None:
        """Refresh what one of the sensors has waited for, and say how many rows that brought."""
        force_update = ForceUpdateDatasetsOperator(
            task_id="force_update", datasets=ready, wait_for_completion=True, **WAIT
        )

        @task
        def count_new_rows(before: list[dict[str, Any]]) -> int:
            now = FaradayHook().get_dataset(before[0]["id"])
            return now["row_count"] - before[0]["row_count"]

        force_update >> count_new_rows(ready)

    refresh.expand(ready=wait_until_ready.output)
