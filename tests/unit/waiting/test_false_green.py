"""Waits that must not succeed on old data, nor fail because of an old error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_faraday.exceptions import FaradayError, ResourcesFailedError
from airflow_provider_faraday.operators.resources import ForceUpdateResourcesOperator
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import MODES, outcome

Serve = Callable[[Account], Account]

DATASET, COHORT, SCOPE, TARGET, OTHER = (id_of(kind) for kind in (13, 11, 5, 7, 99))
YESTERDAY, TONIGHT = "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"


def sensor(resource_type: str = "targets", **arguments: Any) -> Callable[..., ResourcesReadySensor]:
    """Return a function that builds a sensor for the first resource of a type."""
    ids = {"datasets": DATASET, "targets": TARGET, "scopes": SCOPE, "outcomes": id_of(14)}
    fields = {"resource_ids": [ids[resource_type]], "poke_interval": 0.02, "timeout": 10, **arguments}
    return lambda **mode: ResourcesReadySensor(
        task_id="gate", **{"resource_type": resource_type, **fields, **mode}
    )


def account_of_a_target(**fields: Any) -> tuple[Account, dict[str, Any]]:
    dataset, target = node(DATASET, "datasets", "Orders"), node(TARGET, "targets", "Buyers table", **fields)
    return Account(dataset, target, links=[(dataset, target)]), target


@pytest.mark.parametrize("mode", MODES)
def test_an_unchanged_target_that_the_graph_shows_as_running_is_waited_for(serve: Serve, mode: str) -> None:
    account, _ = account_of_a_target()
    serve(account)
    account.in_graph[TARGET] = {"status": "running"}
    account.script = [str, str, account.in_graph.clear]
    unchanged = sensor(updated_after=TONIGHT, unchanged_after=0, include_upstream=True)
    assert [each["unchanged"] for each in outcome(unchanged, mode)] == [True]
    assert account.polls >= 4


@pytest.mark.parametrize("edges", ["none", "of others"])
@pytest.mark.parametrize("resource_type", ["targets", "scopes", "outcomes"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_graph_without_the_waited_resource_fails_the_first_poll(
    serve: Serve, resource_type: str, edges: str, deferrable: bool
) -> None:
    build = sensor(resource_type, include_upstream=True, deferrable=deferrable)
    (id_,) = build().resource_ids
    others = [(node(DATASET, "datasets"), node(OTHER, "targets"))] if edges == "of others" else []
    serve(Account(node(id_, resource_type), links=others, waited=resource_type))
    with pytest.raises(FaradayError, match="graph") as caught:
        build().execute({"task_reschedule_count": 0})
    assert not isinstance(caught.value, AirflowFailException)
    assert id_ in str(caught.value)


@pytest.mark.parametrize("mode", MODES)
def test_a_graph_that_loses_the_waited_resource_is_waited_out(
    serve: Serve, task_log: list[str], mode: str
) -> None:
    account, target = account_of_a_target(status="running")
    serve(account)
    links = list(account.links)

    def lose_it() -> None:
        target["status"] = "ready"
        account.links.clear()

    account.script = [lose_it, str, str, lambda: account.links.extend(links)]
    assert [each["id"] for each in outcome(sensor(include_upstream=True), mode)] == [TARGET]
    assert account.polls >= 5
    assert any("WARNING" in line and "graph" in line and "Buyers table" in line for line in task_log)


@pytest.mark.parametrize("mode", MODES)
def test_a_dataset_may_be_missing_from_the_graph(serve: Serve, mode: str) -> None:
    serve(Account(node(DATASET, "datasets"), waited="datasets"))
    assert outcome(sensor("datasets", include_upstream=True), mode)


@pytest.mark.parametrize("mode", MODES)
def test_an_error_without_a_time_that_was_updated_before_is_waited_out(serve: Serve, mode: str) -> None:
    failed = {"status": "error", "status_error": "No such table", "status_changed_at": None}
    dataset = node(DATASET, "datasets", "Orders", updated_at=YESTERDAY, **failed)
    account = serve(Account(dataset, waited="datasets"))
    built = {"status": "ready", "last_updated_output_at": TONIGHT, "last_read_input_at": TONIGHT}
    account.script = [str, lambda: dataset.update(built)]
    assert outcome(sensor("datasets", updated_after=TONIGHT), mode)
    assert account.polls >= 3


@pytest.mark.parametrize("updated_at", [TONIGHT, None])
@pytest.mark.parametrize("mode", MODES)
def test_an_error_without_a_time_that_is_not_known_to_be_old_fails_the_task(
    serve: Serve, mode: str, updated_at: str | None
) -> None:
    failed = {"status": "error", "status_error": "No such table", "status_changed_at": None}
    serve(Account(node(DATASET, "datasets", updated_at=updated_at, **failed), waited="datasets"))
    with pytest.raises(ResourcesFailedError, match="No such table"):
        outcome(sensor("datasets", updated_after=TONIGHT), mode)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_yesterdays_error_without_a_time_does_not_end_tonights_force_update(serve: Serve, mode: str) -> None:
    failed = {"status": "error", "status_error": "No such table", "status_changed_at": None}
    dataset = node(DATASET, "datasets", "Orders", updated_at=YESTERDAY, **failed)
    account = serve(Account(dataset, waited="datasets"))

    def build() -> None:
        later = "2026-01-03T01:00:00Z"
        dataset.update(status="ready", last_updated_output_at=later, last_read_input_at=later)

    account.script = [str, str, build]

    def force_update(**mode: Any) -> ForceUpdateResourcesOperator:
        return ForceUpdateResourcesOperator(
            task_id="force_update",
            resource_type="datasets",
            resource_ids=[DATASET],
            wait_for_completion=True,
            poke_interval=0.02,
            timeout=10,
            **mode,
        )

    assert [*outcome(force_update, mode)["requested_at"]] == [DATASET]
    assert account.posted == [f"/datasets/{DATASET}/force_update"]
    assert account.polls >= 4
