"""The dependency graph of an account: which resources are built from which."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_provider_faraday.api import endpoints
from airflow_provider_faraday.api.errors import FaradayError, FaradayTransportError
from airflow_provider_faraday.api.inputs import is_resource_id
from airflow_provider_faraday.api.resources import RESOURCE_TYPES, ResourceType
from airflow_provider_faraday.api.responses import Response
from airflow_provider_faraday.api.states import ResourceState, state_type

if TYPE_CHECKING:
    from airflow_provider_faraday.api.endpoints import Endpoint

FIELDS = {
    "id": "id",
    "literate": "name",
    "status": "status",
    "status_error": "status_error",
    "status_changed_at": "status_changed_at",
    "last_read_input_at": "last_read_input_at",
    "last_updated_config_at": "last_updated_config_at",
    "last_updated_output_at": "last_updated_output_at",
    "archived_at": "archived_at",
}
"""The fields of a resource in an edge, without the type, and what a resource itself calls them."""

# Decoding structs takes half as long as decoding dicts, and blocks the triggerer's event loop.
_Edge: Any = msgspec.defstruct(
    "_Edge",
    # Any type, so that one invalid edge does not end every wait of the account.
    [(f"{side}_{name}", Any, None) for side in ("upstream", "downstream") for name in ("type", *FIELDS)],
    frozen=True,
    gc=False,
)
_EDGES: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[_Edge])

# Faraday may have types that this version does not know.
_UNKNOWN_TYPE = ResourceType("resources", "resource")

PreviewKey = tuple[str, str | None]
"""A resource and the time of its configuration, which decides whether it is a preview."""


def decode_edges(response: Response) -> list[Any]:
    """Decode a page of the dependency graph."""
    return _EDGES.decode(response.body)


@dataclass(frozen=True)
class Upstream:
    """What a resource is built from, directly or indirectly. Ids are in lower case.

    :param nodes: all resources of the graph by id.
    :param next_ids: by the id of each upstream resource, the id of the next resource on the shortest path
        to the waited resource. Nearest first.
    :param skipped: archived resources and previews by id, with the reason. The search does not go past them.
    """

    nodes: Mapping[str, ResourceState]
    next_ids: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def path_from(self, id_: str) -> list[ResourceState]:
        """Return the path from an upstream resource to the waited one, without the latter."""
        path = []
        while id_ in self.next_ids:
            path.append(self.nodes[id_])
            id_ = self.next_ids[id_]
        return path

    @cached_property
    def changed_at(self) -> datetime | None:
        """When the last upstream resource changed its status, its configuration or its output."""
        times = (self.nodes[id_].changed_at for id_ in self.next_ids)
        return max(filter(None, times), default=None)


class Graph:
    """The dependency graph of an account, as of one response.

    :param edges: what :func:`decode_edges` returned. In each, ``downstream`` depends on ``upstream``.
    :ivar nodes: all resources that have an edge, by id.
    :ivar outdated: the ids of those that are not ready, or about to be rebuilt.
    :ivar unclear: the ids of those that may be previews, because requests for them failed.
    :ivar failure: the error of these requests. It is always transient, because it does not concern the waited
        resources themselves.
    """

    def __init__(self, edges: Iterable[Any]) -> None:
        self.nodes: dict[str, ResourceState] = {}
        self.unclear: frozenset[str] = frozenset()
        self.failure: FaradayError | None = None
        self._inputs: dict[str, list[str]] = defaultdict(list)
        self._outputs: dict[str, list[str]] = defaultdict(list)
        self._upstream: dict[str, Upstream] = {}
        for edge in edges:
            upstream_id, downstream_id = _text(edge.upstream_id), _text(edge.downstream_id)
            if not (upstream_id and downstream_id):
                continue
            upstream_id, downstream_id = upstream_id.lower(), downstream_id.lower()
            self._inputs[downstream_id].append(upstream_id)
            self._outputs[upstream_id].append(downstream_id)
            for id_, side in ((upstream_id, "upstream"), (downstream_id, "downstream")):
                known, status = self.nodes.get(id_), _text(getattr(edge, f"{side}_status"))
                # A later page may show that a resource is not ready anymore.
                if known is None or (known.status == "ready" and status not in (None, "ready")):
                    self.nodes[id_] = _node(edge, side)
        self.outdated = {id_ for id_, node in self.nodes.items() if node.why_not_ready}

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Graph)
            and self.nodes == other.nodes
            and self._inputs == other._inputs
            and self.unclear == other.unclear
        )

    def with_previews(
        self, known: Mapping[PreviewKey, bool], waited: Iterable[str], failure: FaradayError | None = None
    ) -> Graph:
        """Return the graph with what is known of previews.

        :param known: which resources are previews, and which are not.
        :param waited: the ids of the waited resources.
        :param failure: the error of the first of :meth:`preview_requests` that failed.
        """
        previews = {
            id_: replace(node, preview=True)
            for id_, node in self.nodes.items()
            if known.get(_preview_key(node))
        }
        if not previews and not failure:
            return self
        graph = copy(self)
        graph.nodes = self.nodes | previews
        graph._upstream = {}
        if failure:
            graph.unclear = frozenset(self._possible_previews(waited, known))
            graph.failure = FaradayTransportError(
                f"Could not look up which upstream resources are previews. {failure.args[0]}",
                method="GET",
                path="/graph",
            )
        return graph

    def upstream_of(self, id_: str) -> Upstream:
        """Return what a resource is built from; nothing if it is not in the graph."""
        found = self._upstream.get(id_)
        if found is None:
            found = self._upstream[id_] = self._search(id_)
        return found

    def edges_to(self, ids: Iterable[str]) -> Iterator[tuple[ResourceState, ResourceState]]:
        """Yield the dependencies among resources and all that they are built from, upstream side first.

        :param ids: the resources; those that are not in the graph have no dependencies.
        """
        within = {id_: None for waited in ids for id_ in (waited, *self.upstream_of(waited).next_ids)}
        for id_ in within:
            for upstream_id in dict.fromkeys(self._inputs.get(id_, ())):
                if upstream_id in within:
                    yield self.nodes[upstream_id], self.nodes[id_]

    def latest_upstream(self, times: Mapping[str, datetime]) -> dict[str, datetime]:
        """Return the latest time upstream of each resource that has one upstream of it.

        :param times: times by id.
        """
        latest: dict[str, datetime] = {}
        # From the latest time to the earliest, so that each resource is visited once.
        for id_ in sorted(times, key=times.__getitem__, reverse=True):
            queue = deque([id_])
            while queue:
                for output in self._outputs.get(queue.popleft(), ()):
                    if output not in latest and not self.nodes[output].why_skipped:
                        latest[output] = times[id_]
                        queue.append(output)
        return latest

    def preview_requests(
        self, waited: Iterable[str], known: Mapping[PreviewKey, bool]
    ) -> list[tuple[ResourceType, Endpoint]]:
        """Return the requests that tell which resources upstream are previews.

        :param waited: the ids of the waited resources.
        :param known: which resources are known to be previews, or not.
        """
        by_type: dict[str, list[str]] = defaultdict(list)
        for id_ in sorted(self._possible_previews(waited, known)):
            by_type[self.nodes[id_].resource_type.name].append(id_)
        return [
            (RESOURCE_TYPES[name], endpoint)
            for name, ids in by_type.items()
            for endpoint in endpoints.resources_by_id(RESOURCE_TYPES[name], ids)
        ]

    def read_previews(self, endpoint: Endpoint, states: Iterable[ResourceState]) -> dict[PreviewKey, bool]:
        """Return which resources are previews, from the response to one of these requests."""
        previews = {state.key for state in states if state.preview is True}
        return {_preview_key(self.nodes[id_]): id_ in previews for _, id_ in endpoint.query}

    def _possible_previews(self, waited: Iterable[str], known: Mapping[PreviewKey, bool]) -> Iterator[str]:
        """Yield the ids of the resources upstream that may be previews, which the graph does not contain.

        It matters for resources that are not up to date and those downstream of them, because resources
        upstream of a preview do not block.
        """
        upstream = {id_ for each in waited for id_ in self.upstream_of(each).next_ids}
        for id_ in upstream & _reachable(upstream & self.outdated, self._outputs):
            node = self.nodes[id_]
            # Other ids cannot be requested.
            if node.resource_type.preview and _preview_key(node) not in known and is_resource_id(id_):
                yield id_

    def _search(self, waited: str) -> Upstream:
        """Search breadth-first, so that paths are the shortest ones. Graphs may have cycles."""
        found = Upstream(self.nodes)
        seen = {waited}
        queue = deque([waited])
        while queue:
            current = queue.popleft()
            for id_ in self._inputs.get(current, ()):
                if id_ in seen:
                    continue
                seen.add(id_)
                state = self.nodes[id_]
                if why := state.why_skipped:
                    found.skipped[id_] = why
                    continue
                found.next_ids[id_] = current
                queue.append(id_)
        return found


def _reachable(ids: Iterable[str], edges: Mapping[str, list[str]]) -> set[str]:
    """Return ids and all that edges lead to from there."""
    found = set(ids)
    queue = deque(found)
    while queue:
        new = set(edges.get(queue.popleft(), ())) - found
        found |= new
        queue.extend(new)
    return found


def _node(edge: Any, side: str) -> ResourceState:
    """Return the resource of one side of an edge. An invalid field must not end every wait of the account."""
    kind = RESOURCE_TYPES.get(_text(getattr(edge, f"{side}_type")) or "", _UNKNOWN_TYPE)
    fields: dict[str, Any] = {ours: _text(getattr(edge, f"{side}_{name}")) for name, ours in FIELDS.items()}
    return state_type(kind)(**fields)


def _preview_key(state: ResourceState) -> PreviewKey:
    return state.key, state.last_updated_config_at


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
