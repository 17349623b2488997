"""Isolation of triggers: slow lists, refused ids and large responses affect only their own subscribers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from raw_server import RawServer, answer
from support.accounts import id_of
from support.graphs import edge, node
from support.ids import SCOPE
from support.triggers import run, triggerer, until, waiting_for

Connect = Callable[..., None]

pytestmark = pytest.mark.usefixtures("short_waits")

TARGET, DATASET = node(id_of(7), "targets", "Buyers table"), node(id_of(13), "datasets", "Orders")
ONE_BY_ONE = [id_of(7, number) for number in range(100, 116)]
GRAPH = answer(body=[edge(DATASET, each) for each in (TARGET, *(node(id_, "targets") for id_ in ONE_BY_ONE))])


@contextmanager
def slow_lists(fast: Callable[[Any], Any]) -> Iterator[RawServer]:
    """Serve an account in which the lists of Faraday connections do not respond until the test has ended."""
    released = threading.Event()

    def respond(request: Any) -> Any:
        if "/connections/" in request.target:
            released.wait(30)
        return fast(request)

    with RawServer(respond) as server:
        try:
            yield server
        finally:
            released.set()


def test_many_slow_lists_do_not_delay_another_list(set_connection: Connect) -> None:
    def respond(request: Any) -> Any:
        return GRAPH if request.target.endswith("/graph") else answer(body=[TARGET])

    with slow_lists(respond) as server:
        set_connection(server.url)

        async def test() -> None:
            async with triggerer() as waiting:
                for number in range(12):
                    waiting.start(waiting_for(connection_id=id_of(12, number), include_upstream=True))
                # Eight lists at a time was once the limit.
                await until(lambda: sum("/connections/" in target for target in server.targets) >= 8)
                began = time.monotonic()
                event = await waiting.event(waiting_for(scope_id=SCOPE, include_upstream=True))
                assert event["status"] == "ready"
                assert time.monotonic() - began < 3

        run(test)


class LargeLists:
    """Responses of 2 MB that change each time, and the memory in use whenever one is requested."""

    def __init__(self) -> None:
        self.megabytes: list[float] = []

    def respond(self, request: Any) -> Any:
        if request.target.endswith("/graph"):
            return GRAPH
        if request.target.endswith(f"/scopes/{SCOPE}/targets"):
            # The next page has another address each time.
            link = f'</v1/scopes/{SCOPE}/targets?cursor={len(self.megabytes)}>; rel="next"'
            return answer(body=[TARGET], headers={"Link": link})
        self.megabytes.append(tracemalloc.get_traced_memory()[0] / 1e6)
        number = len(self.megabytes)
        sample = f"{number:07}" * 300_000
        running = {"status": "running", "name": f"Table {number}", "sample": sample}
        ready = [node(id_, "targets") for id_ in ONE_BY_ONE if id_ in request.target]
        return answer(body=[*ready, {**TARGET, **running}])


@pytest.mark.parametrize("address", ["of pages", "of ids that come and go"])
def test_responses_are_not_kept_while_another_list_is_slow(set_connection: Connect, address: str) -> None:
    large = LargeLists()
    with slow_lists(large.respond) as server:
        set_connection(server.url)

        async def test() -> None:
            async with triggerer() as waiting:
                waiting.start(waiting_for(connection_id=id_of(12), include_upstream=True))
                if address == "of pages":
                    waiting.start(waiting_for(scope_id=SCOPE, include_upstream=True))
                    await until(lambda: len(large.megabytes) >= len(ONE_BY_ONE), 20)
                    return
                waiting.start(waiting_for(TARGET["id"], include_upstream=True))
                for id_ in ONE_BY_ONE:
                    event = await waiting.event(waiting_for(id_, include_upstream=True))
                    assert event["status"] == "ready"

        tracemalloc.start()
        try:
            run(test)
        finally:
            tracemalloc.stop()
    # One response may be on its way, and one may be kept to compare the next one with it.
    assert min(large.megabytes[12:16]) - min(large.megabytes[4:8]) < 8


@pytest.mark.parametrize("status", [404, 400, 403])
def test_ids_that_faraday_refuses_do_not_end_other_waits(set_connection: Connect, status: int) -> None:
    ids = [id_of(7, number) for number in range(100)]
    refused = {id_ for number, id_ in enumerate(ids) if number % 10 in (1, 4, 8)}
    now = ["running"]

    def respond(request: Any) -> Any:
        wanted = [id_ for id_ in ids if id_ in request.target]
        if refused.intersection(wanted):
            return answer(status, {"error": "X", "note": "one of these"})
        return answer(body=[{"id": id_, "status": now[0]} for id_ in wanted])

    with RawServer(respond) as server:
        set_connection(server.url)

        async def test() -> None:
            async with triggerer() as waiting:
                events = {id_: waiting.start(waiting_for(id_, poke_interval=0.2)) for id_ in ids}
                await until(lambda: all(events[id_].done() for id_ in refused), 10)
                now[0] = "ready"
                await until(lambda: all(event.done() for event in events.values()), 10)
                for id_, event in events.items():
                    assert event.result()["status"] == ("error" if id_ in refused else "ready")
                    assert event.result().get("status_code") in (None, status)

        run(test)
        # Faraday is asked for each id alone, then for the remaining ones together.
        assert len(server.targets) < 250


def test_an_id_that_faraday_refuses_does_not_end_waits_that_began_before(set_connection: Connect) -> None:
    good, bad = id_of(7, 1), id_of(7, 2)
    now = ["running"]

    def respond(request: Any) -> Any:
        if bad in request.target:
            return answer(404, {"error": "NOT_FOUND", "note": "no"})
        return answer(body=[{"id": good, "status": now[0]}])

    with RawServer(respond) as server:
        set_connection(server.url)

        async def test() -> None:
            async with triggerer() as waiting:
                first = waiting.start(waiting_for(good))
                await until(lambda: len(server.targets) >= 2)
                assert (await waiting.event(waiting_for(bad)))["status"] == "error"
                assert not first.done()
                now[0] = "ready"
                await until(first.done)
                assert first.result()["status"] == "ready"

        run(test)


class Holds:
    """The longest time for which the event loop was blocked.

    Measured in CPU time of its thread, because other processes and threads may be busy.
    """

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            last = now


def test_a_wait_for_many_forced_datasets_and_targets_does_not_block_the_event_loop(
    set_connection: Connect,
) -> None:
    datasets = [node(id_of(13, n), "datasets", f"Dataset {n}") for n in range(400)]
    building = {"status": "running"}
    streams = [node(id_of(9, n), "streams", f"Stream {n}", **building) for n in range(10)]
    cohorts = [node(id_of(11, n), "cohorts", f"Cohort {n}", **building) for n in range(40)]
    scopes = [node(id_of(5, n), "scopes", f"Scope {n}", **building) for n in range(100)]
    targets = [node(id_of(7, n), "targets", f"Target {n}", **building) for n in range(100)]
    edges = [
        *(edge(dataset, streams[n % 10]) for n, dataset in enumerate(datasets)),
        *(edge(stream, cohort) for stream in streams for cohort in cohorts),
        *(edge(cohort, scope) for cohort in cohorts for scope in scopes),
        *(edge(scope, target) for scope, target in zip(scopes, targets, strict=True)),
    ]
    # Prepared, so that the server does not compete with the event loop for Python's lock.
    listed = json.dumps(targets).encode()
    changed = [
        edge({**datasets[0], "status": status}, streams[0]) for status in ("running", "starting", "new")
    ]
    graphs = [json.dumps([each, *edges[1:]]).encode() for each in changed]
    served: list[bytes] = []

    def respond(request: Any) -> Any:
        if not request.target.endswith("/graph"):
            return answer(body=listed)
        served.append(graphs[len(served) % len(graphs)])
        return answer(body=served[-1])

    requested_at = datetime(2026, 1, 2, tzinfo=UTC) - timedelta(hours=1)
    times = [
        [each["id"], (requested_at + timedelta(seconds=n)).isoformat()] for n, each in enumerate(datasets)
    ]
    ids = [each["id"] for each in targets]
    holds = Holds()
    with RawServer(respond) as server:
        set_connection(server.url)

        async def test() -> None:
            async with triggerer() as waiting:
                trigger = waiting_for(*ids, include_upstream=True, criteria={"updated_after": times})
                event = waiting.start(trigger)
                await until(lambda: len(served) >= 2, 20)
                watching = asyncio.create_task(holds.watch())
                await until(lambda: len(served) >= 5, 20)
                watching.cancel()
                assert not event.done()

        run(test)
    # 50 ms on a quiet machine.
    assert holds.longest < 0.3
