"""The lineage of tasks: the resources and files that they have read and written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow_provider_faraday.api.inputs import is_resource_id
from airflow_provider_faraday.api.resources import resource_type_named
from airflow_provider_faraday.api.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import Asset

    from airflow_provider_faraday.api.resources import ResourceType
    from airflow_provider_faraday.waiting.wait import Wait

NAMESPACE = "faraday"
"""Ids are unique across all accounts, so there is no host, as in OpenLineage's names for BigQuery."""

MAX_COLUMNS = 10_000
"""How many columns an event lists; with more, it lists none. Airflow has 10 seconds to send an event."""

# What Airflow calls some object storages, and OpenLineage's naming specification does not.
_SCHEMES = {"gcs": "gs", "s3a": "s3"}


class Node(NamedTuple):
    """A dataset in OpenLineage's sense: a resource, an upload directory or a file.

    :param description: what it is, for people.
    :param columns: a Faraday dataset's ``detected_columns``.
    :param version: when Faraday built it.
    :param rows: its rows.
    :param size: the bytes that the task transferred.
    """

    namespace: str
    name: str
    description: str = ""
    columns: Sequence[dict[str, Any]] = ()
    version: str | None = None
    rows: int | None = None
    size: int | None = None


class Lineage(NamedTuple):
    """The inputs and outputs of a task.

    :param edges: which node is built from which, the upstream one first, as far as it is known.
    """

    inputs: Sequence[Node] = ()
    outputs: Sequence[Node] = ()
    edges: Sequence[tuple[Node, Node]] = ()

    def without_columns(self) -> Lineage:
        """Return the lineage without the columns of its nodes."""
        inputs, outputs = ([node._replace(columns=()) for node in nodes] for nodes in self[:2])
        return self._replace(inputs=inputs, outputs=outputs)


def resource_node(resource_type: str, resource: dict[str, Any], *, is_built: bool = True) -> Node:
    """Return a resource's node.

    :param resource: the resource as Faraday sent it, or only its id.
    :param is_built: whether its build is the one that is reported.
    """
    kind = resource_type_named(resource_type)
    node = _node(kind, resource["id"], resource.get("name"))
    node = node._replace(columns=resource.get("detected_columns") or ())
    if not is_built:
        return node
    count = resource.get(kind.count_field) if kind.count_field else None
    return node._replace(version=resource.get("last_updated_output_at"), rows=count)


def built_lineage(
    resource_type: str, resources: Iterable[dict[str, Any]], *, is_built: bool = True
) -> Lineage:
    """Return the lineage of a task whose outputs are builds of resources.

    Datasets are built from the files in their upload directory, if they have one.
    """
    nodes = [(resource, resource_node(resource_type, resource, is_built=is_built)) for resource in resources]
    edges = []
    for resource, node in nodes:
        directory = (resource.get("options") or {}).get("upload_directory")
        if resource_type == "datasets" and directory:
            edges.append((upload_node(directory), node))
    return Lineage([upstream for upstream, _ in edges], [node for _, node in nodes], edges)


def wait_lineage(wait: Wait) -> Lineage:
    """Return the lineage of a wait: what it waited for is built from what is upstream.

    A wait that ended in the triggerer has not fetched anything in this process, so that only ids are known.
    """
    resource_type = wait.source.type.name
    resources = wait.polled
    if resources is None:
        # Names that could not be looked up are skipped.
        resources = [{"id": id_} for id_ in wait.source.ids or () if is_resource_id(id_)]
    lineage = built_lineage(resource_type, resources, is_built=wait.is_ready)
    if wait.graph is None:
        return lineage
    edges = list(lineage.edges)
    for states in wait.graph.edges_to(str(resource["id"]).lower() for resource in resources):
        upstream, downstream = (
            _node(state.resource_type, state.id, state.name)._replace(version=state.last_updated_output_at)
            for state in states
        )
        edges.append((upstream, downstream))
    outputs = {node[:2] for node in lineage.outputs}
    return lineage._replace(inputs=[node for node, _ in edges if node[:2] not in outputs], edges=edges)


def upload_node(directory: str, *, size: int | None = None) -> Node:
    """Return the node of an upload directory."""
    return Node(NAMESPACE, f"uploads/{directory}", f"Faraday upload directory '{directory}'", size=size)


def file_node(path: object, *, rows: int | None = None, size: int | None = None) -> Node:
    """Return a file's node, named as OpenLineage's naming specification says.

    It does not look up the Airflow connection in the path, which is not part of the name.

    :param path: text or an ``ObjectStoragePath``.
    """
    text = str(path)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme == "file":
        return Node("file", os.path.abspath(rest if separator else text), rows=rows, size=size)
    authority, _, key = rest.partition("/")
    scheme = _SCHEMES.get(scheme, scheme)
    return Node(f"{scheme}://{authority.rpartition('@')[2]}", key, rows=rows, size=size)


def asset_to_openlineage(asset: Asset, lineage_context: object) -> Dataset:
    """Return the OpenLineage dataset of an asset ``faraday://<type>/<UUID>``, for Airflow."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    uri = urlsplit(asset.uri)
    return Dataset(namespace=NAMESPACE, name=f"{uri.netloc}{uri.path}")


def _node(kind: ResourceType, id_: str, name: object) -> Node:
    description = one_line(f"Faraday {kind.singular} '{name}'") if name else ""
    return Node(NAMESPACE, f"{kind.name}/{id_.lower()}", description)
