"""States plus criteria make a verdict: ready, waiting, failed, left out or missing, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import msgspec

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.resources import ResourceType
from airflow_provider_faraday.api.states import KNOWN_STATUSES, ResourceState
from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.api.times import timestamp

if TYPE_CHECKING:
    from airflow_provider_faraday.api.graph import Graph, Upstream

LISTED = 10
"""How many resources a message names before it only counts them."""

_REASON_LENGTH = 500

T = TypeVar("T")


Reason = str | tuple[datetime | None, datetime]
"""Why a resource is waited for: a text, or the times of its last build and of the earliest that counts, which
become text only if it is shown."""


class Standing(NamedTuple):
    """What readiness makes of a state, whatever the criteria.

    :param id: in lower case.
    :param left_out: why waits ignore the resource; None if they do not.
    :param unsettled: why it is not ready, or is about to be rebuilt; None if it is settled.
    """

    state: ResourceState
    id: str
    left_out: str | None
    unsettled: str | None
    built_at: datetime | None


def standings(states: Iterable[ResourceState]) -> list[Standing]:
    """Judge states as far as that does not depend on criteria: once, for all who wait for them."""
    return [
        Standing(state, state.id.lower(), state.why_skipped, _why_unsettled(state), _built_at(state))
        for state in states
    ]


class Criteria(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What counts as ready. Equal criteria get equal verdicts.

    :param updated_after: only a build at or after this time counts: one time for all resources, or pairs of
        resource id and time. Times are aware.
    :param fail_on_error: whether a resource in ``error`` ends the wait, or is waited for like any other.
    :param allow_empty: whether nothing to wait for counts as ready.
    :param unchanged_after: with upstream resources, after how many seconds without any change upstream a
        resource counts as ready although it has not been rebuilt; None for never.
    """

    updated_after: datetime | frozenset[tuple[str, datetime]] | None = None
    fail_on_error: bool = True
    allow_empty: bool = False
    unchanged_after: float | None = None

    @cached_property
    def times(self) -> dict[str, datetime]:
        """The time by resource id; empty if there is one time for all."""
        return dict(self.updated_after) if isinstance(self.updated_after, frozenset) else {}

    def threshold(self, state: ResourceState, upstream: Upstream | None = None) -> datetime | None:
        """Return the earliest build time that counts for a resource.

        :param upstream: what the resource is built from. If the resource has no time, the latest of its
            upstream resources counts.
        :raises FaradayInputError: if there is a time per id, but none for this one.
        """
        if not isinstance(self.updated_after, frozenset):
            return self.updated_after
        if not self.times:
            raise FaradayInputError(
                "updated_after is an empty dict: the task that it comes from has requested nothing.\n"
                "Skip this task then, or pass a time."
            )
        time = self.times.get(state.id.lower())
        if time is None and upstream:
            time = max((time for id_, time in self.times.items() if id_ in upstream), default=None)
        if time is None:
            upstream_of_it = " or for a resource upstream of it" if upstream else ""
            raise FaradayInputError(
                f"updated_after has times for {len(self.times)} ids, but not for {state.label}"
                f"{upstream_of_it}.\n"
                "Wait only for resources that updated_after lists, or pass a single time for all of them."
            )
        return time


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a wait ends without everything being ready.

    :param message: what is wrong, in a sentence.
    """

    kind: Literal["missing", "failed", "empty"]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamVerdict:
    """What one poll says about the resources upstream of a waited one.

    :param failed: which resource upstream failed, why, and the path from it.
    :param waiting: what is not settled upstream, nearest first.
    :param left_out: the archived resources and previews upstream, each with the reason.
    :param unchanged: why the resource counts as ready although it was not rebuilt.
    :param unchanged_in: seconds until it does, if nothing changes upstream; None if that takes a change.
    """

    state: ResourceState
    failed: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unchanged: str = ""
    unchanged_in: float | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of one poll: each resource in one group, with the reason if there is one."""

    resource_type: ResourceType
    ready: tuple[ResourceState, ...]
    waiting: tuple[tuple[ResourceState, Reason], ...]
    failed: tuple[tuple[ResourceState, str], ...]
    left_out: tuple[tuple[ResourceState, str], ...]
    missing: tuple[str, ...]
    allow_empty: bool
    upstream: tuple[UpstreamVerdict, ...] = ()

    # Cached: hundreds of subscribers can share a verdict.
    @cached_property
    def is_ready(self) -> bool:
        """Whether the wait succeeds."""
        return not (self.waiting or self.blocked or self.problem)

    @cached_property
    def blocked(self) -> tuple[UpstreamVerdict, ...]:
        """The resources that are not ready because of what is upstream."""
        return tuple(each for each in self.upstream if each.failed or each.waiting)

    @cached_property
    def unchanged(self) -> frozenset[str]:
        """The ids of resources that count as ready although they were not rebuilt."""
        return frozenset(each.state.id for each in self.upstream if each.unchanged)

    @cached_property
    def changes_in(self) -> float | None:
        """In how many seconds the verdict changes, even if no resource does; None for never."""
        return min(
            (each.unchanged_in for each in self.upstream if each.unchanged_in is not None), default=None
        )

    @cached_property
    def problem(self) -> Problem | None:
        """Why waiting longer cannot help; None if it can."""
        if self.missing:
            return Problem("missing", f"Faraday did not return {self._the(self.missing)}.")
        if self.failed:
            return Problem("failed", f"Faraday could not build {self._the([*map(_named, self.failed)])}.")
        if failed := [each for each in self.blocked if each.failed]:
            reasons = (f"{each.state.title} cannot be built: {'; '.join(each.failed)}" for each in failed)
            return Problem("failed", f"{'. '.join(reasons)}.")
        if not (self.ready or self.waiting or self.blocked or self.allow_empty):
            found = f"all are left out: {first_of(self.left_out, _named)}" if self.left_out else "none found"
            return Problem("empty", f"There are no {self.resource_type.plural} to wait for ({found}).")
        return None

    @cached_property
    def unknown_statuses(self) -> set[str]:
        """Statuses that the reference does not list; they count as not ready."""
        statuses = {state.status for state, _ in self.waiting if state.status}
        return {one_line(status) for status in statuses - KNOWN_STATUSES}

    @cached_property
    def pending(self) -> str:
        """What is still waited for and why, such as ``'orders' (…): status running``."""
        if self._upstream_reasons:
            return first_of([*map(_named, self.waiting), *self._upstream_reasons])
        return self._waiting

    @cached_property
    def description(self) -> str:
        """The whole verdict in one line, for the log."""
        groups_counted = (self.ready, self.waiting, self.blocked, self.failed, self.missing)
        count = sum(map(len, groups_counted))
        groups = {
            "failed": first_of(self.failed, _named),
            "missing": first_of(self.missing),
            "waiting for": self._waiting,
            "left out": first_of(self.left_out, _named),
        }
        parts = [f"{len(self.ready)} of {count} {self.resource_type.plural} ready"]
        parts += [f"{group}: {members}" for group, members in groups.items() if members]
        if self._upstream_reasons:
            parts.append(f"waiting for {first_of(self._upstream_reasons)}")
        parts += [
            f"{each.state.title} is unchanged: {each.unchanged}" for each in self.upstream if each.unchanged
        ]
        if left_out := list(dict.fromkeys(text for each in self.upstream for text in each.left_out)):
            parts.append(f"left out upstream: {first_of(left_out)}")
        return one_line("; ".join(parts))

    @cached_property
    def _waiting(self) -> str:
        return first_of(self.waiting, _named)

    @cached_property
    def _upstream_reasons(self) -> list[str]:
        return [f"{each.state.title}: {first_of(each.waiting)}" for each in self.blocked if each.waiting]

    def _the(self, members: Sequence[str]) -> str:
        noun = (
            self.resource_type.label if len(members) == 1 else f"{len(members)} {self.resource_type.plural}:"
        )
        return f"{noun} {'; '.join(members)}"


def assess(
    resource_type: ResourceType,
    listed: Iterable[Standing],
    criteria: Criteria,
    ids: Collection[str] | None = None,
    graph: Graph | None = None,
) -> Verdict:
    """Judge the resources of one poll.

    :param listed: what the poll returned, see :func:`standings`.
    :param ids: the resources to wait for, each of which must be there; None for all.
    :param graph: to wait for everything upstream as well.
    :raises FaradayInputError: if ``updated_after`` has a time per id, but none for a resource waited for.
    """
    wanted = None if ids is None else set(ids)
    missing = dict.fromkeys(ids or ())
    # Written for speed: thousands of waiters may judge a long list.
    per_id = graph is not None or isinstance(criteria.updated_after, frozenset)
    after = None if isinstance(criteria.updated_after, frozenset) else criteria.updated_after
    ready, waiting, failed, left_out, upstream = [], [], [], [], []
    for standing in listed:
        state, id_ = standing.state, standing.id
        reason: Reason | None = standing.unsettled
        built_at = standing.built_at
        if wanted is not None and id_ not in wanted:
            continue
        if missing:
            missing.pop(id_, None)
        if standing.left_out:
            left_out.append((state, standing.left_out))
            continue
        inputs = graph.upstream_of(id_) if graph else None
        if per_id:
            after = criteria.threshold(state, inputs)
            if graph:
                after = _from_builds(id_, after, graph, criteria)
        if reason is None and after is not None and (built_at is None or built_at < after):
            reason = (built_at, after)
        if reason is None and graph and id_ in graph.unsettled:
            # The graph is newer than the list.
            reason = _why_unsettled(graph.nodes[id_])
        if state.status == "error" and criteria.fail_on_error and not _is_past(state, after):
            failed.append((state, _reason(state.status_error) or "Faraday gave no reason"))
            continue
        if graph and inputs:
            above = _assess_upstream(state, after, reason, inputs, graph, criteria)
            upstream.append(above)
            if above.failed or above.waiting:
                continue
            reason = None if above.unchanged else reason
        if reason:
            waiting.append((state, reason))
        else:
            ready.append(state)
    # A list may hold a resource twice, one of them archived: the live one decides.
    live: set[str] = set()
    if left_out:
        live = {state.id for state in ready} | {state.id for state, _ in waiting + failed}
        live |= {above.state.id for above in upstream}
    return Verdict(
        resource_type=resource_type,
        ready=tuple(ready),
        waiting=tuple(waiting),
        failed=tuple(failed),
        left_out=tuple((state, why) for state, why in left_out if state.id not in live),
        missing=tuple(missing),
        allow_empty=criteria.allow_empty,
        upstream=tuple(upstream),
    )


def _assess_upstream(
    waited: ResourceState,
    after: datetime | None,
    reason: Reason | None,
    inputs: Upstream,
    graph: Graph,
    criteria: Criteria,
) -> UpstreamVerdict:
    """Judge what a resource is built from.

    :param after: the earliest build of the resource itself that counts.
    :param reason: why the resource itself is not ready; None if it is.
    """
    requested_at = criteria.threshold(waited, inputs)
    failed: list[str] = []
    waiting: list[tuple[int, str]] = []
    more = 0
    for state in inputs.unsettled:
        id_ = state.id.lower()
        since = _from_builds(id_, criteria.times.get(id_, requested_at), graph, criteria)
        # What was built since does not block, whatever it does next. A busy account would never settle.
        if since and _is_built_since(state, since):
            continue
        if state.status == "error" and criteria.fail_on_error and not _is_past(state, since):
            if len(failed) == LISTED:
                break
            path = inputs.path_from(id_)
            steps = [
                state.resource_type.label,
                *(step.title for step in path[1:]),
                waited.resource_type.label,
            ]
            error = _reason(state.status_error) or "Faraday gave no reason"
            failed.append(f"{state.title} failed: {error} ({' → '.join(steps)})")
        else:
            # They come nearest first. Messages name only the first ones.
            if len(waiting) < LISTED:
                waiting.append((inputs.steps[id_], f"{state.title} {_activity(state)}"))
            else:
                more += 1
    for id_, time in criteria.times.items():
        # An update was requested, but the status still is that of the previous build.
        if id_ in inputs and id_ not in graph.unsettled and not _is_built_since(graph.nodes[id_], time):
            text = f"{graph.nodes[id_].title} has not been rebuilt since {time.isoformat()}"
            waiting.append((inputs.steps[id_], text))
    reasons = [
        f"{text} ({distance} step{'s' if distance > 1 else ''} upstream)"
        for distance, text in sorted(waiting, key=lambda each: each[0])
    ]
    reasons += ["…"] * more
    if reasons and reason and waited.status != "ready":
        reasons.insert(0, _text(reason))
    unchanged, unchanged_in = "", None
    # A build that was requested for the resource itself happens even if nothing upstream has changed.
    requested = waited.id.lower() in criteria.times
    other = requested or failed or reasons or inputs.unsettled or _why_unsettled(waited)
    if reason and after and not other:
        # Only the time of its last build is missing.
        since = max(filter(None, (after, inputs.changed_at, changed_at(waited))))
        settled = f"nothing upstream has changed since {since:%F %TZ}"
        if criteria.unchanged_after is None:
            hint = "Faraday rebuilds only what it detects changes for: see unchanged_after"
            reasons.append(f"{_text(reason)}, and {settled} ({hint})")
        elif graph.sent_at:
            unchanged_in = criteria.unchanged_after - (graph.sent_at - since).total_seconds()
        if unchanged_in is not None and unchanged_in <= 0:
            unchanged = settled
        elif criteria.unchanged_after is not None:
            reasons.append(f"{_text(reason)}, and {settled}")
    return UpstreamVerdict(
        state=waited,
        failed=tuple(failed),
        waiting=tuple(reasons),
        left_out=tuple(f"{state.title} ({graph.why_left_out(state)})" for state in inputs.left_out[:LISTED]),
        unchanged=unchanged,
        unchanged_in=None if unchanged else unchanged_in,
    )


def _from_builds(id_: str, after: datetime | None, graph: Graph, criteria: Criteria) -> datetime | None:
    """Return the earliest time at which a build can contain the requested builds upstream of it.

    If several builds were requested, what is downstream of them can be built before the last of them is.
    """
    if after is None or id_ in criteria.times:
        return after
    listed = (graph.nodes[each] for each in criteria.times if id_ in graph.downstream_of(each))
    built = (timestamp(state.last_updated_output_at) for state in listed if state.last_updated_output_at)
    return max([after, *filter(None, built)])


def is_settled(state: ResourceState) -> bool:
    """Return whether a resource is ready and not about to be rebuilt."""
    return _why_unsettled(state) is None


def changed_at(state: ResourceState) -> datetime | None:
    """Return when a resource last changed its status, its configuration or its output."""
    texts = (state.status_changed_at, state.last_updated_config_at, state.last_updated_output_at)
    return max(filter(None, (timestamp(text) for text in texts if text)), default=None)


def first_of(members: Sequence[T], text: Callable[[T], str] = str) -> str:
    """Return the first few of a list as text, and how many more there are."""
    more = f" and {len(members) - LISTED} more" if len(members) > LISTED else ""
    return ", ".join(map(text, members[:LISTED])) + more


def _is_past(state: ResourceState, after: datetime | None) -> bool:
    """Whether an error is an earlier build's, and says nothing about the one that is waited for."""
    since = timestamp(state.status_changed_at) if after and state.status_changed_at else None
    return bool(after and since and since < after)


def _built_at(state: ResourceState) -> datetime | None:
    return timestamp(state.last_updated_output_at) if state.last_updated_output_at else None


def _is_built_since(state: ResourceState, since: datetime) -> bool:
    built_at = _built_at(state)
    return bool(built_at and built_at >= since)


def _activity(state: ResourceState) -> str:
    """Return what an upstream resource is doing that is not settled."""
    if state.status == "error":
        return f"is in error, {_reason(state.status_error) or 'without a reason'}"
    if state.status == "ready":
        return f"is {_why_unsettled(state)}"
    return f"is {state.status}" if state.status else "has no status"


def _why_unsettled(state: ResourceState) -> str | None:
    if state.status != "ready":
        reason = f"status {state.status}" if state.status else "no status"
        error = _reason(state.status_error) if state.status == "error" else ""
        return f"{reason}, {error}" if error else reason
    built, configured = state.last_updated_output_at, state.last_updated_config_at
    built_at = _built_at(state)
    configured_at = timestamp(configured) if configured else None
    for text, time in ((built, built_at), (configured, configured_at)):
        if text and time is None:
            return f"ready, but {text[:40]!r} is not a valid timestamp"
    if built_at and configured_at and configured_at > built_at:
        return f"ready, but its configuration changed at {configured_at:%F %TZ}, after its last build"
    return None


def _reason(text: str | None) -> str:
    """Return Faraday's reason as part of a sentence of ours."""
    text = one_line(text or "").strip().rstrip(".")
    return text if len(text) <= _REASON_LENGTH else f"{text[:_REASON_LENGTH]}…"


def _named(member: tuple[ResourceState, Reason]) -> str:
    state, reason = member
    return f"{state.label}: {_text(reason)}"


def _text(reason: Reason) -> str:
    if isinstance(reason, str):
        return reason
    built_at, after = reason
    last = _utc(built_at) if built_at else "unknown"
    return f"ready, but its last build ({last}) is older than {_iso(after)}"


# Cached: all resources in a message have the same time to reach, and many verdicts name the same ones.
@lru_cache(maxsize=4096)
def _utc(moment: datetime) -> str:
    return f"{moment:%F %TZ}"


@lru_cache(maxsize=64)
def _iso(moment: datetime) -> str:
    return moment.isoformat()
