"""News: which builds and failures a poll brings that were not announced before."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from airflow_provider_faraday.api.readiness import DatasetState
from airflow_provider_faraday.api.updates import News, merged, news

FIRST = "2026-01-01T00:00:00Z"
SECOND = "2026-01-02T00:00:00Z"


def state(built: str | None = FIRST, **fields: Any) -> DatasetState:
    document = {"id": "a", "name": "customers", "status": "ready", "row_count": 5}
    return msgspec.convert({**document, "last_updated_output_at": built, **fields}, DatasetState)


def after(*polls: list[DatasetState], errors: bool = False, first_sight: bool = False) -> list[News]:
    """Give what each poll brings, with the marks stored as JSON in between."""
    marks: dict[str, Any] = {}
    found = []
    for poll in polls:
        found.append(news(poll, marks, errors=errors, first_sight=first_sight))
        marks |= json.loads(json.dumps(found[-1].marks))
    return found


def builds(*polls: list[DatasetState], **options: Any) -> list[list[str]]:
    return [[event["last_updated_output_at"] for event in each.events] for each in after(*polls, **options)]


def test_a_later_build_is_news_once() -> None:
    polls = [state(FIRST)], [state(SECOND)], [state(SECOND)]
    assert builds(*polls) == [[], [SECOND], []]
    assert after(*polls)[1].events == [
        {
            "id": "a",
            "name": "customers",
            "status": "ready",
            "last_updated_output_at": SECOND,
            "row_count": 5,
        }
    ]


def test_the_first_sight_is_news_where_that_is_asked_for() -> None:
    assert builds([state(FIRST)], [state(FIRST)], first_sight=True) == [[FIRST], []]


def test_the_first_build_of_a_dataset_that_was_seen_before_is_news() -> None:
    assert builds([state(None, status="new")], [state(FIRST)]) == [[], [FIRST]]


def test_a_build_is_news_when_the_status_is_ready() -> None:
    assert builds([state(FIRST)], [state(SECOND, status="running")], [state(SECOND)]) == [[], [], [SECOND]]


def test_a_rebuild_that_was_under_way_at_first_sight_is_news() -> None:
    assert builds([state(FIRST, status="running")], [state(SECOND)]) == [[], [SECOND]]


@pytest.mark.parametrize(
    "same",
    ["2026-01-02T00:00:00.000Z", "2026-01-02T01:00:00+01:00", "2026-01-01T23:59:59.999999Z", None],
)
def test_the_same_build_in_another_form_or_an_earlier_one_is_no_news(same: str | None) -> None:
    assert builds([state(SECOND)], [state(same)], [state(SECOND)]) == [[], [], []]


def test_a_dataset_that_was_gone_for_a_poll_is_not_seen_for_the_first_time() -> None:
    assert builds([state(FIRST)], [], [state(SECOND)]) == [[], [], [SECOND]]


def test_a_dataset_that_is_listed_twice_counts_once() -> None:
    assert builds([state(FIRST)], [state(SECOND), state(SECOND)]) == [[], [SECOND]]


def test_a_time_that_cannot_be_read_is_told_and_is_no_news() -> None:
    found = after([state("soon")], [state(FIRST)])
    assert [each.label for each in found[0].unreadable] == ["'customers' (a)"]
    assert [len(each.events) for each in found] == [0, 1]


def failed(at: str | None = FIRST) -> DatasetState:
    return state(status="error", status_error="No such table", status_changed_at=at)


def test_each_failure_is_news_once_where_that_is_asked_for() -> None:
    polls = [state()], [failed()], [failed()], [failed(SECOND)], [state(SECOND)]
    assert [len(each.events) for each in after(*polls, errors=True)] == [0, 1, 0, 1, 1]
    assert [len(each.events) for each in after(*polls)] == [0, 0, 0, 0, 1]
    event = after(*polls, errors=True)[1].events[0]
    assert (event["status"], event["status_error"]) == ("error", "No such table")


def test_failures_without_a_time_are_told_apart_by_what_lies_between() -> None:
    polls = [state()], [failed(None)], [failed(None)], [state(status="running")], [failed(None)]
    assert [len(each.events) for each in after(*polls, errors=True)] == [0, 1, 0, 0, 1]


def test_a_failure_at_first_sight_is_where_watching_begins() -> None:
    assert [len(each.events) for each in after([failed()], [failed()], errors=True)] == [0, 0]


def test_of_two_marks_the_one_that_is_further_on_is_kept() -> None:
    early, late = ({"built": built, "failed": None} for built in (FIRST, SECOND))
    assert merged({"a": early, "b": late}, {"a": late, "b": early, "c": early}) == {
        "a": late,
        "b": late,
        "c": early,
    }
