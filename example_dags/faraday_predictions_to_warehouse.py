"""Upload tonight's orders to Faraday, wait until the new predictions are delivered, and load them.

    extract -> upload -> force_update -> wait_for_predictions -> download -> load -> check_row_count

The sensor waits for a *target*. It succeeds when Faraday has delivered predictions that are built from the
file. With `include_upstream`, it also waits for everything between the dataset and the target: streams,
cohorts, outcomes and the scope.

Requires two Airflow connections: `faraday_default` (type Faraday) and `warehouse_default` (type SQLite here,
but any SQL database works). The files are in the directory of the Airflow variable `faraday_files`.
"""

from __future__ import annotations

import csv
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, BaseHook, ObjectStoragePath, chain, task
from airflow.providers.common.sql.operators.sql import SQLValueCheckOperator

from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from airflow_provider_faraday.transfers.targets import DownloadTargetOperator
from airflow_provider_faraday.transfers.uploads import UploadFileOperator

WAREHOUSE = "warehouse_default"
# Any object storage of Airflow works, such as "s3://aws_default@bucket/faraday".
FILES = "{{ var.value.get('faraday_files', 'file:///tmp/faraday_files') }}"

# The dataset that reads the uploaded files, and the target that delivers the predictions.
WEB_ORDERS = "d0000000-0000-4000-8000-000000000007"
LIKELY_BUYERS = "70000000-0000-4000-8000-000000000001"

# The columns of the target to load.
COLUMNS = ["person_id", "probability", "percentile"]

with DAG(
    dag_id="faraday_predictions_to_warehouse",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    # Concurrent runs would write to the same files and table.
    max_active_runs=1,
    default_args={
        "retries": 1,
        "retry_delay": timedelta(seconds=10),
        "execution_timeout": timedelta(hours=1),
    },
    tags=["faraday", "example"],
):

    @task
    def extract(path: str) -> str:
        """Write the orders to a CSV file, and return its path. Replace this with a query of your database."""
        orders = [(f"W-{n}", f"customer{n % 97}@example.com", 1000 + n % 500) for n in range(700)]
        file = ObjectStoragePath(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w") as text:
            csv.writer(text).writerows([("order_id", "email", "total_cents"), *orders])
        return path

    upload = UploadFileOperator(
        task_id="upload",
        path=extract(f"{FILES}/web_orders.csv"),
        directory="web_orders",
        # A typo in the directory fails the task.
        require_dataset=True,
    )

    # Faraday probably detects the upload, but does not promise to. Downstream resources are rebuilt
    # automatically.
    force_update = ForceUpdateDatasetsOperator(
        task_id="force_update",
        datasets=[WEB_ORDERS],
    )

    wait_for_predictions = TargetsReadySensor(
        task_id="wait_for_predictions",
        targets=[LIKELY_BUYERS],
        include_upstream=True,
        # Excludes yesterday's predictions: at first, the target still has the status "ready" from their
        # build.
        updated_after=upload.output["updated_after"],
        # If Faraday detects no changes in tonight's orders, it does not rebuild the target.
        unchanged_after=timedelta(minutes=30).total_seconds(),
        checks={"count": {"greater_than": 0}},
        fields=["id", "name", "count", "last_updated_output_at"],
        # The sandbox builds in seconds. For Faraday, 60 is enough.
        poke_interval=2,
        # Limits the wait. On Airflow 2, an execution_timeout would also limit it.
        timeout=timedelta(hours=6).total_seconds(),
        execution_timeout=None,
        # Frees the worker slot. Deferred sensors that wait for the same list share one request per interval.
        deferrable=True,
    )

    download = DownloadTargetOperator(
        task_id="download",
        target_id=LIKELY_BUYERS,
        path=f"{FILES}/likely_buyers.csv",
    )

    @task
    def load(path: str) -> None:
        """Replace the table of predictions. For large files, use your warehouse's own bulk load."""
        warehouse = BaseHook.get_hook(WAREHOUSE)
        definitions = ", ".join(f"{column} VARCHAR(255)" for column in COLUMNS)
        warehouse.run(["DROP TABLE IF EXISTS likely_buyers", f"CREATE TABLE likely_buyers ({definitions})"])
        with ObjectStoragePath(path).open("r", newline="") as file:
            # readlines(): the files of older Airflow versions cannot be iterated.
            found = csv.DictReader(file.readlines())
        rows = [[row[column] for column in COLUMNS] for row in found]
        warehouse.insert_rows("likely_buyers", rows, target_fields=COLUMNS, executemany=True)

    check_row_count = SQLValueCheckOperator(
        task_id="check_row_count",
        conn_id=WAREHOUSE,
        sql="SELECT COUNT(*) FROM likely_buyers",
        pass_value=download.output["count"],
    )

    chain(
        upload, force_update, wait_for_predictions, download, load(download.output["path"]), check_row_count
    )
