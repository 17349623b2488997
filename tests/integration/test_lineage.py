"""OpenLineage events of real ``airflow dags test`` runs, read by OpenLineage's own client."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import local_airflow
from airflow_provider_faraday.sandbox import Sandbox
from support.forks import LOAD_AIRFLOW, RUN_AIRFLOW, forking
from support.ids import CUSTOMERS, FILES, RETURNS, TARGET, UPLOADS, WEB_ORDERS
from support.lineage import named, read_events
from support.run_dag import AIRFLOW_3_0

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Run:
    """The events of both DAGs, and Faraday's side of them."""

    def __init__(self, events: list[RunEvent], target: dict[str, Any], files: Path) -> None:
        self.events = events
        self.target = target
        self.files = files

    def last(self, job: str) -> RunEvent:
        """Return the last event of a task."""
        return [event for event in self.events if event.job.name == job][-1]


@pytest.fixture(scope="module")
def run(airflow_home: Path, shared_directory: Callable[..., Path]) -> Run:
    def run_dags(home: Path) -> None:
        shutil.copy(airflow_home / "migrated.db", home / "airflow.db")
        files, dags, events = home / "files", home / "dags", home / "events.jsonl"
        files.mkdir()
        dags.mkdir()
        (files / "web_orders.csv").write_text("order_id,email,total_cents,ordered_at\n1,,5,2026-11-01\n")
        (dags / "lineage.py").write_text(DAGS)
        with Sandbox(speed=20) as sandbox:
            sandbox.advance(60)
            sandbox.set_dataset(RETURNS, status="error", status_error="No such column")
            connection = {"conn_type": "faraday", "host": sandbox.url, "password": sandbox.api_key}
            env = local_airflow.environment(home, dags, {"faraday_default": connection})
            transport = {"type": "file", "log_file_path": str(events), "append": True}
            env |= {"LINEAGE_FILES": str(files), "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}
            with forking(LOAD_AIRFLOW, env) as run_program:
                if AIRFLOW_3_0:
                    # Its `dags test` rejects outlets of a DAG that is not in the metadata database.
                    run_program(RUN_AIRFLOW.format(env=env, arguments=("dags", "reserialize")))
                for dag_id in ("whole_way", "failing"):
                    run_program(RUN_AIRFLOW.format(env=env, arguments=("dags", "test", dag_id)))
            assert sandbox.api_key not in events.read_text()
            (home / "target.json").write_text(json.dumps(sandbox.resource("targets", TARGET)))

    home = shared_directory("lineage", run_dags)
    target = json.loads((home / "target.json").read_text())
    return Run(read_events(home / "events.jsonl"), target, home / "files")


def version(dataset: Any) -> str:
    found: str = dataset.facets["version"].datasetVersion
    return found


@pytest.mark.timeout(290)
def test_the_tasks_connect_the_uploaded_file_with_the_downloaded_one(run: Run) -> None:
    steps = {}
    for task in ("upload", "refresh", "wait", "mapped", "download"):
        event = run.last(f"whole_way.{task}")
        assert event.eventType
        assert event.eventType.value == "COMPLETE"
        steps[task] = (named(event.inputs), named(event.outputs))

    file = f"file {run.files}/web_orders.csv"
    assert (list(steps["upload"][0]), list(steps["upload"][1])) == ([file], [DIRECTORY])
    assert (list(steps["refresh"][0]), list(steps["refresh"][1])) == ([DIRECTORY], [DATASET])
    assert DATASET in steps["wait"][0]
    assert PREDICTIONS in steps["wait"][1]
    assert (list(steps["mapped"][0]), list(steps["mapped"][1])) == ([DIRECTORY], [DATASET])
    assert (list(steps["download"][0]), list(steps["download"][1])) == (
        [PREDICTIONS],
        [f"file {run.files}/out.csv"],
    )


def test_a_deferred_wait_reports_the_build_the_edges_and_its_inlets_and_outlets(run: Run) -> None:
    event = run.last("whole_way.wait")
    inputs, outputs = named(event.inputs), named(event.outputs)

    assert list(outputs) == [PREDICTIONS, f"file {run.files}/report.csv"]
    assert version(outputs[PREDICTIONS]) == run.target["last_updated_output_at"]
    assert outputs[PREDICTIONS].outputFacets["outputStatistics"].rowCount == run.target["count"]
    assert f"file {run.files}/settings.csv" in inputs
    assert version(inputs[DATASET]) > version(inputs[f"faraday datasets/{CUSTOMERS}"])
    entries = (event.job.facets or {})["lineage"].entries
    edges = {(source["name"], entry["name"]) for entry in entries for source in entry["inputs"]}
    assert (f"connections/{FILES}", f"datasets/{WEB_ORDERS}") in edges
    assert any(downstream == f"targets/{TARGET}" for _, downstream in edges)


def test_a_list_operator_reports_columns_and_rows(run: Run) -> None:
    (dataset,) = run.last("whole_way.listed").inputs or ()

    facets: Any = dataset.facets
    columns = [(field["name"], field["type"]) for field in facets["schema"].fields]
    assert columns[:2] == [("order_id", "text"), ("email", "text")]
    assert version(dataset)
    assert (dataset.inputFacets or {})["dataQualityMetrics"].rowCount == 1


def test_a_failure_has_faradays_reason(run: Run) -> None:
    event = run.last("failing.fails")

    assert event.eventType
    assert event.eventType.value == "FAIL"
    assert list(named(event.outputs)) == [f"faraday datasets/{RETURNS}"]
    assert "No such column" in (event.run.facets or {})["errorMessage"].message
