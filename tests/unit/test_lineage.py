"""What tasks report to OpenLineage, called as Airflow calls it: Airflow hides the exceptions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from airflow.providers.common.compat.openlineage.utils.utils import translate_airflow_asset
from airflow.providers.common.compat.sdk import AirflowSkipException, Asset, ObjectStoragePath, TaskDeferred

from airflow_provider_faraday import lineage
from airflow_provider_faraday.api.graph import Edge, Graph
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.assets.datasets import dataset_asset
from airflow_provider_faraday.assets.resources import resource_asset
from airflow_provider_faraday.exceptions import FaradayAuthenticationError, ResourcesFailedError
from airflow_provider_faraday.lineage import file_node
from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
    ListConnectionDatasetsOperator,
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
    WAREHOUSE,
    WEB_BUYERS,
    WEB_ORDERS,
)
from support.lineage import HAS_EDGES, edges_of, named

pytestmark = pytest.mark.usefixtures("faraday_default")

DIRECTORY = "faraday uploads/web_orders"
DATASET = f"faraday datasets/{WEB_ORDERS}"
FIRST: Any = {"task_reschedule_count": 0}


@pytest.fixture
def settled(sandbox: Sandbox) -> Sandbox:
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
        self.edges = edges_of(found.job_facets)


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


def expected_columns(dataset: dict[str, Any]) -> list[tuple[str, str]]:
    return [(column["name"], column["data_type"]) for column in dataset["detected_columns"]]


def test_a_list_operator_reads_what_it_lists(settled: Sandbox) -> None:
    reported = after(ListConnectionDatasetsOperator(task_id="list", connection_id=WAREHOUSE))

    assert reported.outputs == {}
    assert len(reported.inputs) == 5
    found, dataset = reported.inputs[f"faraday datasets/{ORDERS}"], settled.dataset(ORDERS)
    assert found.facets["documentation"].description == "Faraday dataset 'orders'"
    assert columns(found) == expected_columns(dataset)
    assert version(found) == dataset["last_updated_output_at"]
    assert found.inputFacets["dataQualityMetrics"].rowCount == dataset["row_count"]


def test_what_is_reported_does_not_depend_on_the_fields_that_are_returned(settled: Sandbox) -> None:
    reported = after(ListResourcesOperator(task_id="list", resource_type="scopes", fields=["id"]))

    (scope,) = reported.inputs.values()
    assert version(scope) == settled.resources("scopes")[0]["last_updated_output_at"]


def test_reporting_sends_no_requests(settled: Sandbox) -> None:
    task = TargetsReadySensor(task_id="wait", targets=[TARGET], include_upstream=True)
    task.execute(FIRST)
    settled.clear_requests()

    assert Reported(task).outputs
    assert Reported(task, "failure").outputs
    assert settled.requests() == []


def test_a_force_update_writes_datasets_whose_new_build_is_not_known_yet(settled: Sandbox) -> None:
    reported = after(ForceUpdateDatasetsOperator(task_id="refresh", connection_id=FILES))

    assert list(reported.outputs) == [DATASET]
    assert columns(reported.outputs[DATASET]) == expected_columns(settled.dataset(WEB_ORDERS))
    assert version(reported.outputs[DATASET]) is None
    assert reported.outputs[DATASET].outputFacets == {}


def test_a_force_update_that_waits_reports_the_new_build(settled: Sandbox) -> None:
    before = settled.dataset(WEB_ORDERS)["last_updated_output_at"]

    reported = after(
        ForceUpdateDatasetsOperator(
            task_id="refresh", datasets=[WEB_ORDERS], wait_for_completion=True, poke_interval=0.05, timeout=30
        )
    )

    dataset = settled.dataset(WEB_ORDERS)
    assert version(reported.outputs[DATASET]) == dataset["last_updated_output_at"] != before
    assert reported.outputs[DATASET].outputFacets["outputStatistics"].rowCount == dataset["row_count"]


def test_archived_datasets_are_neither_updated_nor_reported(settled: Sandbox) -> None:
    reported = after(ForceUpdateDatasetsOperator(task_id="refresh", datasets=[CUSTOMERS, LEGACY_ORDERS]))

    assert list(reported.outputs) == [f"faraday datasets/{CUSTOMERS}"]


def test_a_dataset_is_built_from_its_upload_directory(settled: Sandbox) -> None:
    reported = after(DatasetsReadySensor(task_id="wait", datasets=[WEB_ORDERS]))

    assert list(reported.inputs) == [DIRECTORY]
    assert list(reported.outputs) == [DATASET]
    assert reported.edges == ({("uploads/web_orders", f"datasets/{WEB_ORDERS}")} if HAS_EDGES else set())


def test_a_sensor_reports_the_builds_that_it_has_waited_for(settled: Sandbox) -> None:
    reported = after(TargetsReadySensor(task_id="wait", targets=[TARGET]))

    target = settled.resource("targets", TARGET)
    (found,) = reported.outputs.values()
    assert reported.inputs == {}
    assert (found.name, version(found)) == (f"targets/{TARGET}", target["last_updated_output_at"])
    assert found.outputFacets["outputStatistics"].rowCount == target["count"]


def test_include_upstream_reports_the_edges_of_the_graph(settled: Sandbox) -> None:
    reported = after(TargetsReadySensor(task_id="wait", targets=[TARGET], include_upstream=True))

    builds: dict[str, str | None] = {}
    edges: dict[str, set[str]] = {}
    for edge in settled.graph():
        upstream, downstream = (
            f"{edge[f'{side}_type']}/{edge[f'{side}_id']}" for side in ("upstream", "downstream")
        )
        edges.setdefault(downstream, set()).add(upstream)
        builds[upstream] = edge["upstream_last_updated_output_at"]
    pending, expected = [f"targets/{TARGET}"], set()
    while pending:
        downstream = pending.pop()
        expected |= {(upstream, downstream) for upstream in edges.get(downstream, ())}
        pending += edges.get(downstream, ())
    assert len(expected) > 10
    assert reported.edges == (expected if HAS_EDGES else set())
    assert {found.name: version(found) for found in reported.inputs.values()} == {
        upstream: builds[upstream] for upstream, _ in expected
    }
    assert list(reported.outputs) == [f"faraday targets/{TARGET}"]


@pytest.mark.once
def test_a_waited_resource_is_no_input_even_if_another_one_is_built_from_it() -> None:
    all_buyers, web_buyers = node(CUSTOMER_COHORT, "cohorts"), node(WEB_BUYERS, "cohorts")
    archived = node(LEGACY_ORDERS, "datasets", archived_at="2026-01-01T00:00:00Z")
    sent = [*chain(node(ORDERS, "datasets"), all_buyers, web_buyers), *chain(archived, all_buyers)]
    edges = msgspec.convert(sent, list[Edge])
    wait: Any = SimpleNamespace(
        source=Source(RESOURCE_TYPES["cohorts"], ids=(CUSTOMER_COHORT, WEB_BUYERS)),
        polled=[all_buyers, web_buyers],
        ready=("any",),
        graph=Graph(edges),
    )

    found = lineage.wait_lineage(wait)

    assert [each.name for each in found.inputs] == [f"datasets/{ORDERS}"]
    assert [each.name for each in found.outputs] == [f"cohorts/{CUSTOMER_COHORT}", f"cohorts/{WEB_BUYERS}"]
    assert {(upstream.name, downstream.name) for upstream, downstream in found.edges} == {
        (f"datasets/{ORDERS}", f"cohorts/{CUSTOMER_COHORT}"),
        (f"cohorts/{CUSTOMER_COHORT}", f"cohorts/{WEB_BUYERS}"),
    }


def test_a_failure_reports_the_resources_without_a_build(settled: Sandbox) -> None:
    settled.set_dataset(WEB_ORDERS, status="error", status_error="No such column")

    reported = after_failure(
        DatasetsReadySensor(task_id="wait", connection_id=FILES), error=ResourcesFailedError
    )

    assert list(reported.inputs) == [DIRECTORY]
    assert columns(reported.outputs[DATASET]) == expected_columns(settled.dataset(WEB_ORDERS))
    assert version(reported.outputs[DATASET]) is None
    assert reported.outputs[DATASET].outputFacets == {}


def test_a_failure_upstream_reports_where_it_happened(settled: Sandbox) -> None:
    settled.set_dataset(WEB_ORDERS, status="error", status_error="No such column")

    reported = after_failure(
        TargetsReadySensor(task_id="wait", targets=[TARGET], include_upstream=True),
        error=ResourcesFailedError,
    )

    assert DATASET in reported.inputs
    assert list(reported.outputs) == [f"faraday targets/{TARGET}"]


def test_a_timeout_of_a_sensor_reports_the_resources_by_id(settled: Sandbox) -> None:
    settled.set_dataset(WEB_ORDERS, status="running")
    sensor = DatasetsReadySensor(task_id="wait", datasets=[WEB_ORDERS], timeout=0.1, poke_interval=0.05)

    reported = after_failure(sensor, error=Exception)

    assert list(reported.outputs) == [DATASET]
    assert reported.outputs[DATASET].facets == {}


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


def test_a_resumed_task_reports_what_it_has_fetched(settled: Sandbox) -> None:
    settled.set_resource("targets", TARGET, status="running")
    first = TargetsReadySensor(task_id="wait", targets=[TARGET], include_upstream=True, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        first.execute(FIRST)
    settled.set_resource("targets", TARGET, status="ready")
    wait: Any = deferred.value.kwargs
    event = {"status": "ready", "criteria": wait["wait"]["criteria"], "deadline": wait["wait"]["deadline"]}
    task = TargetsReadySensor(task_id="wait", targets=[TARGET], include_upstream=True, deferrable=True)
    task.execute_complete({}, event, **wait)

    reported = Reported(task)
    (target,) = reported.outputs.values()
    assert version(target) == settled.resource("targets", TARGET)["last_updated_output_at"]
    assert DATASET in reported.inputs


@pytest.mark.parametrize(
    "task",
    [
        lambda: ListConnectionDatasetsOperator(task_id="list", connection_id=FILES),
        lambda: ForceUpdateDatasetsOperator(task_id="refresh", connection_id=FILES),
        lambda: DatasetsReadySensor(task_id="wait", connection_id=FILES),
    ],
)
def test_a_task_that_has_fetched_nothing_reports_nothing(
    task: Callable[[], Any], faraday_default: Callable[..., None]
) -> None:
    faraday_default(password="wrong")

    reported = after_failure(task(), error=FaradayAuthenticationError)

    assert (reported.inputs, reported.outputs) == ({}, {})


def test_a_skipped_sensor_reports_no_builds(settled: Sandbox) -> None:
    settled.set_dataset(WEB_ORDERS, status="error")
    sensor = DatasetsReadySensor(task_id="wait", connection_id=FILES, soft_fail=True)

    with suppress(AirflowSkipException):
        sensor.execute(FIRST)

    assert Reported(sensor).outputs == {}


def test_inlets_and_outlets_are_reported_as_well(settled: Sandbox, tmp_path: Path) -> None:
    sensor = DatasetsReadySensor(
        task_id="wait",
        datasets=[WEB_ORDERS],
        inlets=[dataset_asset(CUSTOMERS)],
        outlets=[dataset_asset(WEB_ORDERS), Asset(uri=f"file://{tmp_path}/report.csv")],
    )
    sensor.execute({**FIRST, "outlet_events": _AnyEvents()})

    reported = Reported(sensor)
    assert list(reported.inputs) == [DIRECTORY, f"faraday datasets/{CUSTOMERS}"]
    assert list(reported.outputs) == [DATASET, f"file {tmp_path}/report.csv"]
    # The task's own dataset, not the converted asset, which has no facets.
    assert version(reported.outputs[DATASET])


class _AnyEvents:
    extra: dict[str, Any] = {}  # noqa: RUF012

    def __getitem__(self, asset: object) -> _AnyEvents:
        return self


def test_an_asset_has_the_name_under_which_tasks_report_the_resource(settled: Sandbox) -> None:
    reported = after(TargetsReadySensor(task_id="wait", targets=[TARGET]))

    assert list(reported.outputs) == list(
        named([translate_airflow_asset(resource_asset("targets", TARGET.upper()), None)])
    )


def test_an_upload_reads_the_file_and_writes_the_directory(settled: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "web_orders.csv"
    file.write_text("order_id\n1\n")

    def upload() -> Reported:
        return after(UploadFileOperator(task_id="upload", path=str(file), directory="web_orders"))

    sent, skipped = upload(), upload()

    assert (list(sent.inputs), list(sent.outputs)) == ([f"file {file}"], [DIRECTORY])
    assert sent.inputs[f"file {file}"].inputFacets["inputStatistics"].size == 11
    assert sent.outputs[DIRECTORY].outputFacets["outputStatistics"].size == 11
    assert skipped.inputs[f"file {file}"].inputFacets["inputStatistics"].size == 11
    assert skipped.outputs[DIRECTORY].outputFacets == {}


def test_a_download_reads_the_target_and_writes_the_file(settled: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "predictions.csv"

    reported = after(DownloadTargetOperator(task_id="download", target_id=TARGET, path=f"file://{file}"))

    target = settled.resource("targets", TARGET)
    (found,) = reported.inputs.values()
    assert (found.name, version(found)) == (f"targets/{TARGET}", target["last_updated_output_at"])
    assert found.inputFacets["dataQualityMetrics"].rowCount == target["count"]
    written = reported.outputs[f"file {file}"].outputFacets["outputStatistics"]
    assert (written.rowCount, written.size, written.fileCount) == (target["count"], file.stat().st_size, 1)


def test_a_failed_download_reports_the_same_names(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.set_resource("targets", TARGET, status="error")
    file = tmp_path / "predictions.csv"

    reported = after_failure(
        DownloadTargetOperator(task_id="download", target_id=TARGET, path=str(file)), ResourcesFailedError
    )

    assert list(reported.inputs) == [f"faraday targets/{TARGET}"]
    assert list(reported.outputs) == [f"file {file}"]
    assert reported.outputs[f"file {file}"].outputFacets == {}


@pytest.mark.once
@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("s3://aws_default@bucket/in/orders #1.csv", "s3://bucket", "in/orders #1.csv"),
        ("s3a://bucket/orders.csv", "s3://bucket", "orders.csv"),
        ("gs://google_cloud_default@bucket/orders.csv", "gs://bucket", "orders.csv"),
        ("gcs://bucket/orders.csv", "gs://bucket", "orders.csv"),
        ("hdfs://namenode:8020/in/orders.csv", "hdfs://namenode:8020", "in/orders.csv"),
        ("file:///in/orders.csv", "file", "/in/orders.csv"),
        ("/in/orders.csv", "file", "/in/orders.csv"),
        (ObjectStoragePath("file:///in/orders.csv"), "file", "/in/orders.csv"),
    ],
    ids=str,
)
def test_files_are_named_as_openlineage_specifies(path: object, namespace: str, name: str) -> None:
    node = file_node(path)

    assert (node.namespace, node.name) == (namespace, name)


@pytest.mark.once
def test_odd_fields_are_left_out(settled: Sandbox) -> None:
    task = ListConnectionDatasetsOperator(task_id="list", connection_id=FILES)
    task.execute(FIRST)
    (dataset,) = task._found
    dataset |= {
        "name": None,
        "detected_columns": [{"data_type": "text"}, "total", {"name": "email", "data_type": 5}],
        "last_updated_output_at": 17,
        "row_count": "many",
    }

    found = Reported(task).inputs[DATASET]
    assert set(found.facets) == {"schema"}
    assert columns(found) == [("email", None)]
    assert found.inputFacets == {}


@pytest.mark.once
def test_more_columns_than_can_be_sent_in_time_are_not_listed(
    settled: Sandbox, monkeypatch: pytest.MonkeyPatch, task_log: list[str]
) -> None:
    monkeypatch.setattr(lineage, "MAX_COLUMNS", 3)

    reported = after(DatasetsReadySensor(task_id="wait", datasets=[WEB_ORDERS]))

    assert "schema" not in reported.outputs[DATASET].facets
    assert version(reported.outputs[DATASET])
    assert any("does not list the columns" in line for line in task_log)
