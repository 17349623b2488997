"""From datasets and criteria to a verdict: ready, waiting, failed or nothing to wait for, with reasons."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Annotated, Any, TypeVar

import msgspec

from airflow_provider_faraday.api.errors import FaradayResponseError
from airflow_provider_faraday.api.texts import one_line

T = TypeVar("T")

PROBLEMS = {
    "missing": "Faraday does not return {}. Check that the account of the Airflow connection has it.",
    "failed": (
        "Faraday could not build {}. "
        "Mend it in Faraday and clear this task, or set fail_on_error=False to wait for that."
    ),
    "empty": "There is nothing to wait for: {}. Set allow_empty=True if that is as good as ready.",
}
"""What each kind of problem is said as."""

KNOWN_STATUSES = frozenset({"new", "starting", "running", "ready", "error"})


class DatasetState(msgspec.Struct, frozen=True, gc=False):
    """The fields of a dataset that readiness and its updates depend on; timestamps as Faraday sent them."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    name: str | None = None
    status: str | None = None
    status_error: str | None = None
    status_changed_at: str | None = None
    last_updated_config_at: str | None = None
    last_updated_output_at: str | None = None
    archived_at: str | None = None
    # Only handed on; a count of another type must not end a wait.
    row_count: Any = None

    @property
    def label(self) -> str:
        """Name and id, as people find them in a log."""
        return one_line(f"'{self.name}' ({self.id})" if self.name else self.id)

    @property
    def build(self) -> dict[str, Any]:
        """The last build in short, as an asset's event carries it."""
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "last_updated_output_at": self.last_updated_output_at,
            "row_count": self.row_count,
        }


def states_of(datasets: list[dict[str, Any]]) -> list[DatasetState]:
    """Take from each dataset what readiness depends on.

    :raises FaradayResponseError: where a field has another type than the reference promises.
    """
    try:
        return msgspec.convert(datasets, list[DatasetState])
    except msgspec.ValidationError as error:
        message = f"Faraday's datasets cannot be judged: {error}. Tell Faraday's support."
    raise FaradayResponseError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What a waiter waits for, and what it calls ready; equal ones get equal verdicts.

    :param updated_after: only a build at or after this time counts; aware.
    :param fail_on_error: whether a dataset in ``error`` ends the wait, or is waited for like any other.
    :param allow_empty: whether nothing to wait for is as good as all ready.
    :param wanted_ids: the datasets that must be in the list; None where the list itself decides.
    """

    updated_after: datetime | None = None
    fail_on_error: bool = True
    allow_empty: bool = False
    wanted_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a wait ends without the datasets being ready.

    :param kind: ``missing``, ``failed`` or ``empty``.
    :param dataset_ids: the datasets that it is about.
    :param details: the same for people; by default the ids.
    """

    kind: str
    dataset_ids: tuple[str, ...] = ()
    details: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """Say what is wrong and what to do."""
        listed = "; ".join(self.details or self.dataset_ids)
        return PROBLEMS[self.kind].format(one_line(listed) or "no dataset is listed")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one poll says to one waiter: each dataset in one group, with the reason where there is one."""

    ready: tuple[DatasetState, ...]
    waiting: tuple[tuple[DatasetState, str], ...]
    failed: tuple[tuple[DatasetState, str], ...]
    archived: tuple[DatasetState, ...]
    missing: tuple[str, ...]
    criteria: Criteria

    # Cached, because hundreds of waiters share a verdict.
    @cached_property
    def is_ready(self) -> bool:
        """Whether the gate opens."""
        return not (self.waiting or self.problem)

    @cached_property
    def problem(self) -> Problem | None:
        """What makes waiting longer pointless, if anything does."""
        if self.missing:
            return Problem("missing", self.missing)
        if self.failed:
            details = tuple(f"{state.label}: {why}" for state, why in self.failed)
            return Problem("failed", tuple(state.id for state, _ in self.failed), details)
        if not (self.ready or self.waiting or self.criteria.allow_empty):
            details = tuple(f"{state.label} is archived" for state in self.archived)
            return Problem("empty", tuple(state.id for state in self.archived), details)
        return None

    @cached_property
    def unknown_statuses(self) -> set[str]:
        """Statuses that are not in the reference; they count as not ready."""
        return {one_line(state.status) for state, _ in self.waiting if state.status} - KNOWN_STATUSES

    @cached_property
    def description(self) -> str:
        """All of it in one line, for the log."""
        count = len(self.ready) + len(self.waiting) + len(self.failed) + len(self.missing)
        parts = [f"{len(self.ready)} of {count} datasets ready"]
        if self.failed:
            parts.append("failed: " + _first(self.failed, lambda item: f"{item[0].label}: {item[1]}"))
        if self.missing:
            parts.append("missing: " + _first(self.missing, str))
        if self.waiting:
            parts.append("waiting for " + _first(self.waiting, lambda item: f"{item[0].label}: {item[1]}"))
        if self.archived:
            parts.append("left out as archived: " + _first(self.archived, lambda state: state.label))
        return one_line("; ".join(parts))


def assess(states: Iterable[DatasetState], criteria: Criteria) -> Verdict:
    """Judge one poll's datasets; a dataset that is not asked for by ``wanted_ids`` does not count."""
    wanted = None if criteria.wanted_ids is None else set(criteria.wanted_ids)
    missing = dict.fromkeys(criteria.wanted_ids or ())
    ready, waiting, failed, archived = [], [], [], []
    for state in states:
        id_ = state.id.lower()
        if wanted is not None and id_ not in wanted:
            continue
        missing.pop(id_, None)
        if state.archived_at:
            archived.append(state)
        elif state.status == "error" and criteria.fail_on_error and not _is_past(state, criteria):
            failed.append((state, state.status_error or "Faraday gives no reason"))
        elif reason := _why_not_ready(state, criteria.updated_after):
            waiting.append((state, reason))
        else:
            ready.append(state)
    return Verdict(
        ready=tuple(ready),
        waiting=tuple(waiting),
        failed=tuple(failed),
        archived=tuple(archived),
        missing=tuple(missing),
        criteria=criteria,
    )


def last_change(state: DatasetState) -> datetime | None:
    """Give when the dataset was built last or went into ``error``: what comes of a new request is later."""
    texts = [state.last_updated_output_at, state.status_changed_at if state.status == "error" else None]
    return max(filter(None, (timestamp(text) for text in texts if text)), default=None)


@lru_cache(maxsize=32_768)
def timestamp(text: str) -> datetime | None:
    """Read an RFC 3339 timestamp into UTC, leap seconds included; None where it is none.

    One without an offset is taken for UTC.
    """
    try:
        return _in_utc(text)
    except msgspec.ValidationError:
        pass
    except OverflowError:
        return None
    # Python knows no second 60.
    before_leap = re.sub(r"^(.{16}):60", r"\1:59", text)
    try:
        return _in_utc(before_leap) + timedelta(seconds=1) if before_leap != text else None
    except (msgspec.ValidationError, OverflowError):
        return None


def _in_utc(text: str) -> datetime:
    moment = msgspec.convert(text, datetime)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_past(state: DatasetState, criteria: Criteria) -> bool:
    """Tell whether an error is an earlier build's, and says nothing of the one that is waited for."""
    since = timestamp(state.status_changed_at) if state.status_changed_at else None
    return bool(criteria.updated_after and since and since < criteria.updated_after)


def _why_not_ready(state: DatasetState, updated_after: datetime | None) -> str | None:
    if state.status != "ready":
        reason = f"status {state.status}" if state.status else "no status"
        if state.status == "error" and state.status_error:
            reason += f", {state.status_error}"
        return reason
    built = _moment(state.last_updated_output_at)
    configured = _moment(state.last_updated_config_at)
    if isinstance(built, str) or isinstance(configured, str):
        return f"ready, but {built if isinstance(built, str) else configured} is no timestamp"
    if built and configured and configured > built:
        return f"ready, but its configuration changed at {configured:%F %TZ}, after its last build"
    if updated_after and (built is None or built < updated_after):
        last = f"{built:%F %TZ}" if built else "unknown"
        return f"ready, but its last build ({last}) is older than {updated_after.isoformat()}"
    return None


def _moment(text: str | None) -> datetime | str | None:
    """Give the time, None where there is none, or the text as a log shows it where it cannot be read."""
    return None if text is None else timestamp(text) or repr(text[:40])


def _first(items: Sequence[T], label: Callable[[T], str], most: int = 10) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(label(item) for item in items[:most]) + more
