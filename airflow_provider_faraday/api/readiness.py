"""Evaluate resources: turn their states and criteria into a verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from math import inf
from typing import Any, Literal, NamedTuple

import msgspec

from airflow_provider_faraday.api.errors import FaradayInputError, FaradayResponseError
from airflow_provider_faraday.api.graph import Graph, Upstream
from airflow_provider_faraday.api.resources import ResourceType
from airflow_provider_faraday.api.states import ResourceState
from airflow_provider_faraday.api.text import LISTED, first_of, one_line
from airflow_provider_faraday.api.times import shown

TRUSTED_AFTER = timedelta(minutes=10)
"""How long a build is not accepted if it read its input too early. After that, its end decides, because the
meaning of ``last_read_input_at`` is not confirmed for each type, and a wait must not depend on it."""


class Criteria(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as ready.

    :param updated_after: only a build at or after this time counts: one time for all resources, or times by
        resource id. Times are aware.
    :param fail_on_error: whether a resource in ``error`` ends the wait, or is waited for like any other.
    :param allow_empty: whether nothing to wait for counts as ready.
    :param unchanged_after: with upstream resources, after how many seconds without any change upstream a
        resource counts as ready although it has not been rebuilt; None for never.
    """

    updated_after: datetime | dict[str, datetime] | None = None
    fail_on_error: bool = True
    allow_empty: bool = False
    unchanged_after: float | None = None

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Criteria:
        """Return the criteria that were stored in the arguments of a trigger."""
        return msgspec.convert(saved, cls)

    @property
    def times(self) -> dict[str, datetime]:
        """The times by id; empty if there is one time for all."""
        return self.updated_after if isinstance(self.updated_after, dict) else {}

    def only_for(self, ids: Iterable[str]) -> Criteria:
        """Return the criteria with the times of these resources only."""
        times = {id_: self.times[id_] for id_ in ids if id_ in self.times}
        return msgspec.structs.replace(self, updated_after=times) if self.times else self


class TooOld(msgspec.Struct, frozen=True, gc=False):
    """The reason that the last build of a resource ended too early. Thousands are never shown.

    :param built_at: when it ended; None if that is not known.
    :param after: when it must have ended at the earliest.
    """

    built_at: datetime | None
    after: datetime

    def __str__(self) -> str:
        last = shown(self.built_at) if self.built_at else "unknown"
        return f"ready, but its last build ({last}) is older than {shown(self.after)}"


class Finding(msgspec.Struct, frozen=True, gc=False):
    """A resource, and why it is in its group of a verdict.

    :param where: for upstream resources, how a waited resource depends on it.
    """

    state: ResourceState
    reason: str | TooOld
    where: str = ""

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        return one_line(f"{self.state.resource_type.label} {self.state.label}: {self.reason}{where}")


class Blocker(NamedTuple):
    """Why an upstream resource keeps others from being ready."""

    reason: str | TooOld
    is_failed: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a wait ends without everything being ready.

    :param message: what is wrong, in a sentence.
    :param logged: the ids of the failed resources that have ingress logs. At most :data:`LISTED`.
    """

    kind: Literal["missing", "failed", "empty"]
    message: str
    logged: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Verdict:
    """The result of one poll.

    :ivar total: how many resources are waited for, without the skipped ones.
    :ivar ready: those that are ready.
    :ivar waiting: by id, the resources that are not ready, those upstream included. Nearest first.
    :ivar failed: the same for those that have failed.
    :ivar skipped: the same for archived resources and previews.
    :ivar missing: the ids of resources that Faraday did not return.
    :ivar notes: remarks about ready resources, for the log.
    :ivar unchanged: the ids of resources that count as ready although they were not rebuilt.
    :ivar changes_in: seconds until the verdict changes, even if no resource does.
    """

    resource_type: ResourceType
    allow_empty: bool
    total: int = 0
    ready: list[ResourceState] = field(default_factory=list)
    waiting: dict[str, Finding] = field(default_factory=dict)
    failed: dict[str, Finding] = field(default_factory=dict)
    skipped: dict[str, Finding] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unchanged: set[str] = field(default_factory=set)
    changes_in: float = inf

    @property
    def is_ready(self) -> bool:
        """Whether the wait succeeds."""
        return len(self.ready) == self.total and not self.problem

    # Cached: hundreds of subscribers can share a verdict.
    @cached_property
    def problem(self) -> Problem | None:
        """Why waiting longer cannot help; None if it can."""
        if self.missing:
            kind = self.resource_type
            noun = kind.label if len(self.missing) == 1 else f"{len(self.missing)} {kind.plural}:"
            return Problem("missing", f"Faraday did not return {noun} {first_of(self.missing)}.")
        if self.failed:
            states = [finding.state for finding in self.failed.values()]
            logged = [state.id for state in states if state.resource_type.has_ingress_logs]
            message = f"Faraday could not build {first_of(self.failed.values(), separator='; ')}."
            return Problem("failed", message, tuple(logged[:LISTED]))
        if not (self.total or self.allow_empty):
            found = f"all are skipped: {first_of(self.skipped.values())}" if self.skipped else "none found"
            return Problem("empty", f"There are no {self.resource_type.plural} to wait for ({found}).")
        return None

    @cached_property
    def pending(self) -> str:
        """The resources that are not ready, with reasons: ``dataset 'orders' (…): status running``."""
        return first_of(self.waiting.values())

    @cached_property
    def description(self) -> str:
        """The whole verdict in one line, for the log."""
        groups = {
            "; failed: ": first_of(self.failed.values()),
            "; missing: ": first_of(self.missing),
            "; waiting for: ": self.pending,
            "; skipped: ": first_of(self.skipped.values()),
            "; ": first_of(self.notes, separator="; "),
        }
        ready = f"{len(self.ready)} of {self.total} {self.resource_type.plural} ready"
        return ready + "".join(f"{group}{text}" for group, text in groups.items() if text)


def assess(
    resource_type: ResourceType,
    states: Collection[ResourceState],
    criteria: Criteria,
    ids: Collection[str] | None = None,
    graph: Graph | None = None,
    *,
    now: datetime,
) -> Verdict:
    """Evaluate the resources of one poll.

    :param states: the resources to wait for.
    :param ids: the ids of those that must be there.
    :param graph: to wait for everything upstream as well. It is newer than the states.
    :param now: the time of the response, by Faraday's clock.
    :raises FaradayInputError: if ``updated_after`` has times by id, but none for a resource waited for.
    :raises FaradayApiError: if the graph does not have a resource that it should have, or if it is unclear
        whether a resource upstream is a preview.
    """
    verdict = Verdict(resource_type=resource_type, allow_empty=criteria.allow_empty)
    judge = _Judge(criteria, now, verdict, graph)
    for state in states:
        if skipped := state.why_skipped:
            verdict.skipped[state.key] = Finding(state, skipped)
        else:
            verdict.total += 1
            judge.judge(state)
    found = {state.key for state in states} if ids else set()
    verdict.missing = [id_ for id_ in ids or () if id_ not in found]
    verdict.total += len(verdict.missing)
    return verdict


class _Judge:
    """Sorts resources into the groups of a verdict.

    With a graph and times by id, each resource downstream of these must be built, and have read its input,
    after the builds that it must contain.

    :ivar same_times: without times by id, for all resources: the earliest end of a build that counts, and the
        earliest time at which it has read its input.
    :ivar after: by id, the earliest end of a build that counts.
    :ivar since: by id, the earliest time at which such a build has read its input.
    """

    def __init__(self, criteria: Criteria, now: datetime, verdict: Verdict, graph: Graph | None) -> None:
        self.criteria = criteria
        self.now = now
        self.verdict = verdict
        self.graph = graph
        after = criteria.updated_after
        self.same_times = None if isinstance(after, dict) else (after, None)
        self.after = self.since = times = criteria.times
        self.blockers: dict[str, Blocker | None] = {}
        if graph and times:
            built = {id_: node.built_at for id_, node in graph.nodes.items() if node.built_at}
            after = graph.latest_upstream(
                {id_: max(time, built.get(id_, time)) for id_, time in times.items()}
            )
            read = graph.latest_upstream({id_: built[id_] for id_ in (*times, *after) if id_ in built})
            self.after = {id_: max(time, after.get(id_, time)) for id_, time in (after | times).items()}
            self.since = {id_: max(time, read.get(id_, time)) for id_, time in self.after.items()}
        self.latest = max(times.values(), default=None)
        # Resources that are up to date and have no time cannot block.
        self.candidates = graph.outdated | self.after.keys() if graph else set()

    def judge(self, state: ResourceState) -> None:
        """Add a resource to its group."""
        if self.graph:
            self._judge_with_upstream(state, self.graph)
            return
        after, since = self.same_times or self._times_of(state)
        reason = state.why_not_ready or _why_too_old(state, after) or self._why_too_early(state, since)
        if not reason:
            self.verdict.ready.append(state)
        elif self.is_failed(state, after):
            self.verdict.failed[state.key] = Finding(state, state.error)
        else:
            self.verdict.waiting[state.key] = Finding(state, reason)

    def _judge_with_upstream(self, state: ResourceState, graph: Graph) -> None:
        """Add a resource to its group, and those upstream that block it to theirs."""
        upstream = graph.upstream_of(state.key)
        node = _node_of(state, graph, upstream)
        newest = _newest(state, node) if node else state
        after, since = self.same_times or self._times_of(state)
        if self.is_failed(newest, after):
            self.verdict.failed[state.key] = Finding(state, newest.error)
            return
        # Ready only if both are, because it is unknown which of them is newer.
        reason: str | TooOld | None = state.why_not_ready or (node.why_not_ready if node else None)
        candidates = [id_ for id_ in upstream.next_ids if id_ in self.candidates]
        blockers = {id_: blocker for id_ in candidates if (blocker := self._blocker(id_, graph))}
        if not reason:
            is_settled = not blockers and graph.outdated.isdisjoint(upstream.next_ids)
            too_old = _why_too_old(state, after)
            if not too_old:
                reason = self._why_too_early(state, since)
            elif is_settled and not self._why_due(state):
                reason = self._why_not_unchanged(state, upstream, too_old, after)
            else:
                reason = too_old
        if reason:
            self.verdict.waiting[state.key] = Finding(state, reason)
        elif not blockers:
            self.verdict.ready.append(state)
        for id_, blocker in blockers.items():
            path = upstream.path_from(id_)
            if blocker.is_failed:
                names = " → ".join(step.title for step in (*path[1:], state))
                self.verdict.failed.setdefault(id_, Finding(path[0], blocker.reason, f"upstream of {names}"))
            else:
                steps = f"{len(path)} step{'s' if len(path) > 1 else ''} upstream"
                self.verdict.waiting.setdefault(id_, Finding(path[0], blocker.reason, steps))
        for id_, why in islice(upstream.skipped.items(), LISTED):
            self.verdict.skipped.setdefault(id_, Finding(graph.nodes[id_], why, "upstream"))

    def is_failed(self, state: ResourceState, after: datetime | None) -> bool:
        """Return whether an error ends the wait. One from before ``after`` is an earlier build's."""
        if state.status != "error" or not self.criteria.fail_on_error:
            return False
        failed_at = state.failed_at
        return not (after and failed_at and failed_at < after)

    def _why_too_early(self, state: ResourceState, since: datetime | None) -> str | None:
        """Return why the last build does not count if it read its input before a time; None if it counts.

        Ask only about builds that count otherwise, because it adds to the notes.
        """
        if since is None:
            return None
        built_at = state.built_at
        # A build ends after it has read its input.
        read_at = state.read_at or built_at
        if not read_at or read_at >= since:
            return None
        did = "read its input" if state.read_at else "ended"
        reason = f"ready, but its last build {did} at {shown(read_at)}, before {shown(since)}"
        seconds = (TRUSTED_AFTER - (self.now - built_at)).total_seconds() if built_at else 0.0
        if seconds <= 0:
            self.verdict.notes.append(f"{state.title} counts after 10 minutes, although it is {reason}")
            return None
        self.verdict.changes_in = min(seconds, self.verdict.changes_in)
        return reason

    def _times_of(self, state: ResourceState) -> tuple[datetime | None, datetime | None]:
        """Return the times by id of a waited resource, as ``same_times`` has them.

        :raises FaradayInputError: if there are none.
        """
        key = state.key
        if key in self.after:
            return self.after[key], self.since[key]
        where, remedy = "", ", or set include_upstream=True if they are upstream"
        if self.graph:
            where, remedy = " or for a resource upstream of it", ""
        raise FaradayInputError(
            f"updated_after has times for {len(self.criteria.times)} ids, but not for {state.label}{where}.\n"
            f"Pass a single time, or wait only for these ids{remedy}. Without ids, nothing was updated: skip "
            "this task."
        )

    def _blocker(self, id_: str, graph: Graph) -> Blocker | None:
        """Return why an upstream resource blocks others; None if it does not."""
        if id_ not in self.blockers:
            self.blockers[id_] = self._assess_blocker(id_, graph.nodes[id_])
        return self.blockers[id_]

    def _assess_blocker(self, id_: str, state: ResourceState) -> Blocker | None:
        after = self.criteria.updated_after
        if isinstance(after, dict):
            after = self.after.get(id_, self.latest)
        if after and state.built_at and state.built_at >= after:
            # A resource that was built since does not block: in a busy account, the wait might never end.
            early = self._why_too_early(state, self.since.get(id_))
            return Blocker(early) if early else None
        if self.is_failed(state, after):
            return Blocker(state.error, is_failed=True)
        reason = state.why_not_ready or self._why_due(state)
        return Blocker(reason) if reason else None

    def _why_due(self, state: ResourceState) -> TooOld | None:
        """Return a reason if an update was requested, but the status still is that of the previous build."""
        return _why_too_old(state, self.criteria.times.get(state.key))

    def _why_not_unchanged(
        self, state: ResourceState, upstream: Upstream, too_old: TooOld, after: datetime | None
    ) -> str | None:
        """Return why a resource that was not rebuilt is waited for; None if it counts as unchanged."""
        since = max(filter(None, (after, upstream.changed_at, state.changed_at)))
        why = f"nothing upstream has changed since {shown(since)}"
        patience = self.criteria.unchanged_after
        seconds = inf if patience is None else patience - (self.now - since).total_seconds()
        if seconds > 0:
            self.verdict.changes_in = min(seconds, self.verdict.changes_in)
            hint = "Faraday rebuilds only what it detects changes for: see unchanged_after"
            return f"{too_old}, and {why} ({hint})"
        self.verdict.unchanged.add(state.id)
        self.verdict.notes.append(f"{state.title} is unchanged: {why}")
        return None


def _why_too_old(state: ResourceState, after: datetime | None) -> TooOld | None:
    """Return why the last build does not count if it ended before a time; None if it counts."""
    built_at = state.built_at
    if after is None or (built_at and built_at >= after):
        return None
    return TooOld(built_at, after)


def _node_of(state: ResourceState, graph: Graph, upstream: Upstream) -> ResourceState | None:
    """Return the state of a waited resource in the graph; None if it has no edges.

    :raises FaradayApiError: see :func:`assess`.
    """
    if graph.failure and not graph.unclear.isdisjoint(upstream.next_ids):
        raise graph.failure.with_traceback(None)
    node = graph.nodes.get(state.key)
    if node is None and state.resource_type.always_in_graph:
        raise FaradayResponseError(
            f"Faraday's dependency graph does not have {state.title}, so its inputs are unknown.",
            remedy="Try again later. If the error persists, remove include_upstream.",
            broken=True,
            method="GET",
            path="/graph",
        )
    return node


def _newest(listed: ResourceState, node: ResourceState) -> ResourceState:
    """Return the newer state of a resource: that of the list, or that of the graph, which is requested later.

    If both have the same status, it is that of the list, which has more fields.
    """
    if node.status == listed.status:
        return listed
    listed_at, node_at = listed.changed_at, node.changed_at
    return listed if listed_at and node_at and listed_at > node_at else node
