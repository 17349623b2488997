"""From polls to news: which datasets Faraday has rebuilt, or failed to build, since the last announcement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from airflow_provider_faraday.api.readiness import DatasetState, timestamp


class Mark(TypedDict):
    """How far a dataset has been announced; plain JSON, so that it can be stored.

    ``built`` is the ``last_updated_output_at`` that was announced last, or was there at first sight;
    ``failed`` is when the dataset went into the status ``error`` that it is in, None while it is in another.
    """

    built: str | None
    failed: str | None


Marks = Mapping[str, Mark]


@dataclass(frozen=True, slots=True)
class News:
    """What a poll brought that was not announced before.

    :param events: payloads, one for each build and each failure, in the order of the list.
    :param marks: how far every dataset of the poll has been announced, once these events are.
    :param unreadable: ready datasets whose ``last_updated_output_at`` is no timestamp: nobody can tell.
    """

    events: list[dict[str, Any]]
    marks: dict[str, Mark]
    unreadable: list[DatasetState]


def news(states: Iterable[DatasetState], marks: Marks, *, errors: bool, first_sight: bool) -> News:
    """Compare a poll with what was announced.

    A dataset was rebuilt where its ``status`` is ``ready`` and its ``last_updated_output_at`` has moved on.

    :param marks: how far each dataset has been announced, by id; one that is not in it is seen for the first
        time.
    :param errors: whether a dataset that has gone into status ``error`` is news.
    :param first_sight: whether what a dataset is at first sight is news, too.
    """
    events: list[dict[str, Any]] = []
    seen: dict[str, Mark] = {}
    unreadable: list[DatasetState] = []
    for state in states:
        if state.id in seen:
            continue
        failed = (state.status_changed_at or "error") if state.status == "error" else None
        mark = marks.get(state.id)
        if mark is None:
            mark = Mark(built=None, failed=None) if first_sight else _as_it_is(state, failed)
        built = mark["built"]
        if state.status == "ready" and state.last_updated_output_at:
            if timestamp(state.last_updated_output_at) is None:
                unreadable.append(state)
            elif _is_later(state.last_updated_output_at, built):
                built = state.last_updated_output_at
                events.append(state.build)
        if errors and failed and failed != mark["failed"]:
            events.append({**state.build, "status_error": state.status_error})
        seen[state.id] = Mark(built=built, failed=failed)
    return News(events, seen, unreadable)


def merged(marks: Marks, others: Marks) -> dict[str, Mark]:
    """Give, for each dataset, the mark that is further on."""
    together = dict(marks)
    for id_, mark in others.items():
        if id_ not in together or _is_later(mark["built"], together[id_]["built"]):
            together[id_] = mark
    return together


def _as_it_is(state: DatasetState, failed: str | None) -> Mark:
    readable = state.last_updated_output_at and timestamp(state.last_updated_output_at)
    return Mark(built=state.last_updated_output_at if readable else None, failed=failed)


def _is_later(text: str | None, than: str | None) -> bool:
    moment = timestamp(text) if text else None
    before = timestamp(than) if than else None
    return moment is not None and (before is None or moment > before)
