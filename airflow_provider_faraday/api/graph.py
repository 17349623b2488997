"""The dependency graph of an account: which resources are built from which."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from airflow_provider_faraday.api.readiness import changed_at, is_settled
from airflow_provider_faraday.api.resources import RESOURCE_TYPES, ResourceType
from airflow_provider_faraday.api.states import ResourceState, state_type

# The graph calls a name "literate".
_FIELDS = (
    "id",
    "type",
    "literate",
    "status",
    "status_error",
    "status_changed_at",
    "last_updated_config_at",
    "last_updated_output_at",
    "archived_at",
)
_TYPE_NAME = re.compile(r"[a-z_]{1,60}")
_SIDES = ("upstream", "downstream")
PreviewKey = tuple[str, str | None]

Edge: Any = msgspec.defstruct(
    "Edge",
    # Any type: one odd edge must not end every wait of the account.
    [(f"{side}_{field}", Any, None) for side in _SIDES for field in _FIELDS],
    frozen=True,
    gc=False,
    kw_only=True,
)
"""An edge of the graph as Faraday sends it: ``downstream`` depends on ``upstream``."""


class GraphPage(NamedTuple):
    """A page of ``GET /graph``: edges, and the time of the response by Faraday's clock."""

    edges: Sequence[Any]
    sent_at: datetime | None


class Upstream:
    """What a resource is built from, directly or indirectly.

    :param next_ids: by the id of each upstream resource, the id of the next resource on the shortest path
        to the waited resource. Nearest first.
    :param steps: by the id of each upstream resource, the length of that path.
    :param unsettled: the upstream resources that are not ready, or about to be rebuilt. Nearest first.
    :param left_out: archived resources and previews. What lies behind them is not in ``next_ids``.
    """

    def __init__(
        self,
        nodes: dict[str, ResourceState],
        next_ids: dict[str, str],
        steps: dict[str, int],
        unsettled: list[ResourceState],
        left_out: list[ResourceState],
    ) -> None:
        self._nodes = nodes
        self.next_ids = next_ids
        self.steps = steps
        self.unsettled = unsettled
        self.left_out = left_out

    def __contains__(self, id_: str) -> bool:
        return id_ in self.next_ids

    def path_from(self, id_: str) -> list[ResourceState]:
        """Return the path from an upstream resource to the waited one, without the latter."""
        path = []
        while id_ in self.next_ids:
            path.append(self._nodes[id_])
            id_ = self.next_ids[id_]
        return path

    @cached_property
    def changed_at(self) -> datetime | None:
        """When the last upstream resource changed its status, its configuration or its output."""
        times = (changed_at(self._nodes[id_]) for id_ in self.next_ids)
        return max(filter(None, times), default=None)


class Graph:
    """The dependency graph of an account, as of one response.

    :param pages: the pages of the response.
    :ivar nodes: all resources that have an edge, by id.
    :ivar unsettled: the ids of those that are not ready, or about to be rebuilt.
    :ivar previews: the ids of those that are known to be previews. A new set if they change.
    :ivar sent_at: the time of the response by Faraday's clock; None if it did not say.
    """

    def __init__(self, pages: Sequence[GraphPage]) -> None:
        self._pages = pages
        self.nodes: dict[str, ResourceState] = {}
        self.unsettled: set[str] = set()
        # The latest: a page that has not changed is that of an earlier poll.
        self.sent_at = max(filter(None, (page.sent_at for page in pages)), default=None)
        self._inputs: dict[str, list[str]] = defaultdict(list)
        self._outputs: dict[str, list[str]] = defaultdict(list)
        self._downstream: dict[str, set[str]] = {}
        self.previews: set[str] = set()
        self._upstream: dict[str, Upstream] = {}
        for page in pages:
            for edge in page.edges:
                upstream_id, downstream_id = _text(edge.upstream_id), _text(edge.downstream_id)
                if not (upstream_id and downstream_id):
                    continue
                upstream_id, downstream_id = upstream_id.lower(), downstream_id.lower()
                self._inputs[downstream_id].append(upstream_id)
                self._outputs[upstream_id].append(downstream_id)
                for id_, read in ((upstream_id, _READ_UPSTREAM), (downstream_id, _READ_DOWNSTREAM)):
                    if id_ not in self.nodes:
                        self._add(id_, *map(_text, read(edge)))

    def is_of(self, pages: Sequence[GraphPage]) -> bool:
        """Return whether the graph was made of these very pages."""
        return [*map(id, pages)] == [*map(id, self._pages)]

    def upstream_of(self, id_: str) -> Upstream:
        """Return what a resource is built from; nothing if it is not in the graph."""
        found = self._upstream.get(id_)
        if found is None:
            found = self._upstream[id_] = self._search(id_)
        return found

    def downstream_of(self, id_: str) -> set[str]:
        """Return the ids of what is built from a resource."""
        found = self._downstream.get(id_)
        if found is None:
            found = self._downstream[id_] = set()
            queue = deque([id_])
            while queue:
                new = [each for each in self._outputs.get(queue.popleft(), ()) if each not in found]
                found.update(new)
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

    def unclear(self, ids: Iterable[str], known: Mapping[PreviewKey, bool]) -> dict[str, list[str]]:
        """Return the ids of resources upstream that may be previews, by the name of their type.

        The graph does not say which resources are previews. It matters for those that are unsettled, and for
        those on the way from them: what lies behind a preview does not block.

        :param ids: the waited resources.
        :param known: which resources are previews, and which are not.
        """
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for id_ in ids:
            upstream = self.upstream_of(id_)
            seen: set[str] = set()
            for key in (state.id.lower() for state in upstream.unsettled):
                while key in upstream and key not in seen:
                    seen.add(key)
                    state = self.nodes[key]
                    if state.resource_type.preview and preview_key(state) not in known:
                        found[state.resource_type.name][key] = None
                    key = upstream.next_ids[key]
        return {name: list(unclear) for name, unclear in found.items()}

    def leave_out_previews(self, known: Mapping[PreviewKey, bool]) -> None:
        """Leave out the resources that are known to be previews."""
        previews = {id_ for id_, state in self.nodes.items() if known.get(preview_key(state))}
        if previews != self.previews:
            self.previews = previews
            self._upstream.clear()

    def why_left_out(self, state: ResourceState) -> str | None:
        """Return why a resource upstream does not block; None if it can."""
        if state.id.lower() in self.previews:
            return state.resource_type.preview
        return state.why_skipped

    def _add(
        self,
        key: str,
        id_: str | None,
        type_name: str | None,
        name: str | None,
        status: str | None,
        status_error: str | None,
        status_changed_at: str | None,
        last_updated_config_at: str | None,
        last_updated_output_at: str | None,
        archived_at: str | None,
    ) -> None:
        state = self.nodes[key] = state_type(_resource_type(type_name))(
            id=id_ or key,
            name=name,
            status=status,
            status_error=status_error,
            status_changed_at=status_changed_at,
            last_updated_config_at=last_updated_config_at,
            last_updated_output_at=last_updated_output_at,
            archived_at=archived_at,
        )
        if not is_settled(state):
            self.unsettled.add(key)

    def _search(self, waited: str) -> Upstream:
        """Search breadth-first, so that paths are the shortest ones. Graphs may have cycles."""
        next_ids: dict[str, str] = {}
        steps = {waited: 0}
        unsettled, left_out = [], []
        seen = {waited}
        queue = deque([waited])
        while queue:
            current = queue.popleft()
            for id_ in self._inputs.get(current, ()):
                if id_ in seen:
                    continue
                seen.add(id_)
                state = self.nodes[id_]
                if self.why_left_out(state):
                    left_out.append(state)
                    continue
                next_ids[id_] = current
                steps[id_] = steps[current] + 1
                queue.append(id_)
                if id_ in self.unsettled:
                    unsettled.append(state)
        return Upstream(self.nodes, next_ids, steps, unsettled, left_out)


def preview_key(state: ResourceState) -> PreviewKey:
    """Return what identifies a resource in one configuration: a preview can be turned into the real thing."""
    return state.id.lower(), state.last_updated_config_at


_READ_UPSTREAM, _READ_DOWNSTREAM = (attrgetter(*(f"{side}_{field}" for field in _FIELDS)) for side in _SIDES)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _resource_type(name: str | None) -> ResourceType:
    # Faraday may have types that this version does not know.
    name = name if name and _TYPE_NAME.fullmatch(name) else "resources"
    return RESOURCE_TYPES.get(name) or ResourceType(name, name.removesuffix("s").replace("_", " "))
