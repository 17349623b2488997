"""Readiness: what is ready, waited for, failed, skipped or missing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from airflow_provider_faraday.api.errors import FaradayInputError, FaradayResponseError
from airflow_provider_faraday.api.readiness import Criteria, Verdict, assess
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.api.states import ResourceState, state_type, states_of

DATASETS = RESOURCE_TYPES["datasets"]
BUILT = "2026-01-02T00:00:00Z"
NOW = datetime(2026, 1, 4, tzinfo=UTC)


def state(id_: str = "a", **fields: Any) -> ResourceState:
    built = {
        "status": "ready",
        "last_updated_output_at": BUILT,
        "last_updated_config_at": "2026-01-01T00:00:00Z",
    }
    return msgspec.convert({"id": id_, "name": f"name-{id_}"} | built | fields, state_type(DATASETS))


def verdict(*states: ResourceState, ids: tuple[str, ...] | None = None, **criteria: Any) -> Verdict:
    return assess(DATASETS, states, Criteria(**criteria), ids, now=NOW)


@pytest.mark.parametrize("status", ["running", "pending", "", None])
def test_any_status_but_ready_is_waited_for(status: str | None) -> None:
    result = verdict(state("a"), state("b", status=status))
    assert not result.is_ready
    assert result.problem is None
    assert [each.state.id for each in result.waiting.values()] == ["b"]
    assert ("unknown status pending" in result.pending) == (status == "pending")


def test_a_changed_configuration_is_waited_for() -> None:
    assert verdict(state(last_updated_config_at=BUILT)).is_ready
    result = verdict(state(last_updated_config_at="2026-01-03T00:00:00Z"))
    assert not result.is_ready
    assert "configuration changed at 2026-01-03T00:00:00.000Z" in result.description
    result = verdict(state(last_updated_config_at="yesterday"))
    assert not result.is_ready
    assert "'yesterday' is not a valid timestamp" in result.description


@pytest.mark.parametrize(
    ("built_at", "is_ready"), [("2026-01-01T23:59:59Z", False), (BUILT, True), (None, False)]
)
def test_updated_after_counts_builds_at_or_after_it(built_at: str | None, is_ready: bool) -> None:
    built = state(last_updated_output_at=built_at)
    assert verdict(built, updated_after=datetime(2026, 1, 2, tzinfo=UTC)).is_ready is is_ready


def test_a_time_per_id_applies_to_each_on_its_own() -> None:
    times = {"a": datetime(2026, 1, 1, tzinfo=UTC), "b": datetime(2026, 1, 3, tzinfo=UTC)}
    result = verdict(state("A"), state("b"), ids=("a", "b"), updated_after=times)
    assert [s.id for s in result.ready] == ["A"]
    assert [each.state.id for each in result.waiting.values()] == ["b"]


def test_a_resource_without_a_time_is_an_input_error_unless_it_is_skipped() -> None:
    times = {"a": datetime(2026, 1, 1, tzinfo=UTC)}
    assert verdict(state("a"), state("b", archived_at=BUILT), updated_after=times).is_ready
    says = r"times for 1 ids, but not for 'name-b' \(b\)\.\n.*set include_upstream=True"
    with pytest.raises(FaradayInputError, match=says):
        verdict(state("a"), state("b"), updated_after=times)


def test_an_error_names_the_first_ten_failed_datasets_with_their_reasons() -> None:
    reasons = ["reason.", None, *["reason"] * 18]
    failed = [state(f"id-{n}", status="error", status_error=reason) for n, reason in enumerate(reasons)]
    problem = verdict(state("a"), *failed).problem
    assert problem is not None
    assert problem.kind == "failed"
    assert "'name-id-0' (id-0): reason; dataset 'name-id-1' (id-1): Faraday gave no reason" in problem.message
    assert problem.message.endswith("(id-9): reason and 10 more.")
    result = verdict(*failed, fail_on_error=False)
    assert result.problem is None
    assert not result.is_ready


@pytest.mark.parametrize(
    "times", [{"status_changed_at": BUILT}, {"status_changed_at": "yesterday", "updated_at": BUILT}]
)
def test_an_error_from_before_updated_after_is_waited_out(times: dict[str, str]) -> None:
    failed = state(status="error", **times)
    assert verdict(failed, updated_after=datetime(2026, 1, 3, tzinfo=UTC)).problem is None
    assert verdict(failed, updated_after=datetime(2026, 1, 2, tzinfo=UTC)).problem is not None


@pytest.mark.parametrize(
    ("field", "reason"), [({"archived_at": BUILT}, "archived"), ({"preview": True}, "a preview")]
)
def test_archived_datasets_and_previews_are_skipped_and_named(field: dict[str, Any], reason: str) -> None:
    for status in ("ready", "error"):
        result = verdict(state("a"), state("old", status=status, **field))
        assert result.is_ready
        assert [s.id for s in result.ready] == ["a"]
        assert f"skipped: dataset 'name-old' (old): {reason}" in result.description


@pytest.mark.parametrize("archived_first", [True, False])
def test_ignores_the_archived_copy_of_a_dataset_that_is_listed_twice(archived_first: bool) -> None:
    twice = [state("a", archived_at=BUILT), state("a")]
    result = verdict(*(twice if archived_first else twice[::-1]), ids=("a",))
    assert result.is_ready
    assert [s.archived_at for s in result.ready] == [None]


@pytest.mark.parametrize("states", [[], [state(archived_at=BUILT)]])
def test_nothing_to_wait_for_is_a_problem_unless_allowed(states: list[ResourceState]) -> None:
    problem = verdict(*states).problem
    assert problem is not None
    assert problem.kind == "empty"
    assert verdict(*states, allow_empty=True).is_ready


def test_named_datasets_must_be_there() -> None:
    assert verdict(state("A"), ids=("a",)).is_ready
    problem = verdict(state("a"), ids=("a", "b")).problem
    assert problem is not None
    assert problem.kind == "missing"
    assert "dataset b." in problem.message


def test_the_description_says_how_many_are_ready_and_why_the_others_are_not() -> None:
    result = verdict(state("a"), state("b", status="running"), state("c", archived_at=BUILT))
    assert result.description == (
        "1 of 2 datasets ready; waiting for: dataset 'name-b' (b): status running; "
        "skipped: dataset 'name-c' (c): archived"
    )


def test_a_field_of_the_wrong_type_is_a_response_error() -> None:
    with pytest.raises(FaradayResponseError, match="datasets in an unexpected format"):
        states_of(DATASETS, [{"id": "a", "status": 5}])


def test_text_from_faraday_is_shown_in_one_line() -> None:
    result = verdict(
        state("a", name="cus\ntomers", status="error", status_error="No\r\nsuch \x1b[31mtable"),
        state("b", name=None, status="od\nd"),
    )

    assert result.problem
    for text in (result.description, result.pending, result.problem.message):
        assert text.isprintable()
    assert "'cus tomers' (a): No  such  [31mtable" in result.problem.message
