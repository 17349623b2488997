"""Isolation of triggers: rejected ids end only their own waits, and past polls are not kept."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest

from airflow_provider_faraday.api.readiness import Verdict
from airflow_provider_faraday.api.responses import Remembering
from airflow_provider_faraday.waiting import feed
from raw_server import RawServer, answer
from support.accounts import Account, id_of
from support.graphs import node
from support.ids import SCOPE
from support.triggers import Waiting, polled, until, waiting_for

Connect = Callable[..., None]

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]

TARGET = node(id_of(7), "targets", "Buyers table")


def objects(kind: type) -> int:
    """Return how many objects of a class there are, those of other tests included."""
    gc.collect()
    return sum(type(each) is kind for each in gc.get_objects())


async def test_responses_of_earlier_polls_are_not_kept(
    serve: Callable[[Account], Account], waiting: Waiting
) -> None:
    earlier = objects(Remembering)
    running = {**TARGET, "status": "running"}
    account = serve(Account(running, *(node(id_of(7, n), "targets") for n in range(2, 12))))
    waiting.start(waiting_for(TARGET["id"]))
    for number in range(2, 12):
        # Each changes the address of the list.
        await waiting.event(waiting_for(id_of(7, number)))
    await polled(account)
    assert objects(Remembering) <= earlier + 3


async def test_waits_with_different_criteria_keep_few_verdicts(
    serve: Callable[[Account], Account], waiting: Waiting
) -> None:
    """Thousands of verdicts would keep Python's garbage collector, and so the event loop, busy."""
    earlier = objects(Verdict)
    account = serve(Account({**TARGET, "status": "running"}))
    for second in range(50):
        criteria = {"updated_after": f"2026-01-02T00:00:{second:02}Z"}
        waiting.start(waiting_for(scope_id=SCOPE, criteria=criteria))
    await polled(account, 2)
    assert objects(Verdict) <= earlier + feed.VERDICTS


async def test_a_failed_poll_keeps_no_frames_of_its_subscribers(
    serve: Callable[[Account], Account], waiting: Waiting
) -> None:
    earlier = objects(TracebackType)
    account = serve(Account(TARGET))
    account.steps[f"/scopes/{SCOPE}/targets"] = answer(503)
    for _ in range(50):
        waiting.start(waiting_for(scope_id=SCOPE))
    await polled(account, 2)
    assert objects(TracebackType) <= earlier + 10


async def test_slow_lists_do_not_delay_another_list(set_connection: Connect, waiting: Waiting) -> None:
    may_respond = threading.Event()

    def respond(request: Any) -> Any:
        if "/connections/" in request.target:
            may_respond.wait(60)
        return answer(body=[TARGET])

    with RawServer(respond) as server:
        set_connection(server.url)
        for number in range(12):
            waiting.start(waiting_for(connection_id=id_of(12, number)))
        await until(lambda: sum("/connections/" in target for target in server.targets) == 12)
        try:
            async with asyncio.timeout(50):
                assert (await waiting.event(waiting_for(scope_id=SCOPE)))["status"] == "ready"
        finally:
            may_respond.set()


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_rejected_ids_end_only_their_own_waits(
    set_connection: Connect, waiting: Waiting, status: int
) -> None:
    ids = [id_of(7, number) for number in range(20)]
    rejected, now = {*ids[1::7]}, ["running"]

    def respond(request: Any) -> Any:
        _, *requested = request.target.replace("&", "").split("ids=")
        if rejected.intersection(requested):
            return answer(status, {"error": "X", "note": "one of these"})
        return answer(body=[{"id": id_, "status": now[0]} for id_ in requested])

    with RawServer(respond) as server:
        set_connection(server.url)
        events = {id_: waiting.start(waiting_for(id_)) for id_ in ids}
        await until(lambda: all(events[id_].done() for id_ in rejected))
        now[0] = "ready"
        for id_, event in events.items():
            expected = ("error", status) if id_ in rejected else ("ready", None)
            assert ((await event)["status"], event.result().get("status_code")) == expected


async def test_a_rejected_request_of_one_wait_is_not_repeated(
    set_connection: Connect, waiting: Waiting
) -> None:
    with RawServer([answer(403, {"error": "FORBIDDEN", "note": "by a proxy"})]) as server:
        set_connection(server.url)
        ids = [id_of(7, number) for number in range(300)]
        assert (await waiting.event(waiting_for(*ids)))["status_code"] == 403
        assert len(server.received) == 1
