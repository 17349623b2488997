"""What ingress logs say about a failure."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_faraday.api.ingress import explain, newest_first


def log(day: int, status: str = "ready", error: str | None = None, **metrics: Any) -> dict[str, Any]:
    at = f"2026-01-{day:02}T00:00:00Z"
    return {"started_at": at, "finished_at": at, "status": status, "status_error": error, "metrics": metrics}


def test_the_reason_is_that_of_the_newest_log_that_has_ended() -> None:
    logs = [log(4, "running"), log(3, "error", "No such\ntable"), log(2, "error", "Too late"), log(1)]
    assert explain(logs) == "No such table (2026-01-03T00:00:00Z)"


def test_a_reason_from_before_the_last_success_is_not_given() -> None:
    assert explain([log(3, "running"), log(2), log(1, "error", "No such table")]) == ""


def test_counts_that_shrank_are_compared_with_the_last_log_that_succeeded() -> None:
    failed = {"total_row_count": 10, "valid_row_count": 0, "allowed_row_count": 9}
    ready = {"total_row_count": 10, "valid_row_count": 1234, "allowed_row_count": 8}
    logs = [log(4, "running"), log(3, "error", **failed), log(2, "error", **failed), log(1, **ready)]
    assert explain(logs) == "valid_row_count fell from 1,234 to 0"


@pytest.mark.parametrize(
    "logs",
    [
        [],
        [log(2, total_row_count=5), log(1, total_row_count=4)],
        [log(2, total_row_count=1), log(1, "error", total_row_count=4)],
        [{"id": "only"}, {"metrics": None, "status": 5}],
    ],
)
def test_logs_without_a_failure_or_smaller_counts_say_nothing(logs: list[dict[str, Any]]) -> None:
    assert explain(logs) == ""


def test_logs_are_sorted_by_when_they_started() -> None:
    logs = [log(2), {"id": "without a time"}, log(3)]
    assert newest_first(logs) == [{"id": "without a time"}, log(3), log(2)]
