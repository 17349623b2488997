"""Evaluate resources: turn their states and criteria into a verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from math import inf
from typing import Any, Literal, NamedTuple, NoReturn

import msgspec

from airflow_provider_faraday.api.errors import FaradayInputError, FaradayResponseError
from airflow_provider_faraday.api.graph import Graph, Upstream
from airflow_provider_faraday.api.resources import ResourceType
from airflow_provider_faraday.api.states import KNOWN_STATUSES, ResourceState
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
        after = saved.get("updated_after")
        # Times by id, as pairs.
        return msgspec.convert(
            {**saved, "updated_after": dict(after) if isinstance(after, list) else after}, cls
        )

    @property
    def times(self) -> dict[str, datetime]:
        """The times by id; empty if there is one time for all."""
        return self.updated_after if isinstance(self.updated_after, dict) else {}

    def only_for(self, ids: Iterable[str]) -> Criteria:
        """Return the criteria with the times of these resources only."""
        times = {id_: self.times[id_] for id_ in ids if id_ in self.times}
        return msgspec.structs.replace(self, updated_after=times) if self.times else self


class TooOld(msgspec.Struct, frozen=True, gc=False):
    """The last build of a ready resource does not count, because of when it ended."""

    built_at: datetime | None
    after: datetime

    def __str__(self) -> str:
        last = shown(self.built_at) if self.built_at else "unknown"
        return f"ready, but its last build ({last}) is older than {shown(self.after)}"


Reason = str | TooOld
"""Why a resource is waited for. It becomes a sentence only if it is shown."""


class Finding(msgspec.Struct, frozen=True, gc=False):
    """A resource, and why it is in its group of a verdict."""

    state: ResourceState
    reason: Reason

    def __str__(self) -> str:
        return f"{self.state.label}: {self.reason}"


class Blocker(NamedTuple):
    """An upstream resource that keeps others from being ready.

    :param failed: Faraday's reason, if it has failed.
    :param text: what it is doing, in a sentence.
    """

    state: ResourceState
    failed: str
    text: str


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
    """The result of one poll: each resource in one group.

    :ivar blocked: the resources that wait for others upstream.
    :ivar blockers: these others by id, each with its distance. Nearest first.
    :ivar unbuildable: the resources that wait for others that have failed.
    :ivar failures: these others by id: why they have failed, and the path from them.
    :ivar failed_upstream: the states of these others.
    :ivar skipped_upstream: the archived resources and previews upstream, each with the reason.
    :ivar notes: remarks about ready resources, for the log.
    :ivar unchanged: the ids of resources that count as ready although they were not rebuilt.
    :ivar changes_in: seconds until the verdict changes, even if no resource does.
    """

    resource_type: ResourceType
    allow_empty: bool
    ready: list[ResourceState] = field(default_factory=list)
    waiting: list[Finding] = field(default_factory=list)
    blocked: list[ResourceState] = field(default_factory=list)
    blockers: dict[str, tuple[Blocker, int]] = field(default_factory=dict)
    failed: list[Finding] = field(default_factory=list)
    unbuildable: list[ResourceState] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    failed_upstream: list[ResourceState] = field(default_factory=list)
    skipped: list[Finding] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    skipped_upstream: dict[str, None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unchanged: set[str] = field(default_factory=set)
    changes_in: float = inf

    @property
    def is_ready(self) -> bool:
        """Whether the wait succeeds."""
        return not (self.waiting or self.blocked or self.problem)

    # Cached: hundreds of subscribers can share a verdict.
    @cached_property
    def problem(self) -> Problem | None:
        """Why waiting longer cannot help; None if it can."""
        if self.missing:
            return Problem("missing", f"Faraday did not return {self._the(self.missing)}.")
        if self.failed:
            message = f"Faraday could not build {self._the(self.failed)}."
            return Problem("failed", message, _logged(finding.state for finding in self.failed))
        if self.unbuildable:
            why = first_of(self.failures.values(), separator="; ")
            message = f"{_and_more(self.unbuildable)} cannot be built: {why}."
            return Problem("failed", message, _logged(self.failed_upstream))
        if not (self.ready or self.waiting or self.blocked or self.allow_empty):
            found = f"all are skipped: {first_of(self.skipped)}" if self.skipped else "none found"
            return Problem("empty", f"There are no {self.resource_type.plural} to wait for ({found}).")
        return None

    @cached_property
    def unknown_statuses(self) -> set[str]:
        """Statuses that the reference does not list; they count as not ready."""
        states = (*(finding.state for finding in self.waiting), *self.blocked)
        return {one_line(s) for s in {state.status for state in states} - KNOWN_STATUSES if s}

    @cached_property
    def pending(self) -> str:
        """The resources that are not ready, with reasons, such as ``'orders' (…): status running``."""
        return ", ".join(filter(None, (self._waiting, self._upstream)))

    @cached_property
    def description(self) -> str:
        """The whole verdict in one line, for the log."""
        groups = {
            "failed: ": first_of(self.failed),
            "failed upstream: ": first_of(self.failures.values()),
            "missing: ": first_of(self.missing),
            "waiting for: ": self._waiting,
            "skipped: ": first_of(self.skipped),
            "waiting for ": self._upstream,
            "": first_of(self.notes, separator="; "),
            "skipped upstream: ": first_of(self.skipped_upstream),
        }
        count = len(self.ready) + len(self.waiting) + len(self.blocked) + len(self.missing)
        count += len(self.failed) + len(self.unbuildable)
        parts = [f"{len(self.ready)} of {count} {self.resource_type.plural} ready"]
        parts += [f"{group}{members}" for group, members in groups.items() if members]
        return one_line("; ".join(parts))

    @cached_property
    def _waiting(self) -> str:
        return first_of(self.waiting)

    @cached_property
    def _upstream(self) -> str:
        """What is waited for upstream, each once, and for which resources."""
        blockers = first_of(self.blockers.values(), _at_distance)
        return f"{_and_more(self.blocked)}: {blockers}" if self.blocked else ""

    def _the(self, members: Sequence[object]) -> str:
        kind = self.resource_type
        noun = kind.label if len(members) == 1 else f"{len(members)} {kind.plural}:"
        return f"{noun} {first_of(members, separator='; ')}"


def assess(
    resource_type: ResourceType,
    states: Iterable[ResourceState],
    criteria: Criteria,
    ids: Collection[str] | None = None,
    graph: Graph | None = None,
    *,
    now: datetime,
) -> Verdict:
    """Evaluate the resources of one poll.

    :param ids: the resources to wait for, each of which must be there; None for all.
    :param graph: to wait for everything upstream as well. It is newer than the states.
    :param now: the time of the response, by Faraday's clock.
    :raises FaradayInputError: if ``updated_after`` has times by id, but none for a resource waited for.
    :raises FaradayApiError: if the graph does not have a resource that it should have, or if it is unclear
        whether a resource upstream is a preview.
    """
    verdict = Verdict(resource_type=resource_type, allow_empty=criteria.allow_empty)
    judge = _UpstreamJudge(criteria, now, verdict, graph) if graph else _Judge(criteria, now, verdict)
    wanted = None if ids is None else set(ids)
    found: set[str] = set()
    for state in states:
        if wanted is not None:
            key = state.key
            if key not in wanted:
                continue
            found.add(key)
        if skipped := state.why_skipped:
            verdict.skipped.append(Finding(state, skipped))
        else:
            judge.judge(state)
    verdict.missing = [id_ for id_ in ids or () if id_ not in found]
    return verdict


class _Judge:
    """Sorts resources into the groups of a verdict."""

    def __init__(self, criteria: Criteria, now: datetime, verdict: Verdict) -> None:
        self.criteria = criteria
        self.now = now
        self.verdict = verdict

    def judge(self, state: ResourceState) -> None:
        after = self.criteria.updated_after
        since = None
        if isinstance(after, dict):
            after = since = self.time_of(state)
        reason = self.why_waiting(state, after, since)
        if reason is None:
            self.verdict.ready.append(state)
        elif self.is_failed(state, after):
            self.verdict.failed.append(Finding(state, state.error))
        else:
            self.verdict.waiting.append(Finding(state, reason))

    def time_of(self, state: ResourceState) -> datetime:
        """Return the time of a resource in ``updated_after``."""
        time = self.criteria.times.get(state.key)
        return time or self._no_time(state)

    def is_failed(self, state: ResourceState, after: datetime | None) -> bool:
        """Return whether an error ends the wait. One from before ``after`` is an earlier build's."""
        if state.status != "error" or not self.criteria.fail_on_error:
            return False
        failed_at = state.failed_at
        return not (after and failed_at and failed_at < after)

    def why_waiting(
        self, state: ResourceState, after: datetime | None, since: datetime | None
    ) -> Reason | None:
        """Return why a resource is waited for; None if it is ready.

        :param after: the earliest end of a build that counts.
        :param since: the earliest time at which such a build has read its input.
        """
        if reason := state.why_not_ready:
            return reason
        if after:
            built_at = state.built_at
            if not built_at or built_at < after:
                return TooOld(built_at, after)
        early = self.read_too_early(state, since) if since else None
        if early and self.is_trusted(state):
            self.verdict.notes.append(f"{state.title} counts after 10 minutes, although it is {early}")
            return None
        return early

    def read_too_early(self, state: ResourceState, since: datetime) -> str | None:
        """Return when the last build read its input, if that was before a time; None otherwise."""
        # A build ends after it has read its input.
        read_at = state.read_at or state.built_at
        if not read_at or read_at >= since:
            return None
        did = "read its input" if state.read_at else "ended"
        return f"ready, but its last build {did} at {shown(read_at)}, before {shown(since)}"

    def is_trusted(self, state: ResourceState) -> bool:
        """Return whether the last build counts, although it seems to have read its input too early."""
        built_at = state.built_at
        seconds = (built_at + TRUSTED_AFTER - self.now).total_seconds() if built_at else 0.0
        if seconds > 0:
            self.verdict.changes_in = min(seconds, self.verdict.changes_in)
        return seconds <= 0

    def _no_time(self, state: ResourceState, upstream: str = "") -> NoReturn:
        if not self.criteria.times:
            raise FaradayInputError(
                "updated_after is an empty dict: the task that it comes from has forced no update, or has "
                "found no dataset that reads its upload.\nSkip this task then, or pass a time."
            )
        remedy = "Wait only for resources that updated_after lists, or pass a single time for all of them."
        if not upstream:
            remedy = "Set include_upstream=True if these are upstream of it. Otherwise, pass a single time."
        raise FaradayInputError(
            f"updated_after has times for {len(self.criteria.times)} ids, but not for "
            f"{state.label}{upstream}.\n{remedy}"
        )


class _UpstreamJudge(_Judge):
    """Judges resources and everything that they are built from.

    With times by id, each resource downstream of these must be built, and have read its input, after the
    builds that it must contain.
    """

    def __init__(self, criteria: Criteria, now: datetime, verdict: Verdict, graph: Graph) -> None:
        super().__init__(criteria, now, verdict)
        self.graph = graph
        times = criteria.times
        built = {id_: state.built_at for id_, state in graph.nodes.items() if state.built_at} if times else {}
        after = graph.latest_upstream({id_: max(time, built.get(id_, time)) for id_, time in times.items()})
        read = graph.latest_upstream({id_: built[id_] for id_ in (*times, *after) if id_ in built})
        self.after = {id_: max(time, after.get(id_, time)) for id_, time in (after | times).items()}
        self.since = {id_: max(time, read.get(id_, time)) for id_, time in self.after.items()}
        self.memo: dict[str, Blocker | None] = {}
        self.not_rebuilt = [id_ for id_ in self.after if id_ in graph.nodes and self._blocker(id_)]

    def judge(self, state: ResourceState) -> None:
        key = state.key
        upstream = self.graph.upstream_of(key)
        for id_ in self.graph.unclear:
            if id_ in upstream:
                raise self.graph.unclear[id_]
        node = self.graph.nodes.get(key)
        if node is None and state.resource_type.always_in_graph:
            raise FaradayResponseError(
                f"Faraday's dependency graph does not have {state.title}, so its inputs are unknown.",
                remedy="Try again later. If the error persists, remove include_upstream.",
                broken=True,
                method="GET",
                path="/graph",
            )
        newest = _newest(state, node)
        after, since = self._required(state)
        if self.is_failed(newest, after):
            self.verdict.failed.append(Finding(state, newest.error))
            return
        self.verdict.skipped_upstream |= dict.fromkeys(
            f"{each.title} ({self.graph.why_skipped(each)})" for each in upstream.skipped[:LISTED]
        )
        blockers = self._blockers(upstream)
        if failed := [each for each in blockers if each.failed]:
            self.verdict.unbuildable.append(state)
            for each in failed:
                if each.state.key not in self.verdict.failures:
                    self.verdict.failures[each.state.key] = _failure(each, upstream, state)
                    self.verdict.failed_upstream.append(each.state)
            return
        # Ready only if both are, because it is unknown which of them is newer.
        reason = self.why_waiting(newest, after, since) or state.why_not_ready
        reason = reason or (node.why_not_ready if node else None)
        if blockers:
            self.verdict.blocked.append(state)
            if newest.status != "ready":
                self.verdict.blockers[key] = Blocker(state, "", f"{state.title} {_activity(newest)}"), 0
            for each in blockers:
                self.verdict.blockers.setdefault(each.state.key, (each, upstream.steps[each.state.key]))
        elif isinstance(reason, TooOld) and not upstream.outdated and not self._is_due(newest):
            self._wait_for_change(state, newest, upstream, reason)
        elif reason:
            self.verdict.waiting.append(Finding(state, reason))
        else:
            self.verdict.ready.append(state)

    def _required(self, state: ResourceState) -> tuple[datetime | None, datetime | None]:
        """Return when the build of a waited resource may have ended, and read its input, at the earliest."""
        if not isinstance(self.criteria.updated_after, dict):
            return self.criteria.updated_after, None
        if state.key not in self.after:
            self._no_time(state, " or for a resource upstream of it")
        return self.after[state.key], self.since[state.key]

    def _blockers(self, upstream: Upstream) -> list[Blocker]:
        """Return what blocks upstream, nearest first."""
        ids = dict.fromkeys((*upstream.outdated, *(id_ for id_ in self.not_rebuilt if id_ in upstream)))
        blockers = [blocker for id_ in ids if (blocker := self._blocker(id_))]
        return sorted(blockers, key=lambda each: upstream.steps[each.state.key])

    def _blocker(self, id_: str) -> Blocker | None:
        if id_ not in self.memo:
            self.memo[id_] = self._assess_blocker(id_, self.graph.nodes[id_])
        return self.memo[id_]

    def _assess_blocker(self, id_: str, state: ResourceState) -> Blocker | None:
        after = self.criteria.updated_after
        if isinstance(after, dict):
            after = self.after.get(id_) or max(after.values())
        built_at = state.built_at
        if after and built_at and built_at >= after:
            # A resource that was built since does not block: in a busy account, the wait might never end.
            early = self.read_too_early(state, self.since[id_]) if id_ in self.since else None
            is_early = early and not self.is_trusted(state)
            return Blocker(state, "", f"{state.title} is {early}") if is_early else None
        if self.is_failed(state, after):
            return Blocker(state, state.error, "")
        if id_ in self.graph.outdated:
            return Blocker(state, "", f"{state.title} {_activity(state)}")
        if self._is_due(state):
            since = shown(self.criteria.times[id_])
            return Blocker(state, "", f"{state.title} has not been rebuilt since {since}")
        return None

    def _is_due(self, state: ResourceState) -> bool:
        """Return whether an update was requested, but the status still is that of the previous build."""
        time = self.criteria.times.get(state.key)
        return time is not None and not (state.built_at and state.built_at >= time)

    def _wait_for_change(
        self, state: ResourceState, newest: ResourceState, upstream: Upstream, reason: TooOld
    ) -> None:
        """Evaluate a resource that was not rebuilt, although everything upstream is up to date."""
        times = (reason.after, upstream.changed_at, state.changed_at, newest.changed_at)
        since = max(filter(None, times))
        why = f"nothing upstream has changed since {shown(since)}"
        patience = self.criteria.unchanged_after
        seconds = inf if patience is None else patience - (self.now - since).total_seconds()
        if seconds > 0:
            hint = "Faraday rebuilds only what it detects changes for: see unchanged_after"
            text = f"{reason}, and {why}" + (f" ({hint})" if patience is None else "")
            self.verdict.changes_in = min(seconds, self.verdict.changes_in)
            self.verdict.waiting.append(Finding(state, text))
            return
        self.verdict.unchanged.add(state.id)
        self.verdict.notes.append(f"{state.title} is unchanged: {why}")
        self.verdict.ready.append(state)


def _newest(listed: ResourceState, node: ResourceState | None) -> ResourceState:
    """Return the newer state of a resource: that of the list, or that of the graph, which is requested later.

    If both have the same status, it is that of the list, which has more fields.
    """
    if node is None or node.status == listed.status:
        return listed
    listed_at, node_at = listed.changed_at, node.changed_at
    return listed if listed_at and node_at and listed_at > node_at else node


def _logged(failed: Iterable[ResourceState]) -> tuple[str, ...]:
    """Return the ids of the first failed resources that have ingress logs."""
    return tuple(state.id for state in failed if state.resource_type.has_ingress_logs)[:LISTED]


def _and_more(states: Sequence[ResourceState]) -> str:
    """Name the first resource, and say how many more there are."""
    return states[0].title + (f" and {len(states) - 1} more" if len(states) > 1 else "")


def _at_distance(blocker: tuple[Blocker, int]) -> str:
    distance = blocker[1]
    where = f" ({distance} step{'s' if distance > 1 else ''} upstream)" if distance else ""
    return f"{blocker[0].text}{where}"


def _failure(blocker: Blocker, upstream: Upstream, waited: ResourceState) -> str:
    path = upstream.path_from(blocker.state.key)
    steps = [blocker.state.resource_type.label, *(step.title for step in path[1:])]
    steps.append(waited.resource_type.label)
    return f"{blocker.state.title} failed: {blocker.failed} ({' → '.join(steps)})"


def _activity(state: ResourceState) -> str:
    """Return why an upstream resource is not up to date."""
    if state.status == "error":
        return f"is in error, {state.error}"
    if state.status == "ready":
        return f"is {state.why_not_ready}"
    return f"is {state.status}" if state.status else "has no status"
