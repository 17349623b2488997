"""OpenLineage events of real ``airflow dags test`` runs, read by OpenLineage's own client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import local_airflow
from airflow_provider_faraday.sandbox import Sandbox
from support.forks import LOAD_AIRFLOW, RUN_AIRFLOW, forking
from support.ids import CUSTOMERS, FILES, RETURNS, TARGET, UPLOADS, WEB_ORDERS
from support.lineage import named, read_events
from support.run_dag import AIRFLOW_3_0

if TYPE_CHECKING:
    from pathlib import Path

    from openlineage.client.event_v2 import RunEvent

DATASET = f"faraday datasets/{WEB_ORDERS}"
DIRECTORY = "faraday uploads/web_orders"
PREDICTIONS = f"faraday targets/{TARGET}"
DAGS = f"""
import os

from airflow.providers.common.compat.sdk import DAG, Asset, chain
from airflow_provider_faraday.assets.datasets import dataset_asset
from airflow_provider_faraday.assets.resources import resource_asset
from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
    ListConnectionDatasetsOperator,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from airflow_provider_faraday.transfers.targets import DownloadTargetOperator
from airflow_provider_faraday.transfers.uploads import UploadFileOperator

FILES = os.environ["LINEAGE_FILES"]

with DAG("whole_way", schedule=None):
    path = f"file://{{FILES}}/web_orders.csv"
    upload = UploadFileOperator(task_id="upload", path=path, directory="web_orders")
    refresh = ForceUpdateDatasetsOperator(task_id="refresh", datasets=["{WEB_ORDERS}"])
    wait = TargetsReadySensor(
        task_id="wait",
        targets=["{TARGET}"],
        include_upstream=True,
        updated_after=refresh.output["requested_at"],
        poke_interval=0.2,
        deferrable=True,
        inlets=[dataset_asset("{CUSTOMERS}"), Asset(uri=f"file://{{FILES}}/settings.csv")],
        outlets=[resource_asset("targets", "{TARGET}"), Asset(uri=f"file://{{FILES}}/report.csv")],
    )
    listed = ListConnectionDatasetsOperator(task_id="listed", connection_id="{FILES}")
    mapped = DatasetsReadySensor.partial(task_id="mapped", mode="reschedule").expand(datasets=listed.output)
    path = f"file://{{FILES}}/out.csv"
    download = DownloadTargetOperator(task_id="download", target_id="{TARGET}", path=path)
    chain(upload, refresh, wait, listed, mapped, download)

with DAG("failing", schedule=None):
    DatasetsReadySensor(task_id="fails", connection_id="{UPLOADS}")
"""


def run_dags(home: Path, sandbox: Sandbox) -> dict[str, RunEvent]:
    """Run both DAGs, and return the last event of each task."""
    dags, sent = home / "dags", home / "events.jsonl"
    dags.mkdir()
    (dags / "lineage.py").write_text(DAGS)
    (home / "web_orders.csv").write_text("order_id,email,total_cents,ordered_at\n1,,5,2026-11-01\n")
    env = local_airflow.environment(home, dags, {"faraday_default": sandbox.airflow_connection})
    transport = {"type": "file", "log_file_path": str(sent), "append": True}
    env |= {"LINEAGE_FILES": str(home), "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}
    with forking(LOAD_AIRFLOW, env) as run_program:
        if AIRFLOW_3_0:
            # Its `dags test` rejects outlets of a DAG that is not in the metadata database.
            run_program(RUN_AIRFLOW.format(env=env, arguments=("dags", "reserialize")))
        for dag_id in ("whole_way", "failing"):
            run_program(RUN_AIRFLOW.format(env=env, arguments=("dags", "test", dag_id)))
    assert sandbox.api_key not in sent.read_text()
    return {event.job.name.partition(".")[2]: event for event in read_events(sent)}


def names(event: RunEvent) -> tuple[list[str], list[str]]:
    return list(named(event.inputs)), list(named(event.outputs))


def version(dataset: Any) -> str:
    found: str = dataset.facets["version"].datasetVersion
    return found


def edges(event: RunEvent) -> set[tuple[str, str]]:
    """Return which dataset is built from which, upstream first."""
    entries = (event.job.facets or {})["lineage"].entries
    return {(source["name"], entry["name"]) for entry in entries for source in entry["inputs"]}


@pytest.mark.timeout(290)
def test_events_connect_the_uploaded_file_with_the_downloaded_one(another_airflow_home: Path) -> None:
    home = another_airflow_home
    with Sandbox(speed=20, age=3600) as sandbox:
        sandbox.set_dataset(RETURNS, status="error", status_error="No such column")
        last = run_dags(home, sandbox)
        target = sandbox.resource("targets", TARGET)

    assert names(last["upload"]) == ([f"file {home}/web_orders.csv"], [DIRECTORY])
    assert names(last["refresh"]) == ([DIRECTORY], [DATASET])
    assert names(last["listed"]) == ([DATASET], [])
    assert names(last["mapped"]) == ([DIRECTORY], [DATASET])
    assert edges(last["mapped"]) == {("uploads/web_orders", f"datasets/{WEB_ORDERS}")}
    assert names(last["download"]) == ([PREDICTIONS], [f"file {home}/out.csv"])

    # A deferred wait reports the build, the edges, and its inlets and outlets.
    inputs, outputs = named(last["wait"].inputs), named(last["wait"].outputs)
    assert list(outputs) == [PREDICTIONS, f"file {home}/report.csv"]
    assert version(outputs[PREDICTIONS]) == target["last_updated_output_at"]
    assert outputs[PREDICTIONS].outputFacets["outputStatistics"].rowCount == target["count"]
    assert f"file {home}/settings.csv" in inputs
    assert version(inputs[DATASET]) > version(inputs[f"faraday datasets/{CUSTOMERS}"])
    assert (f"connections/{FILES}", f"datasets/{WEB_ORDERS}") in edges(last["wait"])

    # A failure has Faraday's reason.
    failure = last["fails"]
    assert failure.eventType
    assert failure.eventType.value == "FAIL"
    assert names(failure)[1] == [f"faraday datasets/{RETURNS}"]
    assert "No such column" in (failure.run.facets or {})["errorMessage"].message
