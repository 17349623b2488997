"""What tasks report to OpenLineage, called as Airflow calls it: Airflow hides the exceptions."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException, ObjectStoragePath

from airflow_provider_faraday import lineage
from airflow_provider_faraday.api.graph import Graph, decode_edges
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.api.responses import Response
from airflow_provider_faraday.exceptions import (
    FaradayAuthenticationError,
    ResourcesFailedError,
)
from airflow_provider_faraday.facets import to_openlineage
from airflow_provider_faraday.lineage import Lineage, file_node, resource_node
from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
)
from airflow_provider_faraday.operators.resources import ListResourcesOperator
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from airflow_provider_faraday.transfers.targets import DownloadTargetOperator
from airflow_provider_faraday.transfers.uploads import UploadFileOperator
from airflow_provider_faraday.waiting.source import Source
from support.graphs import chain, node
from support.ids import (
    CUSTOMER_COHORT,
    CUSTOMERS,
    FILES,
    LEGACY_ORDERS,
    ORDERS,
    RETURNS,
    TARGET,
    WEB_BUYERS,
    WEB_ORDERS,
)
from support.lineage import named

pytestmark = pytest.mark.usefixtures("faraday_default")

DIRECTORY = "faraday uploads/web_orders"
DATASET = f"faraday datasets/{WEB_ORDERS}"
FIRST: Any = {"task_reschedule_count": 0}


@pytest.fixture
def built(sandbox: Sandbox) -> Sandbox:
    """Return the sandbox after its first builds."""
    sandbox.advance(60)
    return sandbox


class Reported:
    """What a task reports.

    :param method: the method that Airflow calls.
    """

    def __init__(self, task: Any, method: str = "complete") -> None:
        found = getattr(task, f"get_openlineage_facets_on_{method}")(None)
        self.inputs, self.outputs = named(found.inputs), named(found.outputs)


def after(task: Any) -> Reported:
    task.execute(FIRST)
    return Reported(task)


def after_failure(task: Any, error: type[Exception]) -> Reported:
    with pytest.raises(error):
        task.execute(FIRST)
    return Reported(task, "failure")


def columns(dataset: Any) -> list[tuple[str, str]]:
    return [(field.name, field.type) for field in dataset.facets["schema"].fields]


def version(dataset: Any) -> str | None:
    facet = dataset.facets.get("version")
    return facet and facet.datasetVersion


# Tasks that succeed.


def test_what_is_reported_does_not_depend_on_the_fields_that_are_returned(built: Sandbox) -> None:
    reported = after(ListResourcesOperator(task_id="list", resource_type="scopes", fields=["id"]))

    (scope,) = reported.inputs.values()
    assert version(scope) == built.resources("scopes")[0]["last_updated_output_at"]
    assert reported.outputs == {}


def test_reporting_sends_no_requests(built: Sandbox) -> None:
    task = TargetsReadySensor(task_id="wait", targets=[TARGET], include_upstream=True)
    task.execute(FIRST)
    built.clear_requests()

    assert Reported(task).outputs
    assert Reported(task, "failure").outputs
    assert built.requests() == []


def test_a_force_update_writes_datasets_whose_new_build_is_not_known_yet(built: Sandbox) -> None:
    reported = after(ForceUpdateDatasetsOperator(task_id="refresh", datasets=[WEB_ORDERS, LEGACY_ORDERS]))

    assert list(reported.outputs) == [DATASET]
    assert reported.outputs[DATASET].facets["documentation"].description == "Faraday dataset 'web_orders'"
    assert columns(reported.outputs[DATASET])[0] == ("order_id", "text")
    assert version(reported.outputs[DATASET]) is None
    assert reported.outputs[DATASET].outputFacets == {}


def test_a_force_update_that_waits_reports_the_new_build(built: Sandbox) -> None:
    before = built.dataset(WEB_ORDERS)["last_updated_output_at"]

    reported = after(
        ForceUpdateDatasetsOperator(
            task_id="refresh", datasets=[WEB_ORDERS], wait_for_completion=True, poke_interval=0.05
        )
    )

    dataset = built.dataset(WEB_ORDERS)
    assert version(reported.outputs[DATASET]) == dataset["last_updated_output_at"] != before
    assert reported.outputs[DATASET].outputFacets["outputStatistics"].rowCount == dataset["row_count"]


@pytest.mark.once
def test_a_waited_resource_is_no_input_even_if_another_one_is_built_from_it() -> None:
    all_buyers, web_buyers = node(CUSTOMER_COHORT, "cohorts"), node(WEB_BUYERS, "cohorts")
    archived = node(LEGACY_ORDERS, "datasets", archived_at="2026-01-01T00:00:00Z")
    sent = [*chain(node(ORDERS, "datasets"), all_buyers, web_buyers), *chain(archived, all_buyers)]
    wait: Any = SimpleNamespace(
        source=Source(RESOURCE_TYPES["cohorts"], ids=(CUSTOMER_COHORT, WEB_BUYERS)),
        polled=[all_buyers, web_buyers],
        is_ready=True,
        graph=Graph(decode_edges(Response(200, {}, json.dumps(sent).encode()))),
    )

    found = lineage.wait_lineage(wait)

    assert [(each.name, each.version) for each in found.inputs] == [
        (f"datasets/{ORDERS}", "2026-01-02T00:00:00Z")
    ]
    assert [each.name for each in found.outputs] == [f"cohorts/{CUSTOMER_COHORT}", f"cohorts/{WEB_BUYERS}"]
    assert {(upstream.name, downstream.name) for upstream, downstream in found.edges} == {
        (f"datasets/{ORDERS}", f"cohorts/{CUSTOMER_COHORT}"),
        (f"cohorts/{CUSTOMER_COHORT}", f"cohorts/{WEB_BUYERS}"),
    }


# Tasks that fail or are skipped.


def test_a_failure_reports_the_resources_without_a_build(built: Sandbox) -> None:
    built.set_dataset(WEB_ORDERS, status="error")

    reported = after_failure(DatasetsReadySensor(task_id="wait", connection_id=FILES), ResourcesFailedError)

    assert list(reported.inputs) == [DIRECTORY]
    assert columns(reported.outputs[DATASET])
    assert version(reported.outputs[DATASET]) is None
    assert reported.outputs[DATASET].outputFacets == {}


@pytest.mark.parametrize(
    ("source", "outputs"), [({"datasets": [RETURNS]}, [RETURNS]), ({"connection_id": FILES}, [])]
)
def test_a_task_that_the_triggerer_failed_reports_what_it_knows(
    sandbox: Sandbox, source: dict[str, Any], outputs: list[str]
) -> None:
    task = DatasetsReadySensor(task_id="wait", deferrable=True, **source)

    with pytest.raises(ResourcesFailedError):
        task.execute_complete({}, {"status": "failed", "kind": "failed", "message": "No such column"})

    assert list(Reported(task, "failure").outputs) == [f"faraday datasets/{id_}" for id_ in outputs]
    assert sandbox.requests() == []


def test_a_task_that_has_fetched_nothing_reports_nothing(faraday_default: Callable[..., None]) -> None:
    faraday_default(password="wrong")
    for task in (
        ForceUpdateDatasetsOperator(task_id="t", connection_id=FILES),
        DatasetsReadySensor(task_id="t", connection_id=FILES),
        DownloadTargetOperator(task_id="t", target_id="a name", path="x.csv"),
    ):
        reported = after_failure(task, FaradayAuthenticationError)
        assert (reported.inputs, reported.outputs) == ({}, {})


def test_a_skipped_sensor_reports_no_builds(built: Sandbox) -> None:
    built.set_dataset(WEB_ORDERS, status="error")
    sensor = DatasetsReadySensor(task_id="wait", connection_id=FILES, soft_fail=True)

    assert after_failure(sensor, AirflowSkipException).outputs == {}


# Files.


def test_an_upload_that_is_skipped_writes_nothing(built: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "web_orders.csv"
    file.write_text("order_id\n1\n")

    def upload() -> Reported:
        return after(UploadFileOperator(task_id="upload", path=str(file), directory="web_orders"))

    sent, skipped = upload(), upload()

    assert sent.inputs[f"file {file}"].inputFacets["inputStatistics"].size == 11
    assert sent.outputs[DIRECTORY].outputFacets["outputStatistics"].size == 11
    assert skipped.inputs[f"file {file}"].inputFacets["inputStatistics"].size == 11
    assert skipped.outputs[DIRECTORY].outputFacets == {}


def test_a_download_reads_the_target_and_writes_the_file(built: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "predictions.csv"

    reported = after(DownloadTargetOperator(task_id="download", target_id=TARGET, path=f"file://{file}"))

    target = built.resource("targets", TARGET)
    (found,) = reported.inputs.values()
    assert (found.name, version(found)) == (f"targets/{TARGET}", target["last_updated_output_at"])
    assert found.inputFacets["dataQualityMetrics"].rowCount == target["count"]
    written = reported.outputs[f"file {file}"].outputFacets["outputStatistics"]
    assert (written.rowCount, written.size, written.fileCount) == (target["count"], file.stat().st_size, 1)


@pytest.mark.once
@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("s3://aws_default@bucket/in/orders #1.csv", "s3://bucket", "in/orders #1.csv"),
        ("s3a://bucket/orders.csv", "s3://bucket", "orders.csv"),
        ("gcs://bucket/orders.csv", "gs://bucket", "orders.csv"),
        ("hdfs://namenode:8020/in/orders.csv", "hdfs://namenode:8020", "in/orders.csv"),
        ("/in/orders.csv", "file", "/in/orders.csv"),
        (ObjectStoragePath("file:///in/orders.csv"), "file", "/in/orders.csv"),
    ],
    ids=str,
)
def test_files_are_named_as_openlineage_specifies(path: object, namespace: str, name: str) -> None:
    node = file_node(path)

    assert (node.namespace, node.name) == (namespace, name)


# OpenLineage's facets.


def converted(**fields: Any) -> Any:
    """Return the input of a task that has read a dataset."""
    task = SimpleNamespace(inlets=[], outlets=[], log=logging.getLogger("task"))
    dataset = {"id": CUSTOMERS, "last_updated_output_at": "2026-01-02T00:00:00Z", **fields}
    (found,) = to_openlineage(task, Lineage(inputs=[resource_node("datasets", dataset)])).inputs
    return found


@pytest.mark.once
def test_types_that_are_objects_are_shown_by_their_names() -> None:
    for data_type, shown in (
        ({}, None),
        ({"type": "map"}, "map"),
        ({"type": "int", "logicalType": "date"}, "date"),
    ):
        assert columns(converted(detected_columns=[{"name": "x", "data_type": data_type}])) == [("x", shown)]


@pytest.mark.once
def test_more_columns_than_can_be_sent_in_time_are_not_listed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    found = converted(detected_columns=[{"name": "x"}] * (lineage.MAX_COLUMNS + 1))
    assert "schema" not in found.facets
    assert version(found)
    assert "does not list the columns" in caplog.text
