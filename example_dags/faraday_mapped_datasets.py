"""Map a sensor, and then a task group, over the datasets of a scope.

Each mapped sensor waits for one dataset. The deferred sensors share one request per interval. For each
dataset, the mapped task group then forces an update and waits until the build has finished.

Trigger this DAG manually, for example after transient errors in Faraday. Do not schedule it every night,
because Faraday rebuilds a dataset when it detects changes.

Requires the Airflow connection `faraday_default` (type Faraday).
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

# The sandbox builds in seconds. For Faraday, a poke_interval of 60 is enough.
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
            description="The Faraday scope whose datasets to update.",
        ),
    },
    tags=["faraday", "example"],
):
    list_datasets = ListScopeDatasetsOperator(
        task_id="list_datasets",
        scope_id="{{ params.scope_id }}",
        fields=["id", "name"],
        execution_timeout=timedelta(minutes=10),
    )

    wait_until_ready = DatasetsReadySensor.partial(
        task_id="wait_until_ready",
        fields=["id", "name", "row_count"],
        map_index_template="{{ task.datasets['name'] }}",
        **WAIT,
    ).expand(datasets=list_datasets.output)

    @task_group
    def refresh(ready: list[dict[str, Any]]) -> None:
        """Force an update of the dataset that a sensor has waited for, and count its new rows."""
        force_update = ForceUpdateDatasetsOperator(
            task_id="force_update", datasets=ready, wait_for_completion=True, **WAIT
        )

        @task(execution_timeout=timedelta(minutes=10))
        def count_new_rows(before: list[dict[str, Any]]) -> int:
            now = FaradayHook().get_dataset(before[0]["id"])
            return now["row_count"] - before[0]["row_count"]

        force_update >> count_new_rows(ready)

    refresh.expand(ready=wait_until_ready.output)
