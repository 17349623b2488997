"""Turn lineage into what Airflow's OpenLineage provider sends. Imported only if that provider asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.openlineage.utils.utils import translate_airflow_asset
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from openlineage.client import facet_v2
from openlineage.client.event_v2 import InputDataset, OutputDataset

from airflow_provider_faraday.lineage import MAX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_faraday.lineage import Lineage, Node


def to_openlineage(task: Any, reported: Lineage) -> OperatorLineage[Any, Any]:
    """Return the lineage of a task, and its inlets and outlets, for Airflow's OpenLineage provider."""
    columns = sum(len(node.columns) for node in (*reported.inputs, *reported.outputs))
    if columns > MAX_COLUMNS:
        task.log.info("The OpenLineage event does not list the columns: there are %s.", columns)
        reported = reported.without_columns()
    inputs: dict[tuple[str, str], Any] = {
        node[:2]: InputDataset(*node[:2], facets=_facets(node), inputFacets=_input_facets(node))
        for node in reported.inputs
    }
    outputs: dict[tuple[str, str], Any] = {
        node[:2]: OutputDataset(*node[:2], facets=_facets(node), outputFacets=_output_facets(node))
        for node in reported.outputs
    }
    # Airflow converts inlets and outlets only if an operator reports no datasets.
    for declared, found in ((task.inlets, inputs), (task.outlets, outputs)):
        for entity in declared:
            # Older releases of the provider convert assets only by the former.
            dataset = translate_airflow_asset(entity, None) or ExtractorManager.convert_to_ol_dataset(entity)
            if dataset:
                found.setdefault((dataset.namespace, dataset.name), dataset)
    return OperatorLineage(
        inputs=list(inputs.values()), outputs=list(outputs.values()), job_facets=_job_facets(reported.edges)
    )


def _facets(node: Node) -> dict[str, Any]:
    facets: dict[str, Any] = {}
    if node.description:
        facets["documentation"] = facet_v2.documentation_dataset.DocumentationDatasetFacet(node.description)
    if node.version:
        facets["version"] = facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet(node.version)
    if node.columns:
        fields = [
            facet_v2.schema_dataset.SchemaDatasetFacetFields(column["name"], _type(column))
            for column in node.columns
        ]
        facets["schema"] = facet_v2.schema_dataset.SchemaDatasetFacet(fields)
    return facets


def _type(column: dict[str, Any]) -> str | None:
    data_type = column.get("data_type")
    if isinstance(data_type, dict):
        # Such as a timestamp, or a nested type.
        data_type = data_type.get("logicalType") or data_type.get("type")
    return data_type if isinstance(data_type, str) else None


def _input_facets(node: Node) -> dict[str, Any]:
    facets: dict[str, Any] = {}
    if node.rows is not None:
        metrics = facet_v2.data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet
        facets["dataQualityMetrics"] = metrics(rowCount=node.rows, columnMetrics={})
    if node.size is not None:
        statistics = facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet
        facets["inputStatistics"] = statistics(size=node.size, fileCount=1)
    return facets


def _output_facets(node: Node) -> dict[str, Any]:
    if node.rows is None and node.size is None:
        return {}
    statistics = facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
    files = None if node.size is None else 1
    return {"outputStatistics": statistics(rowCount=node.rows, size=node.size, fileCount=files)}


def _job_facets(edges: Sequence[tuple[Node, Node]]) -> dict[str, Any]:
    # openlineage-python 1.53 added it.
    facet = getattr(facet_v2, "lineage", None)
    if facet is None or not edges:
        return {}
    sources: dict[tuple[str, ...], dict[tuple[str, ...], Any]] = {}
    for upstream, downstream in edges:
        source = facet.LineageDatasetInput(*upstream[:2], type="DATASET")
        sources.setdefault(downstream[:2], {})[upstream[:2]] = source
    entries = [
        facet.LineageDatasetEntry(*target, type="DATASET", inputs=list(inputs.values()))
        for target, inputs in sources.items()
    ]
    return {"lineage": facet.LineageJobFacet(entries)}
