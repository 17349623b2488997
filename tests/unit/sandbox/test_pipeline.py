"""How resources build over time, and how builds cascade downstream. Without HTTP and without waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_faraday.sandbox.account_file import load
from airflow_provider_faraday.sandbox.pipeline import Pipeline
from airflow_provider_faraday.sandbox.resources import Change, Resource, rfc3339
from airflow_provider_faraday.sandbox.uploads import Uploads

START = datetime(2026, 1, 1, tzinfo=UTC)
DATASET = "d1000000-0000-4000-8000-000000000001"
STREAM = "51000000-0000-4000-8000-000000000001"
COHORT = "b1000000-0000-4000-8000-000000000001"
OUTCOME = "e1000000-0000-4000-8000-000000000001"
SCOPE = "50000000-0000-4000-8000-000000000001"
TARGET = "71000000-0000-4000-8000-000000000001"
TYPES = {
    DATASET: "datasets",
    STREAM: "streams",
    COHORT: "cohorts",
    OUTCOME: "outcomes",
    SCOPE: "scopes",
    TARGET: "targets",
}
# Each takes three seconds: one until it starts, one to start, one to run.
STEP = {"new": 1, "lag": 1, "starting": 1, "running": 1}
NAMES = ("dataset", "stream", "cohort", "outcome", "scope", "target")


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Account:
    """dataset > stream > cohort > outcome > scope > target, and the scope is built from the cohort, too."""

    def __init__(self, speed: float = 1, **overrides: dict[str, Any]) -> None:
        upstream = {STREAM: [DATASET], COHORT: [STREAM], OUTCOME: [COHORT], SCOPE: [COHORT, OUTCOME]}
        content: dict[str, Any] = {}
        for name, (id_, resource_type) in zip(NAMES, TYPES.items(), strict=True):
            fields = dict(overrides.get(name, {}))
            sandbox = {**STEP, "upstream_ids": upstream.get(id_, []), **fields.pop("sandbox", {})}
            content[resource_type] = [{"id": id_, "name": name, "sandbox": sandbox, **fields}]
        content["targets"][0]["scope_id"] = SCOPE
        self.pipeline = Pipeline(load(content), Uploads(), START, speed)

    def get(self, id_: str) -> Resource:
        return self.pipeline.get(TYPES[id_], id_)

    def document(self, id_: str, seconds: float) -> dict[str, Any]:
        self.pipeline.apply_events(after(seconds))
        return self.get(id_).document(after(seconds))

    def statuses(self, seconds: float) -> dict[str, Any]:
        return {name: self.document(id_, seconds)["status"] for name, id_ in zip(NAMES, TYPES, strict=True)}

    def builds(self, seconds: float) -> dict[str, list[float]]:
        """Return the seconds at which builds have succeeded, by name."""
        self.pipeline.apply_events(after(seconds))
        return {
            name: [
                (event.at - START).total_seconds()
                for event in self.get(id_).status_changes(after(seconds))
                if event.fields["status"] == "ready"
            ]
            for name, id_ in zip(NAMES, TYPES, strict=True)
        }

    def force_update(self, id_: str, seconds: float) -> None:
        self.pipeline.apply_events(after(seconds))
        self.pipeline.force_update(self.get(id_), after(seconds))

    def change(self, id_: str, seconds: float, **changes: Any) -> None:
        self.pipeline.apply_events(after(seconds))
        self.pipeline.change(self.get(id_), Change.model_validate(changes), after(seconds))


FIRST = {name: [3.0 * step] for step, name in enumerate(NAMES, 1)}


def test_each_resource_is_new_until_its_upstream_is_ready() -> None:
    account = Account()

    assert account.statuses(0) == dict.fromkeys(NAMES, "new")
    assert account.statuses(4.5) == dict.fromkeys(NAMES, "new") | {"dataset": "ready", "stream": "starting"}
    assert account.statuses(8.5)["cohort"] == "running"
    assert account.builds(60) == FIRST
    assert Account(speed=10).builds(60)["target"] == [1.8]


def test_what_happened_does_not_depend_on_when_it_is_looked_at() -> None:
    watched = Account()
    for tenths in range(600):
        watched.statuses(tenths / 10)

    assert watched.builds(60) == Account().builds(60)


def test_a_build_has_consistent_times_and_an_ingress_log() -> None:
    account = Account()
    document = account.document(DATASET, 10)

    assert document["created_at"] == document["last_updated_config_at"] == rfc3339(START)
    assert document["last_read_input_at"] == rfc3339(after(2))
    for name in ("status_changed_at", "last_updated_output_at", "updated_at"):
        assert document[name] == rfc3339(after(3))
    assert document["updates"] == [{"datetime": rfc3339(after(3)), "rows_added": document["row_count"]}]
    account.force_update(DATASET, 10)
    running, finished = account.get(DATASET).ingress_logs(after(12.5))
    assert (running["status"], running["finished_at"], running["metrics"]) == ("running", None, {})
    assert (finished["status"], finished["status_error"]) == ("ready", None)
    assert (finished["started_at"], finished["finished_at"]) == (rfc3339(after(2)), rfc3339(after(3)))


def test_a_force_update_rebuilds_everything_downstream_once() -> None:
    account = Account()
    account.force_update(DATASET, 60)

    assert account.statuses(75.5)["target"] == "ready"
    builds = account.builds(1000)

    assert {name: times[1:] for name, times in builds.items()} == {
        name: [first + 60] for name, [first] in FIRST.items()
    }


def test_a_force_update_during_a_build_schedules_a_second_build() -> None:
    account = Account()
    account.force_update(DATASET, 2.5)

    assert account.builds(1000)["dataset"] == [3, 6]


def test_a_failed_build_stops_the_cascade_until_it_is_fixed() -> None:
    account = Account(outcome={"sandbox": {"outcome": "error", "status_error": "No such table"}})

    statuses = account.statuses(60)
    assert (statuses["cohort"], statuses["outcome"]) == ("ready", "error")
    assert (statuses["scope"], statuses["target"]) == ("new", "new")
    failed = account.document(OUTCOME, 60)
    assert (failed["status_error"], failed["last_updated_output_at"]) == ("No such table", None)

    account.change(OUTCOME, 60, sandbox={"outcome": "ready"}, rebuild=True)
    assert account.builds(1000)["target"] == [68]


def test_without_changes_the_cascade_stops() -> None:
    account = Account(stream={"sandbox": {"changes": False}})
    assert account.builds(60) == FIRST

    account.force_update(DATASET, 60)

    assert account.builds(1000) == {**FIRST, "dataset": [3, 63], "stream": [6, 66]}


def test_archived_resources_and_previews_are_not_built_and_do_not_block() -> None:
    archived = Account(outcome={"archived_at": "2025-01-31T00:00:00Z"})
    preview = Account(outcome={"preview": True})
    preview.force_update(OUTCOME, 30)

    for account in (archived, preview):
        assert account.builds(1000) == {**FIRST, "outcome": [], "scope": [12], "target": [15]}
    assert "row_count" not in Account(dataset={"preview": True}).document(DATASET, 10)


def test_removing_a_resource_unblocks_what_is_downstream() -> None:
    account = Account(outcome={"sandbox": {"outcome": "error"}})
    account.pipeline.apply_events(after(60))
    account.pipeline.remove("outcomes", OUTCOME, after(60))
    account.pipeline.apply_events(after(100))

    assert account.get(TARGET).document(after(100))["status"] == "ready"


@pytest.mark.parametrize("seconds", [4, 14.5], ids=["before its build", "during its build"])
def test_a_status_that_is_set_during_a_cascade_is_kept_until_the_next(seconds: float) -> None:
    account = Account()
    account.change(SCOPE, seconds, status="running")

    assert account.statuses(1000)["scope"] == "running"
    assert account.builds(1000)["target"] == []

    account.force_update(DATASET, 1000)
    assert account.builds(2000)["target"] == [1018]


def test_given_times_and_counts_are_kept() -> None:
    given = {"status": "ready", "last_updated_output_at": "2024-01-01T12:00:00Z", "row_count": 5}

    document = Account(dataset=given).document(DATASET, 60)

    assert {name: document[name] for name in given} == given


def test_a_changed_configuration_is_later_than_the_output_and_fields_can_be_removed() -> None:
    account = Account()
    account.change(DATASET, 10, config_changed=True, unset=["updates"])

    document = account.document(DATASET, 10)
    assert document["status"] == "ready"
    assert document["last_updated_config_at"] > document["last_updated_output_at"]
    assert "updates" not in document


def test_builds_add_rows_and_a_target_counts_the_population_of_its_scope() -> None:
    rows = {"sandbox": {"rows": 500, "rows_per_update": 7}}
    account = Account(dataset=rows, scope=rows)

    assert "count" not in account.document(TARGET, 17)
    assert account.document(TARGET, 60)["count"] == 500
    account.force_update(DATASET, 60)
    assert account.document(TARGET, 77)["count"] == 500
    assert account.document(TARGET, 1000)["count"] == 507
    assert account.document(DATASET, 1000)["row_count"] == 507
