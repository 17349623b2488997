"""Load a table, force an update of the dataset that reads it, wait for that build, then record it.

The sensor succeeds when the *dataset* is rebuilt. To wait for predictions that are built from it, see
`faraday_predictions_to_warehouse`.

Immediately after the request, the dataset still has the status `ready` from its previous build. With
`requested_at`, the time of the request by Faraday's clock, the sensor ignores earlier builds.

The sensor's outlet is the asset that represents the dataset. The asset event has the time and row count of
the build, and starts DAGs that are scheduled on the asset.

Requires two Airflow connections: `faraday_default` (type Faraday) and `warehouse_default` (type SQLite here,
but any SQL database works).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, chain
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_faraday.assets.datasets import dataset_asset
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

WAREHOUSE = "warehouse_default"
ORDERS = "d0000000-0000-4000-8000-000000000002"

with DAG(
    dag_id="faraday_refresh_and_wait",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    tags=["faraday", "example"],
):
    load_new_orders = SQLExecuteQueryOperator(
        task_id="load_new_orders",
        conn_id=WAREHOUSE,
        sql=[
            "CREATE TABLE IF NOT EXISTS new_orders (order_id INTEGER, loaded_by VARCHAR(250))",
            "INSERT INTO new_orders SELECT COUNT(*) + 1, '{{ run_id }}' FROM new_orders",
        ],
        execution_timeout=timedelta(hours=1),
    )

    force_update = ForceUpdateDatasetsOperator(
        task_id="force_update", datasets=[ORDERS], execution_timeout=timedelta(minutes=10)
    )

    # ForceUpdateDatasetsOperator(…, wait_for_completion=True) combines these two tasks.
    wait_for_that_build = DatasetsReadySensor(
        task_id="wait_for_that_build",
        datasets=force_update.output["datasets"],
        updated_after=force_update.output["requested_at"],
        fields=["id", "name", "row_count", "last_updated_output_at"],
        # The sandbox builds in seconds. For Faraday, 60 is enough.
        poke_interval=2,
        timeout=timedelta(hours=6).total_seconds(),
        # Frees the worker slot. Deferred sensors that wait for the same list share one request per interval.
        deferrable=True,
        outlets=[dataset_asset(ORDERS, name="orders (Faraday)")],
    )

    load_onward = SQLExecuteQueryOperator(
        task_id="load_onward",
        conn_id=WAREHOUSE,
        sql=[
            "CREATE TABLE IF NOT EXISTS builds (last_updated_output_at VARCHAR(40), row_count INTEGER)",
            """
            {% for dataset in ti.xcom_pull(task_ids='wait_for_that_build') %}
            INSERT INTO builds VALUES ('{{ dataset.last_updated_output_at }}', {{ dataset.row_count }})
            {% endfor %}
            """,
        ],
        execution_timeout=timedelta(hours=1),
    )

    chain(load_new_orders, force_update)
    chain(wait_for_that_build, load_onward)
