"""Compare states with marks to find builds and failures that have not been announced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

from airflow_provider_faraday.api.states import ResourceState
from airflow_provider_faraday.api.times import timestamp


class Mark(TypedDict):
    """The last build and the current error of a resource that were announced. Plain JSON, to be stored.

    ``built`` is a ``last_updated_output_at``; ``failed`` is when the resource went into the ``error`` that it
    is in, None in any other status.
    """

    built: str | None
    failed: str | None


Marks = Mapping[str, Mark]
"""Marks by resource id."""


@dataclass(frozen=True, slots=True)
class Updates:
    """The builds and failures of a poll that have not been announced.

    :param events: a payload for each build and each failure, in the order of the states.
    :param marks: the marks of all resources of the poll, once these events are announced.
    """

    events: list[dict[str, Any]]
    marks: dict[str, Mark]


def detect_updates(
    states: Iterable[ResourceState], marks: Marks, *, on_error: bool, emit_initial: bool
) -> Updates:
    """Compare the states of a poll with the announced builds and failures.

    A resource was rebuilt if its status is ``ready`` and its ``last_updated_output_at`` is later than the
    mark's. A resource without a mark is new: its current state is its initial state.

    :param on_error: whether a resource that went into ``error`` is an update.
    :param emit_initial: whether the present state of a new resource is an update.
    """
    updates = Updates([], {})
    for state in states:
        if state.id in updates.marks:
            continue
        failed = (state.status_changed_at or "error") if state.status == "error" else None
        mark = marks.get(state.id)
        if mark is None:
            mark = Mark(built=None, failed=None)
            if not emit_initial:
                mark = Mark(built=state.last_updated_output_at, failed=failed)
        built = mark["built"]
        if state.status == "ready" and _time(state.last_updated_output_at) > _time(built):
            built = state.last_updated_output_at
            updates.events.append(state.build)
        if on_error and failed and failed != mark["failed"]:
            updates.events.append({**state.build, "status_error": state.status_error})
        updates.marks[state.id] = Mark(built=built, failed=failed)
    return updates


def merge_marks(marks: Marks, others: Marks) -> dict[str, Mark]:
    """Return the later mark of each resource."""
    merged = dict(marks)
    for id_, mark in others.items():
        if id_ not in merged or _time(mark["built"]) > _time(merged[id_]["built"]):
            merged[id_] = mark
    return merged


def marks_of_all(stores: Sequence[Marks]) -> dict[str, Mark]:
    """Return the earliest mark of each resource that has one in every store."""
    ids = set(stores[0]).intersection(*stores[1:]) if stores else ()
    return {id_: min((marks[id_] for marks in stores), key=lambda mark: _time(mark["built"])) for id_ in ids}


def _time(built: str | None) -> datetime:
    """Return when a build ended. One whose time is missing or invalid is older than all others."""
    return timestamp(built) or datetime.min.replace(tzinfo=UTC)
