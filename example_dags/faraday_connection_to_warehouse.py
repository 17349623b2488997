"""Wait until all datasets of a Faraday connection are ready, then load the tables of those that were rebuilt.

A sensor waits until Faraday has built every dataset of the Faraday connection. Then each dataset that was
rebuilt since its last load gets one mapped task, which loads the table that the dataset reads
(`options.table_name`). A check compares the number of loaded rows with the row count in Faraday.

Requires two Airflow connections: `faraday_default` (type Faraday) and `warehouse_default` (type SQLite here,
but any SQL database works).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, chain, task
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator, SQLValueCheckOperator

from airflow_provider_faraday.operators.datasets import ListConnectionDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

WAREHOUSE = "warehouse_default"

# Fills the tables that Faraday reads, for this example only. In your DAG, your own pipeline does that.
FILL_SOURCE = [
    "CREATE TABLE IF NOT EXISTS {{ params.source }} (id INTEGER PRIMARY KEY)",
    """
    INSERT INTO {{ params.source }}
    WITH RECURSIVE numbers (id) AS (
        SELECT 1 UNION ALL SELECT id + 1 FROM numbers WHERE id < {{ params.row_count }}
    )
    SELECT id FROM numbers WHERE id NOT IN (SELECT id FROM {{ params.source }})
    """,
]
LOAD = [
    "CREATE TABLE IF NOT EXISTS {{ params.target }} AS SELECT * FROM {{ params.source }} WHERE 1 = 0",
    "DELETE FROM {{ params.target }}",
    "INSERT INTO {{ params.target }} SELECT * FROM {{ params.source }}",
]
REMEMBER = [
    "DELETE FROM faraday_loads WHERE dataset_id = '{{ params.dataset_id }}'",
    "INSERT INTO faraday_loads VALUES "
    "('{{ params.dataset_id }}', '{{ params.target }}', {{ params.row_count }}, '{{ params.built_at }}')",
]

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
        fields=["id", "name", "options", "row_count", "last_updated_output_at"],
        # The sandbox builds in seconds. For Faraday, 60 is plenty.
        poke_interval=2,
        timeout=timedelta(hours=6).total_seconds(),
        # Frees the worker slot. Deferred sensors that wait for the same list share one request per interval.
        deferrable=True,
    )

    create_load_log = SQLExecuteQueryOperator(
        task_id="create_load_log",
        conn_id=WAREHOUSE,
        sql="""
            CREATE TABLE IF NOT EXISTS faraday_loads (
                dataset_id VARCHAR(36) PRIMARY KEY,
                loaded_into VARCHAR(255) NOT NULL,
                row_count INTEGER NOT NULL,
                last_updated_output_at VARCHAR(40) NOT NULL
            )
        """,
    )

    read_load_log = SQLExecuteQueryOperator(
        task_id="read_load_log",
        conn_id=WAREHOUSE,
        sql="SELECT dataset_id, last_updated_output_at FROM faraday_loads",
    )

    @task
    def plan_loads(datasets: list[dict[str, Any]], loaded: list[list[str]]) -> list[dict[str, Any]]:
        """Return the parameters of a load for each dataset that was rebuilt since its last load."""
        loaded_builds = dict(loaded)

        def quoted(name: str) -> str:
            return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))

        loads = []
        for dataset in datasets:
            table = dataset["options"].get("table_name")
            if table is None:
                print(f"{dataset['name']} does not read a table. Skipping.")
            elif loaded_builds.get(dataset["id"]) == dataset["last_updated_output_at"]:
                print(f"{dataset['name']} was not rebuilt since its last load. Skipping.")
            else:
                load = {
                    "name": dataset["name"],
                    "dataset_id": dataset["id"],
                    "source": quoted(table),
                    "target": quoted(f"loaded_{table.split('.')[-1]}"),
                    "row_count": dataset["row_count"],
                    "built_at": dataset["last_updated_output_at"],
                }
                loads.append(load)
        return loads

    loads = plan_loads(wait_until_ready.output, read_load_log.output)

    # One mapped task per load. The UI shows the dataset's name instead of the map index.
    mapped: dict[str, Any] = {"conn_id": WAREHOUSE, "map_index_template": "{{ params.name }}"}
    fill_source = SQLExecuteQueryOperator.partial(task_id="fill_source", sql=FILL_SOURCE, **mapped)
    load = SQLExecuteQueryOperator.partial(task_id="load", sql=LOAD, **mapped)
    check = SQLValueCheckOperator.partial(
        task_id="check_row_count",
        sql="SELECT COUNT(*) FROM {{ params.target }}",
        pass_value="{{ params.row_count }}",
        **mapped,
    )
    # This task is last, so that the next run repeats a load that failed its check.
    remember = SQLExecuteQueryOperator.partial(task_id="remember", sql=REMEMBER, **mapped)

    chain(list_datasets, wait_until_ready)
    chain(create_load_log, read_load_log)
    chain(*(each.expand(params=loads) for each in (fill_source, load, check, remember)))
