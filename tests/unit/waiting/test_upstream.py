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

from airflow_provider_faraday.api.readiness import Criteria
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from airflow_provider_faraday.waiting import account as accounts
from airflow_provider_faraday.waiting import feed
from airflow_provider_faraday.waiting.source import Source
from raw_server import answer
from support.accounts import Account, id_of
from support.graphs import edge, node
from support.modes import MODES, outcome
from support.triggers import Waiting, until, waiting_for

Serve = Callable[[Account], Account]
Fields = dict[str, Any]

TARGET, OTHER = id_of(7), id_of(99)
DOWN = answer(503, {"error": "X", "note": "down"})
SCOPE = node(id_of(5), "scopes", "All")
sensor = partial(
    TargetsReadySensor,
    task_id="gate",
    targets=[TARGET],
    include_upstream=True,
    poke_interval=0.02,
    timeout=60,
)


def orders(**fields: Any) -> Fields:
    return node(id_of(13), "datasets", "Orders", **fields)


def delivered(**fields: Any) -> Fields:
    return node(TARGET, "targets", "Buyers table", **fields)


def draft(**fields: Any) -> Fields:
    """Return an outcome that is a draft, which Faraday calls a preview."""
    return node(id_of(14), "outcomes", "Draft", preview=True, **fields)


def account_with(*path: Fields) -> Account:
    """Return an account with a path of resources to a target."""
    return Account(*path, links=list(pairwise(path)))


FAULTS: dict[str, Callable[[Account], object]] = {
    "GET /graph": lambda account: account.steps.update({"/graph": DOWN}),
    "graph does not have target 'Buyers table'": lambda account: account.links.clear(),
    "which upstream resources are previews": lambda account: account.steps.update({"/outcomes": DOWN}),
}


@pytest.mark.parametrize("says", FAULTS)
@pytest.mark.parametrize("mode", MODES)
def test_a_failed_request_is_retried_and_a_failure_behind_a_draft_does_not_fail_the_task(
    serve: Serve, task_log: list[str], mode: str, says: str
) -> None:
    dataset, target = orders(), delivered(status="running")
    account = serve(account_with(dataset, draft(), SCOPE, target))
    links = list(account.links)

    def fail() -> None:
        dataset["status"], target["status"] = "error", "ready"
        FAULTS[says](account)

    def heal() -> None:
        account.links[:] = links
        account.steps.clear()

    account.script = [fail, str, heal]
    assert [each["id"] for each in outcome(sensor, mode)] == [TARGET]
    assert account.polls >= 4
    assert any("WARNING" in line and says in line for line in task_log)


@pytest.mark.parametrize(("mode", "processes"), [("poke", 1), ("deferrable", 3)])
def test_drafts_are_looked_up_once_in_each_process(serve: Serve, mode: str, processes: int) -> None:
    target = delivered(status="running")
    account = serve(account_with(orders(status="error"), draft(), SCOPE, target))
    account.script = [str, str, lambda: target.update(status="ready")]
    assert [each["id"] for each in outcome(sensor, mode)] == [TARGET]
    assert account.server.targets.count(f"/v1/outcomes?ids={id_of(14)}") == processes


@pytest.mark.anyio
async def test_unchanged_polls_have_the_same_graph_object(serve: Serve) -> None:
    serve(account_with(orders(status="error"), draft(), SCOPE, delivered()))
    source = Source.from_json(
        {"resource_type": "targets", "include_upstream": True, "resource_ids": (TARGET,)}
    )
    async with feed.subscribe("faraday_default", source, 0.02) as subscriber:
        first, second = [await subscriber.next_poll(deliver_after=0.0) for _ in range(2)]
    # Each subscriber compares the graphs. Equal ones would be compared node by node.
    assert first.graph is second.graph is not None


@pytest.mark.parametrize("seconds", [600, timedelta(minutes=10)])
def test_a_resource_is_returned_with_a_flag_if_it_is_unchanged(serve: Serve, seconds: Any) -> None:
    target = delivered()
    account = serve(account_with(orders(), target))
    # The last page of the graph has the current time.
    late = {"Date": "Sat, 03 Jan 2026 00:10:00 GMT"}
    first = {"Date": "Sat, 03 Jan 2026 00:00:00 GMT", "Link": '</v1/graph2>; rel="next"'}
    account.steps["/graph"] = answer(body=[edge(*account.links[0])], headers=first)
    account.steps["/graph2"] = answer(body=[], headers=late)
    tonight = "2026-01-03T00:00:00Z"
    gate = partial(sensor, updated_after=tonight, unchanged_after=seconds, fields=["id"])
    assert outcome(gate, "poke") == [{"id": TARGET, "unchanged": True}]
    assert account.server.targets == [f"/v1/targets?ids={TARGET}", "/v1/graph", "/v1/graph2"]
    target["last_updated_output_at"] = target["last_read_input_at"] = tonight
    assert outcome(gate, "poke") == [{"id": TARGET, "unchanged": False}]


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["fails", "stalls"])
async def test_a_failed_lookup_of_drafts_affects_only_downstream_waits(
    serve: Serve, waiting: Waiting, monkeypatch: pytest.MonkeyPatch, task_log: list[str], fault: str
) -> None:
    monkeypatch.setattr(accounts, "PREVIEW_SECONDS", 0.2)
    account = account_with(orders(status="error"), draft(status="new"), SCOPE, delivered())
    other = node(OTHER, "targets", "Other table")
    account.resources.append(other)
    account.links.append((node(id_of(13, 2), "datasets"), other))
    serve(account)
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
@pytest.mark.usefixtures("waiting")
async def test_all_sources_of_an_account_share_the_graph(serve: Serve) -> None:
    account = serve(account_with(orders(), delivered()))
    sources = [{"resource_ids": (TARGET,)}, *({"connection_id": id_of(12, n)} for n in range(7))]

    def after_all_lists(*of_request: Any) -> None:
        while account.polls < len(sources):
            time.sleep(0.01)
        # Until the client has received the lists, too.
        time.sleep(0.3)
        answer(body=[edge(*account.links[0])])(*of_request)

    def after_first_graph(*of_request: Any) -> None:
        while "/v1/graph" not in account.server.targets:
            time.sleep(0.01)
        answer(body=[delivered()])(*of_request)

    account.steps = {"/graph": after_all_lists, f"/connections/{id_of(12)}/targets": after_first_graph}

    async def first_poll(source: dict[str, Any]) -> None:
        parsed = Source.from_json({"resource_type": "targets", "include_upstream": True, **source})
        async with feed.subscribe("faraday_default", parsed, 0.5) as subscriber:
            poll = await subscriber.next_poll()
            assert poll.verdict(Criteria()).is_ready

    await asyncio.gather(*map(first_poll, sources))
    # That of the slow list was requested after it.
    assert 2 <= account.server.targets.count("/v1/graph") <= len(sources) / 2
