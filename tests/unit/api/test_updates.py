"""Updates: which builds and failures of a poll have not been announced."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.api.states import ResourceState, state_type
from airflow_provider_faraday.api.updates import Updates, detect_updates, merge_marks

FIRST = "2026-01-01T00:00:00Z"
SECOND = "2026-01-02T00:00:00Z"


def state(built: str | None = FIRST, **fields: Any) -> ResourceState:
    document = {"id": "a", "name": "customers", "status": "ready", "row_count": 5}
    built_document = {**document, "last_updated_output_at": built, **fields}
    return msgspec.convert(built_document, state_type(RESOURCE_TYPES["datasets"]))


def updates(*polls: list[ResourceState], on_error: bool = False, emit_initial: bool = False) -> list[Updates]:
    """Return the updates of each poll, with the marks stored as JSON in between."""
    marks: dict[str, Any] = {}
    found = []
    for poll in polls:
        found.append(detect_updates(poll, marks, on_error=on_error, emit_initial=emit_initial))
        marks |= json.loads(json.dumps(found[-1].marks))
    return found


def builds(*polls: list[ResourceState], **options: Any) -> list[list[str]]:
    return [[event["last_updated_output_at"] for event in each.events] for each in updates(*polls, **options)]


def test_a_later_build_is_an_update_once() -> None:
    polls = [state(FIRST)], [state(SECOND)], [state(SECOND)]
    assert builds(*polls) == [[], [SECOND], []]
    assert updates(*polls)[1].events == [
        {
            "resource_type": "datasets",
            "id": "a",
            "name": "customers",
            "status": "ready",
            "last_updated_output_at": SECOND,
            "row_count": 5,
        }
    ]


@pytest.mark.parametrize("count", [2**63, [5], "5"])
def test_an_event_has_no_count_that_airflow_cannot_send(count: Any) -> None:
    assert state(row_count=count).build["row_count"] is None


READY, NEW = state(FIRST), state(None, status="new")


@pytest.mark.parametrize(
    ("polls", "expected"),
    [
        # The first build of a known dataset.
        ([[NEW], [READY]], [[], [FIRST]]),
        # A build counts once its status is ready.
        ([[READY], [state(SECOND, status="running")], [state(SECOND)]], [[], [], [SECOND]]),
        # A rebuild that was running initially.
        ([[state(FIRST, status="running")], [state(SECOND)]], [[], [SECOND]]),
        # Missing from a poll, which does not make it new.
        ([[READY], [], [state(SECOND)]], [[], [], [SECOND]]),
        # Listed twice.
        ([[READY], [state(SECOND), state(SECOND)]], [[], [SECOND]]),
        # An invalid time.
        ([[state("soon")], [READY]], [[], [FIRST]]),
    ],
)
def test_a_later_build_in_any_order_of_polls(polls: Any, expected: Any) -> None:
    assert builds(*polls) == expected


def test_the_initial_state_is_an_update_only_with_emit_initial() -> None:
    assert builds([READY], [READY], emit_initial=True) == [[FIRST], []]
    assert builds([failed()], [failed()], on_error=True) == [[], []]


@pytest.mark.parametrize(
    "same",
    ["2026-01-02T00:00:00.000Z", "2026-01-02T01:00:00+01:00", "2026-01-01T23:59:59.999999Z", None],
)
def test_an_earlier_build_or_the_same_time_in_another_format_is_not_an_update(same: str | None) -> None:
    assert builds([state(SECOND)], [state(same)], [state(SECOND)]) == [[], [], []]


def failed(at: str | None = FIRST) -> ResourceState:
    return state(status="error", status_error="No such table", status_changed_at=at)


def test_on_error_makes_each_failure_an_update_once() -> None:
    polls = [state()], [failed()], [failed()], [failed(SECOND)], [state(SECOND)]
    assert [len(each.events) for each in updates(*polls, on_error=True)] == [0, 1, 0, 1, 1]
    assert [len(each.events) for each in updates(*polls)] == [0, 0, 0, 0, 1]
    event = updates(*polls, on_error=True)[1].events[0]
    assert (event["status"], event["status_error"]) == ("error", "No such table")


def test_failures_without_a_time_are_distinguished_by_the_statuses_in_between() -> None:
    polls = [state()], [failed(None)], [failed(None)], [state(status="running")], [failed(None)]
    assert [len(each.events) for each in updates(*polls, on_error=True)] == [0, 1, 0, 0, 1]


def test_of_two_marks_the_later_build_wins() -> None:
    early, late = ({"built": built, "failed": None} for built in (FIRST, SECOND))
    assert merge_marks({"a": early, "b": late}, {"a": late, "b": early, "c": early}) == {
        "a": late,
        "b": late,
        "c": early,
    }
