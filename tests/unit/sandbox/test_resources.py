"""How resources build over time, without HTTP and without waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_faraday.sandbox.account_file import DatasetSpec, DerivedSpec
from airflow_provider_faraday.sandbox.resources import KINDS, Change, Resource, rfc3339

START = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def create(speed: float = 1, **spec: Any) -> Resource:
    resource = Resource.create("datasets", DatasetSpec.model_validate({"name": "a", **spec}), START, speed)
    return resource if "status" in spec else resource.first_build(START)


def counted(resource: Resource) -> Resource:
    """Return the resource with the counts of its builds, which the pipeline sets when they have ended."""
    for event in resource.events:
        if event.fields.get("status") == "ready":
            resource = resource.with_counts(event, None)
    return resource


def change(resource: Resource, seconds: float, **changes: Any) -> Resource:
    return resource.change(Change.model_validate(changes), after(seconds))


def statuses(resource: Resource, *seconds: float) -> list[Any]:
    return [resource.document(after(each))["status"] for each in seconds]


def test_a_build_passes_through_each_status() -> None:
    dataset = create(sandbox={"new": 1, "starting": 2, "running": 3})

    assert statuses(dataset, 0, 1, 2.9, 3, 5.9, 6, 1000) == [
        "new", "starting", "starting", "running", "running", "ready", "ready",
    ]  # fmt: skip


def test_the_timestamps_of_a_build_are_consistent() -> None:
    dataset = counted(create(sandbox={"new": 1, "starting": 2, "running": 3, "rows": 50}))
    document = dataset.document(after(10))

    assert document["created_at"] == document["last_updated_config_at"] == rfc3339(START)
    assert document["last_read_input_at"] == rfc3339(after(3))
    for name in ("status_changed_at", "last_updated_output_at", "updated_at"):
        assert document[name] == rfc3339(after(6))
    assert document["updates"] == [{"datetime": rfc3339(after(6)), "rows_added": 50}]


def test_counts_appear_with_the_first_build() -> None:
    dataset = counted(create(sandbox={"new": 1, "starting": 0, "running": 0, "rows": 100}))

    new = dataset.document(after(0))
    assert (new["enrichment"], {"row_count", "identified_count"} & set(new)) == ({}, set())
    ready = dataset.document(after(2))
    assert ready["row_count"] == 100
    assert 0 < ready["enrichment"]["fig"]["any"] <= ready["identified_count"] <= 100


def test_a_preview_ingests_no_rows() -> None:
    document = counted(create(preview=True)).document(after(10))

    assert (document["status"], document["preview"], document["updates"]) == ("ready", True, [])
    assert "row_count" not in document


def test_a_failed_build_has_an_error_and_no_output() -> None:
    document = create(sandbox={"outcome": "error", "status_error": "No such table"}).document(after(10))

    assert (document["status"], document["status_error"]) == ("error", "No such table")
    assert document["last_updated_output_at"] is None
    assert "row_count" not in document


def test_a_force_update_starts_a_build_after_the_lag() -> None:
    settings = {"starting": 1, "running": 1, "lag": 1, "rows": 100, "rows_per_update": 7}
    dataset = counted(create(sandbox=settings).force_update(after(10)))
    before = dataset.document(after(10))

    assert statuses(dataset, 10, 10.9, 11, 12, 13) == ["ready", "ready", "starting", "running", "ready"]
    assert dataset.document(after(10.9)) == before
    rebuilt = dataset.document(after(13))
    assert rebuilt["last_updated_output_at"] == rfc3339(after(13))
    assert rebuilt["row_count"] == 107
    assert [update["rows_added"] for update in rebuilt["updates"]] == [100, 7]


def test_a_force_update_during_a_build_schedules_a_second_build() -> None:
    dataset = create(sandbox={"new": 0, "starting": 1, "running": 2, "lag": 1})

    dataset = dataset.force_update(after(2))

    assert statuses(dataset, 2, 3, 4, 5, 7) == ["running", "ready", "starting", "running", "ready"]


def test_force_updates_before_the_build_starts_are_merged() -> None:
    dataset = create().force_update(after(10))

    again = dataset.force_update(after(10.5))
    assert [event.at for event in again.events] == [event.at for event in dataset.events]


def test_given_times_and_counts_are_kept() -> None:
    dataset = create(status="ready", last_updated_output_at="2024-01-01T12:00:00Z", row_count=5)

    document = counted(dataset).document(after(1))
    assert document["last_updated_output_at"] == "2024-01-01T12:00:00Z"
    assert document["row_count"] == 5
    assert document["updates"] == []


def test_a_config_change_is_later_than_the_output() -> None:
    document = change(create(), 10, config_changed=True).document(after(10))

    assert document["status"] == "ready"
    assert document["last_updated_config_at"] > document["last_updated_output_at"]


def test_fields_can_be_removed() -> None:
    document = change(create(), 10, unset=["status", "updates"]).document(after(10))

    assert not {"status", "updates"} & set(document)


def test_each_build_has_an_ingress_log() -> None:
    dataset = create(sandbox={"new": 0, "starting": 1, "running": 2}).force_update(after(10))

    running, finished = counted(dataset).ingress_logs(after(12.5))

    assert (running["status"], running["finished_at"], running["metrics"]) == ("running", None, {})
    assert (finished["status"], finished["status_error"]) == ("ready", None)
    assert (finished["started_at"], finished["finished_at"]) == (rfc3339(after(1)), rfc3339(after(3)))
    assert set(finished["metrics"].values()) == {1000}
    assert running["id"] != finished["id"]


@pytest.mark.parametrize("resource_type", ["scopes", "streams"])
def test_other_types_have_a_count_too(resource_type: str) -> None:
    spec = DerivedSpec.model_validate({"name": "any", "sandbox": {"rows": 70, "rows_per_update": 3}})
    resource = counted(Resource.create(resource_type, spec, START).first_build(START).force_update(after(10)))

    name = KINDS[resource_type].count_field
    assert name is not None
    assert [resource.document(after(each)).get(name) for each in (0, 5, 20)] == [None, 70, 73]
