"""How datasets move through their statuses, as pure functions of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_faraday.sandbox.account import (
    Change,
    Clock,
    Dataset,
    begun,
    changed,
    force_updated,
    ingress_logs,
    rfc3339,
)
from airflow_provider_faraday.sandbox.account_file import DatasetSpec

START = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def a_dataset(speed: float = 1, **spec: Any) -> Dataset:
    return begun(DatasetSpec.model_validate({"name": "orders", **spec}), START, speed)


def statuses(dataset: Dataset, *seconds: float) -> list[Any]:
    return [dataset.document(after(each))["status"] for each in seconds]


def test_a_build_goes_through_every_status_by_the_clock() -> None:
    dataset = a_dataset(sandbox={"new": 1, "starting": 2, "running": 3})

    assert statuses(dataset, 0, 1, 2.9, 3, 5.9, 6, 1000) == [
        "new", "starting", "starting", "running", "running", "ready", "ready",
    ]  # fmt: skip


def test_speed_shortens_every_status() -> None:
    dataset = a_dataset(speed=10, sandbox={"new": 1, "starting": 2, "running": 3})

    assert statuses(dataset, 0, 0.15, 0.35, 0.6) == ["new", "starting", "running", "ready"]


def test_times_of_a_ready_dataset_agree_with_each_other() -> None:
    document = a_dataset(sandbox={"new": 1, "starting": 2, "running": 3, "rows": 50}).document(after(10))

    assert document["created_at"] == document["last_updated_config_at"] == rfc3339(START)
    assert document["last_read_input_at"] == rfc3339(after(3))
    assert (
        document["status_changed_at"]
        == document["last_updated_output_at"]
        == document["updated_at"]
        == rfc3339(after(6))
    )
    assert document["updates"] == [{"datetime": rfc3339(after(6)), "rows_added": 50}]


def test_counts_are_there_only_after_a_successful_build() -> None:
    dataset = a_dataset(sandbox={"new": 1, "starting": 0, "running": 0, "rows": 100})

    assert not {"row_count", "identified_count", "matched_count"} & set(dataset.document(after(0)))
    ready = dataset.document(after(2))
    assert ready["row_count"] == 100
    assert 0 < ready["matched_count"] <= ready["identified_count"] <= 100


def test_a_build_that_fails_says_why_and_has_no_output() -> None:
    document = a_dataset(sandbox={"outcome": "error", "status_error": "No such table"}).document(after(10))

    assert (document["status"], document["status_error"]) == ("error", "No such table")
    assert document["last_updated_output_at"] is None
    assert "row_count" not in document


def test_force_update_leaves_the_status_ready_for_a_while_and_then_builds_anew() -> None:
    dataset = a_dataset(sandbox={"starting": 1, "running": 1, "lag": 1, "rows": 100, "rows_per_update": 7})
    before = dataset.document(after(10))

    dataset = force_updated(dataset, after(10), 1)

    assert statuses(dataset, 10, 10.9, 11, 12, 13) == ["ready", "ready", "starting", "running", "ready"]
    assert dataset.document(after(10.9)) == before
    rebuilt = dataset.document(after(13))
    assert rebuilt["last_updated_output_at"] == rfc3339(after(13))
    assert rebuilt["row_count"] == 107
    assert [update["rows_added"] for update in rebuilt["updates"]] == [100, 7]


def test_counts_of_the_last_build_stand_while_the_next_one_runs() -> None:
    dataset = force_updated(a_dataset(sandbox={"rows": 100}), after(10), 1)

    running = dataset.document(after(12))

    assert running["status"] == "running"
    assert running["row_count"] == 100


def test_force_update_during_a_build_is_a_build_after_it() -> None:
    dataset = a_dataset(sandbox={"new": 0, "starting": 1, "running": 2, "lag": 1})

    dataset = force_updated(dataset, after(2), 1)

    assert statuses(dataset, 2, 3, 4, 5, 7) == ["running", "ready", "starting", "running", "ready"]


def test_force_update_twice_is_one_rerun() -> None:
    dataset = force_updated(a_dataset(), after(10), 1)

    assert force_updated(dataset, after(10.5), 1) == dataset


def test_a_dataset_with_a_status_stands_in_it() -> None:
    assert statuses(a_dataset(status="pending"), 0, 1000) == ["pending", "pending"]


def test_a_standing_dataset_keeps_the_times_it_was_given() -> None:
    document = a_dataset(status="ready", last_updated_output_at="2024-01-01T12:00:00Z", row_count=5).document(
        after(1)
    )

    assert document["last_updated_output_at"] == "2024-01-01T12:00:00Z"
    assert document["row_count"] == 5


@pytest.mark.parametrize("status", ["new", "running", "error", "pending", None])
def test_a_status_set_by_hand_ends_the_build_under_way(status: str | None) -> None:
    dataset = changed(a_dataset(), Change(fields={"status": status}), after(1), 1)

    assert statuses(dataset, 1, 1000) == [status, status]


def test_a_dataset_set_to_ready_by_hand_has_a_new_output() -> None:
    dataset = changed(a_dataset(), Change(fields={"status": "ready"}), after(1), 1)
    dataset = changed(dataset, Change(fields={"status": "ready"}), after(20), 1)

    document = dataset.document(after(20))
    assert document["last_updated_output_at"] == rfc3339(after(20))
    assert document["row_count"] == 1100


def test_other_fields_set_by_hand_win_over_those_that_follow_from_the_status() -> None:
    change = Change(
        fields={"status": "ready", "row_count": 3, "last_updated_output_at": "2020-01-01T00:00:00Z"}
    )

    document = changed(a_dataset(), change, after(1), 1).document(after(1))

    assert document["row_count"] == 3
    assert document["last_updated_output_at"] == "2020-01-01T00:00:00Z"


def test_an_error_is_gone_after_the_next_good_build() -> None:
    dataset = a_dataset(sandbox={"outcome": "error"})
    dataset = changed(dataset, Change(settings={"outcome": "ready"}, rebuild=True), after(10), 1)

    document = dataset.document(after(20))
    assert (document["status"], document["status_error"]) == ("ready", None)


def test_a_changed_configuration_is_later_than_the_output() -> None:
    document = changed(a_dataset(), Change(config_changed=True), after(10), 1).document(after(10))

    assert document["status"] == "ready"
    assert document["last_updated_config_at"] > document["last_updated_output_at"]


def test_a_field_can_be_taken_away() -> None:
    document = changed(a_dataset(), Change(unset=("status", "updates")), after(10), 1).document(after(10))

    assert not {"status", "updates"} & set(document)


def test_an_archived_dataset_is_not_built_any_further() -> None:
    dataset = changed(a_dataset(), Change(archived=True), after(1.5), 1)

    document = dataset.document(after(1000))
    assert (document["status"], document["archived_at"]) == ("running", rfc3339(after(1.5)))


def test_every_build_leaves_an_ingress_log() -> None:
    dataset = force_updated(a_dataset(sandbox={"new": 0, "starting": 1, "running": 2}), after(10), 1)

    running, finished = ingress_logs(dataset, after(12.5))

    assert (running["status"], running["finished_at"]) == ("running", None)
    assert (finished["started_at"], finished["finished_at"]) == (rfc3339(after(1)), rfc3339(after(3)))
    assert finished["metrics"] == {"row_count": 1000}
    assert running["id"] != finished["id"]


def test_the_clock_can_be_ahead_of_the_machine() -> None:
    ahead = Clock(3600).now() - Clock().now()

    assert timedelta(seconds=3599) < ahead < timedelta(seconds=3601)
