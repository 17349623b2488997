"""Choose datasets in one task, wait for exactly those in the next.

What a list operator pushed goes into the sensor as it is: `datasets` takes ids or the dicts themselves.

Needs the Airflow connection `faraday_default` (type Faraday).
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
    )

    DatasetsReadySensor(
        task_id="wait_until_ready",
        datasets=list_datasets.output,
        fields=["id", "name", "status"],
        # For Faraday, once a minute is plenty. Much less than this is too little for any sensor in this mode:
        # Airflow takes a task for failed that is back before the scheduler has seen it leave.
        poke_interval=10,
        timeout=timedelta(hours=6).total_seconds(),
        mode="reschedule",
    )
