"""Waits with ``include_upstream``: the graph, upstream drafts, and requests that triggers share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_faraday.api.readiness import Criteria
from airflow_provider_faraday.exceptions import (
    FaradayError,
    FaradayInputError,
    ResourcesFailedError,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.waiting import account as accounts
from airflow_provider_faraday.waiting import feed
from airflow_provider_faraday.waiting.source import Source
from raw_server import answer
from support.accounts import Account, id_of
from support.graphs import chain, edge, node
from support.modes import MODES, outcome
from support.triggers import Waiting, until, waiting_for

Serve = Callable[[Account], Account]
Fields = dict[str, Any]

DATASET, TARGET, OTHER = id_of(13), id_of(7), id_of(99)
MODES_OF_UPSTREAM = pytest.mark.parametrize("mode", ["poke", "deferrable"])
DOWN = answer(503, {"error": "X", "note": "down"})
TONIGHT = "2026-01-03T00:00:00Z"


def sensor(resource_type: str = "targets", **arguments: Any) -> ResourcesReadySensor:
    defaults = {"resource_ids": [TARGET], "include_upstream": True, "poke_interval": 0.02, "timeout": 60}
    fields = {**defaults, **arguments}
    return ResourcesReadySensor(task_id="gate", resource_type=resource_type, **fields)


def delivery(**fields: Any) -> tuple[Account, Fields, Fields]:
    """Return an account with a target that is built from a dataset, and both."""
    dataset, target = node(DATASET, "datasets", "Orders"), node(TARGET, "targets", "Buyers table", **fields)
    return Account(dataset, target, links=[(dataset, target)]), dataset, target


def test_a_poll_requests_the_list_and_then_the_graph(serve: Serve) -> None:
    account, _, _ = delivery(count=3)
    serve(account)
    assert outcome(partial(sensor, fields=["id", "count"]), "poke") == [{"id": TARGET, "count": 3}]
    assert account.server.targets == [f"/v1/targets?ids={TARGET}", "/v1/graph"]


@pytest.mark.parametrize("status", [503, 524])
@pytest.mark.parametrize("mode", MODES)
def test_a_failed_request_for_the_graph_is_retried(serve: Serve, mode: str, status: int) -> None:
    account, _, target = delivery(status="running")
    serve(account)

    def fail() -> None:
        target["status"] = "ready"
        account.steps["/graph"] = answer(status, b"<html>from a proxy</html>")

    account.script = [fail, str, account.steps.clear]
    assert [each["id"] for each in outcome(sensor, mode)] == [TARGET]
    assert account.polls >= 4


@pytest.mark.parametrize("edges", ["none", "of others"])
@pytest.mark.parametrize("resource_type", ["targets", "scopes", "outcomes"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_graph_without_the_waited_resource_fails_the_first_poll(
    serve: Serve, resource_type: str, edges: str, deferrable: bool
) -> None:
    others = [(node(DATASET, "datasets"), node(OTHER, "targets"))] if edges == "of others" else []
    serve(Account(node(TARGET, resource_type), links=others, waited=resource_type))
    with pytest.raises(FaradayError, match=f"graph does not have .*{TARGET}") as caught:
        sensor(resource_type, deferrable=deferrable).execute({"task_reschedule_count": 0})
    # Airflow retries the task.
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("mode", MODES)
def test_a_graph_that_loses_the_waited_resource_is_requested_again(
    serve: Serve, task_log: list[str], mode: str
) -> None:
    account, _, target = delivery(status="running")
    serve(account)
    links = list(account.links)

    def lose_it() -> None:
        target["status"] = "ready"
        account.links.clear()

    account.script = [lose_it, str, lambda: account.links.extend(links)]
    assert [each["id"] for each in outcome(sensor, mode)] == [TARGET]
    assert account.polls >= 4
    assert any("WARNING" in line and "graph" in line and "Buyers table" in line for line in task_log)


@MODES_OF_UPSTREAM
def test_a_dataset_may_be_missing_from_the_graph(serve: Serve, mode: str) -> None:
    serve(Account(node(DATASET, "datasets"), waited="datasets"))
    gate = partial(DatasetsReadySensor, task_id="gate", datasets=[DATASET], include_upstream=True)
    assert outcome(gate, mode)


@pytest.mark.parametrize("mode", MODES)
def test_an_unchanged_target_that_the_graph_shows_as_running_is_waited_for(serve: Serve, mode: str) -> None:
    account, _, _ = delivery()
    serve(account)
    account.in_graph[TARGET] = {"status": "running"}
    account.script = [str, str, account.in_graph.clear]
    unchanged = partial(sensor, updated_after=TONIGHT, unchanged_after=0)
    assert [each["unchanged"] for each in outcome(unchanged, mode)] == [True]
    assert account.polls >= 4


@pytest.mark.parametrize("seconds", [600, timedelta(minutes=10)])
def test_a_resource_is_returned_with_a_flag_if_it_is_unchanged(serve: Serve, seconds: Any) -> None:
    account, _, target = delivery()
    serve(account)
    # The last page of the graph has the current time.
    late = {"Date": "Sat, 03 Jan 2026 00:10:00 GMT"}
    first = {"Date": "Sat, 03 Jan 2026 00:00:00 GMT", "Link": '</v1/graph2>; rel="next"'}
    account.steps["/graph"] = answer(body=[edge(*account.links[0])], headers=first)
    account.steps["/graph2"] = answer(body=[], headers=late)
    gate = partial(sensor, updated_after=TONIGHT, unchanged_after=seconds, fields=["id"])
    assert outcome(gate, "poke") == [{"id": TARGET, "unchanged": True}]
    target["last_updated_output_at"] = target["last_read_input_at"] = TONIGHT
    assert outcome(gate, "poke") == [{"id": TARGET, "unchanged": False}]


@pytest.mark.anyio
async def test_a_wait_ends_when_enough_time_has_passed_although_responses_are_equal(
    serve: Serve, waiting: Waiting
) -> None:
    serve(delivery()[0])
    trigger = waiting_for(
        TARGET, include_upstream=True, criteria={"updated_after": TONIGHT, "unchanged_after": 2}
    )
    assert (await waiting.event(trigger))["status"] == "ready"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resource_type": "connections"}, "nothing is upstream of"),
        ({"unchanged_after": 60}, "include_upstream=True and updated_after"),
        (
            {"unchanged_after": 60, "include_upstream": False, "updated_after": TONIGHT},
            "include_upstream=True and updated_after",
        ),
        ({"unchanged_after": -1, "updated_after": TONIGHT}, "unchanged_after must be"),
    ],
)
def test_invalid_arguments_are_rejected_when_the_dag_file_is_parsed(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(FaradayInputError, match=message):
        sensor(**arguments)


SCOPE, DELIVERED = node(id_of(5), "scopes", "All"), node(TARGET, "targets", "Buyers table")


def orders(**fields: Any) -> Fields:
    return node(DATASET, "datasets", "Orders", **{"status": "error", "status_error": "Gone", **fields})


def outcome_of(number: int, *, draft: bool = True, **fields: Any) -> Fields:
    """Return an outcome, by default a draft, which Faraday calls a preview."""
    return node(id_of(14, number), "outcomes", f"Outcome {number}", preview=draft, **fields)


def account_with(*paths: tuple[Fields, ...], delivered: Fields = DELIVERED) -> Account:
    """Return an account with a target, and paths of resources to the scope that it is built from."""
    chains = [*((*path, SCOPE) for path in paths), (SCOPE, delivered)]
    links = [link for path in chains for link in pairwise(path)]
    resources = {each["id"]: each for link in links for each in link}
    return Account(*resources.values(), links=links)


PERSONAS = node(id_of(15), "persona_sets", "Personas", preview=True)
COHORT = node(id_of(11), "cohorts", "Buyers", status="error", status_error="Gone")
BEHIND_DRAFTS = {
    "two drafts": [(orders(), outcome_of(1)), (orders(), outcome_of(2))],
    "drafts of a failed cohort": [(orders(), COHORT, outcome_of(n)) for n in range(5)],
    "a short and a long path": [
        (orders(), outcome_of(1)),
        (orders(), PERSONAS, outcome_of(2, draft=False)),
    ],
    "new drafts": [(orders(), outcome_of(1, status="new")), (orders(), outcome_of(2))],
}


@MODES_OF_UPSTREAM
@pytest.mark.parametrize("paths", BEHIND_DRAFTS.values(), ids=BEHIND_DRAFTS)
def test_a_failure_behind_drafts_does_not_fail_the_task(
    serve: Serve, paths: list[tuple[Fields, ...]], mode: str
) -> None:
    serve(account_with(*paths))
    assert [each["id"] for each in outcome(sensor, mode)] == [TARGET]


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_behind_a_draft_and_an_outcome_fails_the_task(serve: Serve, mode: str) -> None:
    delivered = {**DELIVERED, "status": "running"}
    outcomes = [outcome_of(1), outcome_of(2, draft=False), outcome_of(3)]
    account = serve(account_with(*((orders(), each) for each in outcomes), delivered=delivered))
    account.script = [lambda: delivered.update(status="ready")]
    with pytest.raises(ResourcesFailedError, match=r"'Orders' failed: Gone .* outcome 'Outcome 2'"):
        outcome(sensor, mode)


@pytest.mark.parametrize(("mode", "processes"), [("poke", 1), ("deferrable", 3)])
def test_drafts_are_looked_up_once_in_each_process(serve: Serve, mode: str, processes: int) -> None:
    delivered = {**DELIVERED, "status": "running"}
    account = serve(account_with((orders(), outcome_of(1)), delivered=delivered))
    account.script = [str, str, lambda: delivered.update(status="ready")]
    gate = partial(sensor, fail_on_error=False)
    assert [each["id"] for each in outcome(gate, mode)] == [TARGET]
    assert account.server.targets.count(f"/v1/outcomes?ids={id_of(14)}") == processes


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_lookup_of_drafts_is_retried(serve: Serve, mode: str) -> None:
    dataset, target = orders(status="ready"), {**DELIVERED, "status": "running"}
    account = serve(account_with((dataset, outcome_of(1)), (dataset, outcome_of(2)), delivered=target))

    def fail() -> None:
        dataset.update(status="error")
        target.update(status="ready")
        account.steps["/outcomes"] = DOWN

    account.script = [fail, str, account.steps.clear]
    assert [each["id"] for each in outcome(sensor, mode)] == [TARGET]
    assert account.polls >= 4


def two_targets(draft: Fields) -> Account:
    """Return an account of two targets, of which only the first one has a draft upstream."""
    account = account_with((draft,))
    other = node(OTHER, "targets", "Other table")
    account.resources.append(other)
    account.links.append((node(DATASET, "datasets", "Orders"), other))
    return account


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["fails", "stalls"])
async def test_a_failed_lookup_of_drafts_affects_only_downstream_waits(
    serve: Serve, waiting: Waiting, monkeypatch: pytest.MonkeyPatch, task_log: list[str], fault: str
) -> None:
    monkeypatch.setattr(accounts, "PREVIEW_SECONDS", 0.2)
    account = serve(two_targets(outcome_of(1, status="new")))
    released = threading.Event()

    def stall(*of_request: Any) -> None:
        released.wait(60)
        DOWN(*of_request)

    account.steps["/outcomes"] = DOWN if fault == "fails" else stall
    behind = waiting.start(waiting_for(TARGET, include_upstream=True))
    beside = await waiting.event(waiting_for(OTHER, include_upstream=True))
    assert beside["status"] == "ready"
    await until(lambda: any("Could not look up which upstream resources" in line for line in task_log))
    assert not behind.done()
    account.steps.clear()
    released.set()
    assert (await behind)["status"] == "ready"


@pytest.mark.anyio
async def test_an_upstream_id_that_is_no_uuid_affects_only_downstream_waits(
    serve: Serve, waiting: Waiting, task_log: list[str]
) -> None:
    serve(two_targets(node("odd", "outcomes", "Odd", status="running")))
    behind = waiting.start(waiting_for(TARGET, include_upstream=True))
    beside = await waiting.event(waiting_for(OTHER, include_upstream=True))
    assert beside["status"] == "ready"
    await until(lambda: any("outcome 'Odd' is running" in line for line in task_log))
    assert not behind.done()


@pytest.mark.anyio
async def test_all_sources_of_an_account_share_the_graph(serve: Serve, waiting: Waiting) -> None:
    account, dataset, target = delivery()
    serve(account)
    sources = [{"resource_ids": (TARGET,)}, *({"connection_id": id_of(12, n)} for n in range(7))]

    def numbered(*of_request: Any) -> None:
        number = account.server.targets.count("/v1/graph")
        while number == 1 and account.polls < len(sources):
            time.sleep(0.01)
        # Until the client has received the lists, too.
        time.sleep(0.3)
        answer(body=[*chain(dataset, target), edge(node(id_of(82, number), "traits"), target)])(*of_request)

    account.steps["/graph"] = numbered

    async def first_graph(source: dict[str, Any]) -> Any:
        parsed = Source.from_json({"resource_type": "targets", "include_upstream": True, **source})
        async with feed.subscribe("faraday_default", parsed, 0.5) as subscriber:
            poll = await subscriber.next_poll()
            assert poll.verdict(Criteria(), subscriber.ids).is_ready
            return poll.graph

    graphs = await asyncio.gather(*map(first_graph, sources))
    requested = {id_ for graph in graphs for id_ in graph.nodes if id_.startswith(id_of(82)[:8])}
    assert len(requested) <= len(sources) / 2
