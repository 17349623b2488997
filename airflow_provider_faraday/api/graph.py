"""The dependency graph of an account: which resources are built from which."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_faraday.api import endpoints
from airflow_provider_faraday.api.errors import FaradayError, FaradayTransportError
from airflow_provider_faraday.api.inputs import is_resource_id
from airflow_provider_faraday.api.resources import RESOURCE_TYPES, ResourceType
from airflow_provider_faraday.api.responses import Response, json_body
from airflow_provider_faraday.api.states import ResourceState, state_type

if TYPE_CHECKING:
    from airflow_provider_faraday.api.endpoints import Endpoint

_FIELDS = (
    "id",
    "type",
    "literate",
    "status",
    "status_error",
    "status_changed_at",
    "last_read_input_at",
    "last_updated_config_at",
    "last_updated_output_at",
    "archived_at",
)
# The graph calls a name "literate".
_NAMES = tuple(name if name != "literate" else "name" for name in _FIELDS)
_SIDES = ("upstream", "downstream")
# Faraday may have types that this version does not know.
_UNKNOWN_TYPE = ResourceType("resources", "resource")

PreviewKey = tuple[str, str | None]
"""A resource and the time of its configuration, which decides whether it is a preview."""

Edge: Any = msgspec.defstruct(
    "Edge",
    # Any type, so that one invalid edge does not end every wait of the account.
    [(f"{side}_{name}", Any, None) for side in _SIDES for name in _FIELDS],
    frozen=True,
    gc=False,
    kw_only=True,
)
"""An edge of the graph as Faraday sends it: ``downstream`` depends on ``upstream``."""

_EDGES: msgspec.json.Decoder[list[Edge]] = msgspec.json.Decoder(list[Edge])


def decode_edges(response: Response) -> list[Edge]:
    """Decode a page of the dependency graph."""
    return _EDGES.decode(json_body(response))


@dataclass(frozen=True)
class Upstream:
    """What a resource is built from, directly or indirectly. Ids are in lower case.

    :param nodes: all resources of the graph by id.
    :param next_ids: by the id of each upstream resource, the id of the next resource on the shortest path
        to the waited resource. Nearest first.
    :param steps: by the id of each upstream resource, the length of that path.
    :param outdated: the ids of upstream resources that are not ready, or about to be rebuilt. Nearest first.
    :param skipped: archived resources and previews. The search does not go past them.
    """

    nodes: Mapping[str, ResourceState]
    next_ids: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    outdated: list[str] = field(default_factory=list)
    skipped: list[ResourceState] = field(default_factory=list)

    def __contains__(self, id_: str) -> bool:
        return id_ in self.next_ids

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

    :param edges: the edges, as Faraday sent them.
    :ivar nodes: all resources that have an edge, by id.
    :ivar outdated: the ids of those that are not ready, or about to be rebuilt.
    :ivar previews: the ids of those that are known to be previews, which waits skip.
    :ivar unclear: the ids of those that may be previews, with the error of the failed request.
    """

    def __init__(self, edges: Iterable[Any]) -> None:
        self.nodes: dict[str, ResourceState] = {}
        self.outdated: set[str] = set()
        self.previews: frozenset[str] = frozenset()
        self.unclear: Mapping[str, FaradayError] = {}
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
            for id_, read in ((upstream_id, _READ_UPSTREAM), (downstream_id, _READ_DOWNSTREAM)):
                if id_ not in self.nodes:
                    self._add(id_, dict(zip(_NAMES, map(_text, read(edge)), strict=True)))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Graph)
            and self.nodes == other.nodes
            and self._inputs == other._inputs
            and self.previews == other.previews
            and self.unclear == other.unclear
        )

    __hash__ = None  # type: ignore[assignment]

    def with_previews(self, known: Mapping[PreviewKey, bool], unclear: Mapping[str, FaradayError]) -> Graph:
        """Return the graph with what is known of previews.

        :param known: which resources are previews, and which are not.
        :param unclear: the ids of resources that may be previews, with the error of the failed request.
        """
        previews = frozenset(
            id_
            for (id_, configured_at), is_preview in known.items()
            if is_preview and id_ in self.nodes and self.nodes[id_].last_updated_config_at == configured_at
        )
        if not previews and not unclear:
            return self
        graph = copy(self)
        graph.previews = previews
        graph.unclear = unclear
        graph._upstream = {}
        return graph

    def upstream_of(self, id_: str) -> Upstream:
        """Return what a resource is built from; nothing if it is not in the graph."""
        found = self._upstream.get(id_)
        if found is None:
            found = self._upstream[id_] = self._search(id_)
        return found

    def inputs_of(self, ids: Iterable[str]) -> set[str]:
        """Return the ids of everything upstream of resources, also behind archived resources and previews."""
        found: set[str] = set()
        queue = deque(ids)
        while queue:
            new = set(self._inputs.get(queue.popleft(), ())) - found
            found |= new
            queue.extend(new)
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
                    if output not in latest and not self.why_skipped(self.nodes[output]):
                        latest[output] = times[id_]
                        queue.append(output)
        return latest

    def possible_previews(
        self, waited: Iterable[str], known: Mapping[PreviewKey, bool]
    ) -> list[tuple[ResourceType, Endpoint]]:
        """Return the requests that tell which resources upstream are previews.

        The graph does not contain this. It matters for resources that are not up to date and those downstream
        of them, because resources upstream of a preview do not block.

        :param waited: the ids of the waited resources.
        :param known: which resources are known to be previews, or not.
        """
        upstream = {id_ for each in waited for id_ in self.upstream_of(each).next_ids}
        affected = upstream & self.outdated
        queue = deque(affected)
        while queue:
            new = upstream.intersection(self._outputs.get(queue.popleft(), ())) - affected
            affected |= new
            queue.extend(new)
        by_type: dict[str, list[str]] = defaultdict(list)
        for id_ in sorted(affected):
            state = self.nodes[id_]
            may_be = state.resource_type.preview and preview_key(state) not in known
            # Other ids cannot be requested.
            if may_be and is_resource_id(id_):
                by_type[state.resource_type.name].append(id_)
        return [
            (RESOURCE_TYPES[name], endpoint)
            for name, ids in by_type.items()
            for endpoint in endpoints.resources_by_id(RESOURCE_TYPES[name], ids)
        ]

    def read_previews(self, endpoint: Endpoint, states: Iterable[ResourceState]) -> dict[PreviewKey, bool]:
        """Return which resources are previews, from the response to one of these requests."""
        previews = {state.key for state in states if state.preview is True}
        return {preview_key(self.nodes[id_]): id_ in previews for _, id_ in endpoint.query}

    def why_skipped(self, state: ResourceState) -> str | None:
        """Return why a resource upstream does not block; None if it can."""
        if state.key in self.previews:
            return state.resource_type.preview
        return state.why_skipped

    def _add(self, key: str, fields: dict[str, Any]) -> None:
        state = state_type(RESOURCE_TYPES.get(fields.pop("type"), _UNKNOWN_TYPE))(**fields)
        self.nodes[key] = state
        if state.why_not_ready:
            self.outdated.add(key)

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
                if self.why_skipped(state):
                    found.skipped.append(state)
                    continue
                found.next_ids[id_] = current
                found.steps[id_] = found.steps.get(current, 0) + 1
                queue.append(id_)
                if id_ in self.outdated:
                    found.outdated.append(id_)
        return found


def unclear_previews(
    requests: Iterable[tuple[ResourceType, Endpoint]], error: FaradayError
) -> dict[str, FaradayError]:
    """Return the error for each resource that may be a preview, after a failed request.

    It is always transient, because it does not concern the waited resources themselves.
    """
    failure = FaradayTransportError(
        f"Could not look up which upstream resources are previews. {error.args[0]}",
        method="GET",
        path="/graph",
    )
    return {id_: failure for _, endpoint in requests for _, id_ in endpoint.query}


def preview_key(state: ResourceState) -> PreviewKey:
    """Return what identifies a resource in one configuration."""
    return state.key, state.last_updated_config_at


_READ_UPSTREAM, _READ_DOWNSTREAM = (attrgetter(*(f"{side}_{name}" for name in _FIELDS)) for side in _SIDES)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
