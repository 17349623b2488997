"""List a connection's datasets, wait until all are ready, then load each one downstream.

The gate holds until Faraday has finished building every dataset of the connection. Its result, the list of
ready datasets, becomes one mapped load task per dataset: as many as there are on that day.

Needs two Airflow connections: `faraday_default` (type Faraday) and `warehouse_default` (type SQLite here; any
database with an Airflow provider will do).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, chain, task
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_faraday.operators.datasets import ListConnectionDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

WAREHOUSE = "warehouse_default"
COLUMNS = ["id", "name", "row_count", "last_updated_output_at"]

with DAG(
    dag_id="faraday_connection_to_warehouse",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    params={
        "connection_id": Param(
            "c0000000-0000-4000-8000-000000000001",
            type="string",
            format="uuid",
            description="The Faraday connection whose datasets to load.",
        ),
    },
    tags=["faraday", "example"],
):
    list_datasets = ListConnectionDatasetsOperator(
        task_id="list_datasets",
        connection_id="{{ params.connection_id }}",
        fields=["id", "name", "status"],
    )

    wait_until_ready = DatasetsReadySensor(
        task_id="wait_until_ready",
        connection_id="{{ params.connection_id }}",
        fields=COLUMNS,
        # The sandbox builds in seconds; Faraday takes longer, and a poll a minute is plenty there.
        poke_interval=2,
        timeout=timedelta(hours=6).total_seconds(),
        # Waits in the triggerer, where everyone who waits for the same list shares one poll.
        deferrable=True,
    )

    create_table = SQLExecuteQueryOperator(
        task_id="create_table",
        conn_id=WAREHOUSE,
        sql="""
            CREATE TABLE IF NOT EXISTS faraday_datasets (
                id TEXT PRIMARY KEY,
                name TEXT NOT NULL,
                row_count INTEGER,
                last_updated_output_at TEXT
            )
        """,
    )

    # The template names each mapped task in the UI, in place of a bare number.
    @task(map_index_template="{{ task.op_kwargs['dataset']['name'] }}")
    def load(dataset: dict[str, Any]) -> str:
        """Write one ready dataset into the warehouse; a second run replaces its row."""
        # Imported here so that parsing this file stays cheap.
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        row = [dataset.get(column) for column in COLUMNS]
        SqliteHook(WAREHOUSE).insert_rows("faraday_datasets", [row], target_fields=COLUMNS, replace=True)
        return dataset["name"]

    loads = load.expand(dataset=wait_until_ready.output)

    chain(list_datasets, wait_until_ready)
    chain(create_table, loads)
