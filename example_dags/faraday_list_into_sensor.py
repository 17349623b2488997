"""List datasets in one task, and wait until they are ready in the next.

The sensor succeeds when the datasets are ready: the input is in Faraday. Its argument `datasets` accepts
UUIDs, names, or the dicts that a list operator returns.

Requires the Airflow connection `faraday_default` (type Faraday).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_faraday.operators.datasets import ListScopeDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

with DAG(
    dag_id="faraday_list_into_sensor",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    params={
        "scope_id": Param(
            "50000000-0000-4000-8000-000000000001",
            type="string",
            format="uuid",
            description="The Faraday scope whose datasets to wait for.",
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

    DatasetsReadySensor(
        task_id="wait_until_ready",
        datasets=list_datasets.output,
        fields=["id", "name", "status"],
        # For Faraday, 60 is enough. In reschedule mode, use at least 10 with any sensor: Airflow marks a task
        # as failed if it starts again before the scheduler has processed its last exit.
        poke_interval=10,
        timeout=timedelta(hours=6).total_seconds(),
        mode="reschedule",
    )
