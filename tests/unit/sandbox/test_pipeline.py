"""How builds cascade from what has changed to everything downstream, without HTTP and without waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_faraday.sandbox.account_file import SPECS, load
from airflow_provider_faraday.sandbox.errors import FaradayError
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
NOWHERE = "00000000-0000-4000-8000-000000000000"
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


FIRST = {
    "dataset": [3.0],
    "stream": [6.0],
    "cohort": [9.0],
    "outcome": [12.0],
    "scope": [15.0],
    "target": [18.0],
}
NOT_YET: dict[str, list[float]] = {name: [] for name in NAMES}


def test_each_resource_is_new_until_its_upstream_is_ready() -> None:
    account = Account()

    assert account.statuses(0) == dict.fromkeys(NAMES, "new")
    assert account.statuses(4.5) == dict.fromkeys(NAMES, "new") | {"dataset": "ready", "stream": "starting"}
    assert account.statuses(8.5)["cohort"] == "running"
    assert account.builds(60) == FIRST


def test_what_happened_does_not_depend_on_when_it_is_looked_at() -> None:
    watched = Account()
    for tenths in range(600):
        watched.statuses(tenths / 10)

    assert watched.builds(60) == Account().builds(60)


def test_speed_shortens_the_cascade() -> None:
    assert Account(speed=10).builds(60)["target"] == [1.8]


@pytest.mark.parametrize(
    ("refreshed", "rebuilt"),
    [
        (DATASET, {"dataset": 63, "stream": 66, "cohort": 69, "outcome": 72, "scope": 75, "target": 78}),
        (OUTCOME, {"outcome": 63, "scope": 66, "target": 69}),
    ],
)
def test_a_force_update_rebuilds_everything_downstream_once(
    refreshed: str, rebuilt: dict[str, float]
) -> None:
    account = Account()
    account.force_update(refreshed, 60)

    builds = account.builds(1000)

    assert {name: times[1:] for name, times in builds.items()} == {
        name: [rebuilt[name]] if name in rebuilt else [] for name in NAMES
    }


def test_a_change_during_the_cascade_runs_through_again() -> None:
    account = Account()
    account.force_update(DATASET, 60)
    account.force_update(DATASET, 64)

    # The second one reaches the stream while it builds, so it is built twice; what follows, only once.
    assert account.builds(1000)["stream"][1:] == [66, 70]
    assert account.builds(1000)["target"][1:] == [82]


def test_a_failed_build_stops_the_cascade_until_it_is_fixed() -> None:
    account = Account(outcome={"sandbox": {"outcome": "error"}})

    statuses = account.statuses(60)
    assert (statuses["cohort"], statuses["outcome"]) == ("ready", "error")
    assert (statuses["scope"], statuses["target"]) == ("new", "new")

    account.change(OUTCOME, 60, sandbox={"outcome": "ready"}, rebuild=True)
    assert account.builds(1000)["target"] == [68]


def test_without_changes_the_cascade_stops() -> None:
    account = Account(stream={"sandbox": {"changes": False}})
    assert account.builds(60) == FIRST

    account.force_update(DATASET, 60)

    assert account.builds(1000) == {**FIRST, "dataset": [3, 63], "stream": [6, 66]}


def test_archived_resources_and_previews_are_not_built() -> None:
    archived = Account(outcome={"archived_at": "2025-01-31T00:00:00Z"})
    preview = Account(outcome={"preview": True})
    preview.force_update(OUTCOME, 30)

    for account in (archived, preview):
        assert account.builds(1000) == {**FIRST, "outcome": [], "scope": [12], "target": [15]}


def test_removing_a_resource_unblocks_what_is_downstream() -> None:
    account = Account(outcome={"sandbox": {"outcome": "error"}})
    account.pipeline.apply_events(after(60))
    account.pipeline.remove("outcomes", OUTCOME, after(60))
    account.pipeline.apply_events(after(100))

    assert account.get(SCOPE).document(after(100))["status"] == "ready"
    assert OUTCOME not in {each.id for edge in account.pipeline.edges() for each in edge}


@pytest.mark.parametrize("status", ["ready", "error", "running"])
def test_a_status_that_is_set_during_a_cascade_is_kept_until_the_next(status: str) -> None:
    account = Account()
    account.change(SCOPE, 4, status=status)

    assert account.statuses(1000)["scope"] == status
    assert account.builds(1000)["target"] == ([15] if status == "ready" else [])

    account.force_update(DATASET, 1000)
    assert account.statuses(2000)["scope"] == "ready"
    assert account.builds(2000)["target"][-1] == 1018


def test_a_target_counts_the_population_of_its_scope() -> None:
    account = Account(scope={"sandbox": {"rows": 500, "rows_per_update": 7}})

    assert "count" not in account.document(TARGET, 17)
    assert account.document(TARGET, 60)["count"] == 500
    account.force_update(DATASET, 60)
    assert account.document(TARGET, 77)["count"] == 500
    assert account.document(TARGET, 1000)["count"] == 507
    account.change(TARGET, 1000, status="ready", count=3)
    assert account.document(TARGET, 1000)["count"] == 3


def test_a_resource_that_is_added_is_built_from_what_is_there() -> None:
    account = Account()
    account.pipeline.apply_events(after(60))
    spec = SPECS["targets"].model_validate({"name": "another", "scope_id": SCOPE, "sandbox": STEP})
    account.pipeline.add("targets", spec, after(60))
    account.pipeline.apply_events(after(100))

    assert account.pipeline.get("targets", spec.id).document(after(100))["last_updated_output_at"] == rfc3339(
        after(63)
    )
    with pytest.raises(FaradayError, match="already exists"):
        account.pipeline.add("targets", spec, after(100))
    lost = SPECS["targets"].model_validate({"name": "lost", "scope_id": NOWHERE})
    with pytest.raises(FaradayError, match=f"No scope with the id {NOWHERE}"):
        account.pipeline.add("targets", lost, after(100))
