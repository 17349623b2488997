"""Readiness: what counts as ready, waiting, failed, missing and nothing to wait for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from airflow_provider_faraday.api.readiness import Criteria, DatasetState, Verdict, assess, timestamp

BUILT = "2026-01-02T00:00:00Z"


def state(id_: str = "a", **fields: Any) -> DatasetState:
    built = {
        "status": "ready",
        "last_updated_output_at": BUILT,
        "last_updated_config_at": "2026-01-01T00:00:00Z",
    }
    return msgspec.convert({"id": id_, "name": f"name-{id_}"} | built | fields, DatasetState)


def verdict(*states: DatasetState, **criteria: Any) -> Verdict:
    return assess(states, Criteria(**criteria))


def test_all_ready_opens_the_gate() -> None:
    assert verdict(state("a"), state("b")).is_ready


@pytest.mark.parametrize("status", ["new", "starting", "running", "pending", "", None])
def test_any_status_but_ready_is_waited_for(status: str | None) -> None:
    result = verdict(state("a"), state("b", status=status))
    assert not result.is_ready
    assert result.problem is None
    assert [s.id for s, _ in result.waiting] == ["b"]


def test_an_unknown_status_is_named_so_that_it_can_be_said_once() -> None:
    assert verdict(state(status="pending"), state(status="running")).unknown_statuses == {"pending"}


def test_a_dataset_without_status_is_waited_for() -> None:
    assert not assess([DatasetState(id="a")], Criteria()).is_ready


def test_changed_configuration_is_waited_for_and_said() -> None:
    result = verdict(state(last_updated_config_at="2026-01-03T00:00:00Z"))
    assert not result.is_ready
    assert "configuration changed at 2026-01-03 00:00:00Z" in result.description


@pytest.mark.parametrize(
    ("updated_after", "is_ready"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), True),
        (datetime(2026, 1, 2, tzinfo=UTC), True),
        (datetime(2026, 1, 2, 0, 0, 1, tzinfo=UTC), False),
    ],
)
def test_updated_after_takes_only_builds_at_or_after_it(updated_after: datetime, is_ready: bool) -> None:
    assert verdict(state(), updated_after=updated_after).is_ready is is_ready


def test_updated_after_does_not_take_a_dataset_without_a_build() -> None:
    result = verdict(state(last_updated_output_at=None), updated_after=datetime(2026, 1, 1, tzinfo=UTC))
    assert not result.is_ready


def test_a_timestamp_that_cannot_be_read_is_not_ready() -> None:
    result = verdict(state(last_updated_config_at="yesterday"))
    assert not result.is_ready
    assert "'yesterday' is no timestamp" in result.description


def test_error_fails_and_names_every_such_dataset_with_its_reason() -> None:
    failed = [state(f"id-{n}", status="error", status_error=f"reason {n}") for n in range(20)]
    problem = verdict(state("a"), *failed).problem
    assert problem is not None
    assert problem.kind == "failed"
    assert all(f"'name-id-{n}' (id-{n}): reason {n}" in problem.message for n in range(20))


def test_error_is_waited_for_where_asked() -> None:
    result = verdict(state(status="error", status_error="no table"), fail_on_error=False)
    assert result.problem is None
    assert not result.is_ready
    assert "no table" in result.description


@pytest.mark.parametrize("status", ["ready", "running", "error"])
def test_archived_datasets_are_left_out_and_named(status: str) -> None:
    result = verdict(state("a"), state("old", status=status, archived_at=BUILT))
    assert result.is_ready
    assert [s.id for s in result.ready] == ["a"]
    assert "left out as archived: 'name-old' (old)" in result.description


@pytest.mark.parametrize("states", [[], [state(archived_at=BUILT)]])
def test_nothing_to_wait_for_fails_unless_allowed(states: list[DatasetState]) -> None:
    problem = verdict(*states).problem
    assert problem is not None
    assert problem.kind == "empty"
    assert "There is nothing to wait for" in problem.message
    assert verdict(*states, allow_empty=True).is_ready


def test_a_named_dataset_that_is_not_returned_is_missing() -> None:
    problem = verdict(state("a"), state("c"), wanted_ids=("a", "b")).problem
    assert problem is not None
    assert problem.kind == "missing"
    assert "does not return b." in problem.message


def test_only_named_datasets_count_whatever_the_case_of_their_ids() -> None:
    result = verdict(state("A"), state("b", status="error"), wanted_ids=("a",))
    assert result.is_ready
    assert [s.id for s in result.ready] == ["A"]


def test_the_log_line_says_how_many_are_ready_and_why_the_others_are_not() -> None:
    result = verdict(state("a"), state("b", status="running"), state("c", archived_at=BUILT))
    assert result.description == (
        "1 of 2 datasets ready; waiting for 'name-b' (b): status running; left out as archived: 'name-c' (c)"
    )


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T00:00:00Z",
        "2026-01-02t00:00:00z",
        "2026-01-02 00:00:00Z",
        "2026-01-02T00:00:00.000000000Z",
        "2026-01-02T00:00:00-00:00",
        "2026-01-02T05:30:00+05:30",
        "2026-01-01T16:00:00-08:00",
        "2026-01-01T23:59:60Z",
        "2026-01-02T00:00:00",
    ],
)
def test_every_form_of_a_timestamp_is_the_same_moment(text: str) -> None:
    assert timestamp(text) == datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+05:00", "2026-01-02", "9999-12-31T23:59:60Z"],
)
def test_what_is_no_timestamp_is_none(text: str) -> None:
    assert timestamp(text) is None


def test_foreign_text_is_said_in_one_line() -> None:
    said = verdict(
        state("a", name="cus\ntomers", status="error", status_error="No\r\nsuch \x1b[31mtable"),
        state("b", name=None, status="od\nd"),
    )

    assert said.problem
    for text in (said.description, said.problem.message, *said.unknown_statuses):
        assert text.isprintable()
    assert "'cus tomers' (a): No  such  [31mtable" in said.problem.message
