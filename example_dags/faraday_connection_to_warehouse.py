"""Wait until all datasets of a Faraday connection are ready, then load the tables that they read.

    list_datasets -> wait_until_ready -> load -> check_row_count

The sensor waits for *datasets*. It succeeds when Faraday has ingested and built your input. To use
predictions, wait for a scope or a target instead. Each dataset then has one mapped task that copies its
table, and one that compares the number of rows with the number in Faraday.

Requires two Airflow connections: `faraday_default` (type Faraday) and `warehouse_default` (type SQLite here,
but any SQL database works). The latter has the tables.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, chain
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator, SQLValueCheckOperator

from airflow_provider_faraday.operators.datasets import ListConnectionDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

with DAG(
    dag_id="faraday_connection_to_warehouse",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    # Concurrent runs would write to the same tables.
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    params={
        "connection_id": Param(
            "c0000000-0000-4000-8000-000000000001",
            type="string",
            format="uuid",
            description="The Faraday connection whose datasets to wait for.",
        ),
    },
    tags=["faraday", "example"],
):
    list_datasets = ListConnectionDatasetsOperator(
        task_id="list_datasets",
        connection_id="{{ params.connection_id }}",
        fields=["id", "name", "status"],
        execution_timeout=timedelta(minutes=10),
    )

    wait_until_ready = DatasetsReadySensor(
        task_id="wait_until_ready",
        connection_id="{{ params.connection_id }}",
        fields=["id", "name", "options", "row_count"],
        # The sandbox builds in seconds. For Faraday, 60 is enough.
        poke_interval=2,
        timeout=timedelta(hours=6).total_seconds(),
        # Frees the worker slot. Deferred sensors that wait for the same list share one request per interval.
        deferrable=True,
    )

    # One mapped task per dataset. Each has its dataset as `params`, and the dataset's name in the UI.
    each_dataset: dict[str, Any] = {
        "conn_id": "warehouse_default",
        "map_index_template": "{{ params.name }}",
        "execution_timeout": timedelta(hours=1),
    }

    load = SQLExecuteQueryOperator.partial(
        task_id="load",
        sql=[
            'DROP TABLE IF EXISTS "loaded_{{ params.options.table_name }}"',
            'CREATE TABLE "loaded_{{ params.options.table_name }}" AS '
            'SELECT * FROM "{{ params.options.table_name }}"',
        ],
        **each_dataset,
    ).expand(params=wait_until_ready.output)

    check_row_count = SQLValueCheckOperator.partial(
        task_id="check_row_count",
        sql='SELECT COUNT(*) FROM "loaded_{{ params.options.table_name }}"',
        pass_value="{{ params.row_count }}",
        **each_dataset,
    ).expand(params=wait_until_ready.output)

    chain(list_datasets, wait_until_ready, load, check_row_count)
