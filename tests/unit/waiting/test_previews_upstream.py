"""Upstream drafts, which Faraday calls previews: they are ignored on every path to the waited resource."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_faraday.exceptions import ResourcesFailedError
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from raw_server import answer
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import MODES, outcome

Serve = Callable[[Account], Account]
Fields = dict[str, Any]

TARGET = id_of(7)


def sensor(**mode: Any) -> TargetsReadySensor:
    return TargetsReadySensor(
        task_id="gate", targets=[TARGET], include_upstream=True, poke_interval=0.02, timeout=10, **mode
    )


def orders(**fields: Any) -> Fields:
    return node(id_of(13), "datasets", "Orders", **{"status": "error", "status_error": "Gone", **fields})


def outcome_of(number: int, *, draft: bool = True, **fields: Any) -> Fields:
    return node(id_of(14, number), "outcomes", f"Outcome {number}", preview=draft, **fields)


def persona_set_of(number: int, *, draft: bool = True) -> Fields:
    return node(id_of(15, number), "persona_sets", f"Personas {number}", preview=draft)


def account_with(*links: tuple[Fields, Fields]) -> Account:
    resources = {each["id"]: each for link in links for each in link}
    return Account(*resources.values(), links=list(links))


SCOPE, DELIVERED = node(id_of(5), "scopes", "All"), node(TARGET, "targets", "Buyers table")


def by_two_drafts(failed: Fields | None = None, delivered: Fields = DELIVERED) -> Account:
    failed = failed or orders()
    drafts = [outcome_of(1), outcome_of(2)]
    ways = [link for draft in drafts for link in ((failed, draft), (draft, SCOPE))]
    return account_with(*ways, (SCOPE, delivered))


def by_many_drafts_of_a_failed_cohort() -> Account:
    failed, cohort = orders(), node(id_of(11), "cohorts", "Buyers", status="error", status_error="Gone")
    drafts = [outcome_of(n) for n in range(5)]
    ways = [link for draft in drafts for link in ((cohort, draft), (draft, SCOPE))]
    return account_with((failed, cohort), *ways, (SCOPE, DELIVERED))


def by_a_short_and_a_long_way() -> Account:
    failed, short, real, draft = orders(), outcome_of(1), outcome_of(2, draft=False), persona_set_of(1)
    long_way = [(failed, draft), (draft, real), (real, SCOPE)]
    return account_with((failed, short), (short, SCOPE), *long_way, (SCOPE, DELIVERED))


def by_drafts_that_are_still_new() -> Account:
    failed = orders()
    drafts = [outcome_of(1, status="new"), outcome_of(2, status="new"), outcome_of(3)]
    ways = [link for draft in drafts for link in ((failed, draft), (draft, SCOPE))]
    return account_with(*ways, (SCOPE, DELIVERED))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "ways",
    [
        by_two_drafts,
        by_many_drafts_of_a_failed_cohort,
        by_a_short_and_a_long_way,
        by_drafts_that_are_still_new,
    ],
)
def test_a_failure_upstream_of_drafts_only_does_not_fail_the_task(
    serve: Serve, ways: Callable[[], Account], mode: str
) -> None:
    serve(ways())
    assert [each["id"] for each in outcome(sensor, mode)] == [TARGET]


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_upstream_of_one_real_outcome_fails_the_task(serve: Serve, mode: str) -> None:
    failed = orders()
    outcomes = [outcome_of(1), outcome_of(2, draft=False), outcome_of(3)]
    ways = [link for each in outcomes for link in ((failed, each), (each, SCOPE))]
    serve(account_with(*ways, (SCOPE, DELIVERED)))
    with pytest.raises(ResourcesFailedError, match="Outcome 2"):
        outcome(sensor, mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_lookup_of_drafts_is_retried(serve: Serve, mode: str) -> None:
    dataset, target = orders(status="ready"), node(TARGET, "targets", "Buyers table", status="running")
    account = serve(by_two_drafts(dataset, target))

    def fail() -> None:
        dataset.update(status="error")
        target.update(status="ready")
        account.steps["/outcomes"] = answer(503, {"error": "X", "note": "down"})

    account.script = [fail, str, account.steps.clear]
    assert [each["id"] for each in outcome(sensor, mode)] == [TARGET]
    assert account.polls >= 4
