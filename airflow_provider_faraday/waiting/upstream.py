"""The requests for the graph of an account, for workers and the triggerer alike."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from datetime import UTC, datetime
from typing import Any

from airflow_provider_faraday.api import endpoints
from airflow_provider_faraday.api.graph import Graph, PreviewKey, preview_key
from airflow_provider_faraday.api.inputs import is_resource_id
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.api.responses import Decode, decode_graph, decode_states


def graph_requests(
    waited: Iterable[str], previews: dict[PreviewKey, bool], last: Graph | None = None
) -> Generator[tuple[endpoints.Endpoint, Decode[Any]], list[Any] | None, Graph]:
    """Yield requests with their decoders, receive the decoded items, and return the graph.

    The first request is for the graph. The graph does not say which resources are previews, so the others
    are for those that may be. Their items may be None if such a request failed.

    :param waited: ids of the waited resources, in lower case.
    :param previews: which resources are known to be previews or not; remembered from poll to poll.
    :param last: the last poll's graph, which is returned again if the response has not changed.
    """
    pages = (yield endpoints.graph(), decode_graph) or ()
    if last and last.is_of(pages):
        graph = last
    else:
        graph = Graph(pages)
        graph.sent_at = graph.sent_at or datetime.now(UTC)
    for name, ids in graph.unclear(waited, previews).items():
        resource_type = RESOURCE_TYPES[name]
        # Nothing can be requested by another kind of id.
        valid = [id_ for id_ in ids if is_resource_id(id_)]
        for endpoint in endpoints.resources_by_id(resource_type, valid):
            states = yield endpoint, decode_states(resource_type)
            if states is not None:
                found = {state.id.lower() for state in states if state.preview is True}
                previews |= {preview_key(graph.nodes[id_]): id_ in found for _, id_ in endpoint.query}
    graph.leave_out_previews(previews)
    return graph
