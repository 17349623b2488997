"""Measure waiting: many triggers in one event loop, each case in a forked process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import psutil
from forked import forked
from server import Counter
from subjects import OURS, PEERS, SUBJECTS, UNCHANGED, Subject, connections, unlike, upstream

TICK = 0.01


@dataclass(frozen=True)
class Case:
    """One measurement.

    :param waiters: the number of triggers.
    :param size: the number of datasets in each list; has no effect on the peers, which poll jobs.
    :param lists: the number of different lists or jobs, either 1 or the number of triggers.
    :param interval: seconds between polls.
    :param changing: whether every response differs from the previous one. The peers' never do.
    :param spread: whether the triggers' starts are spread over the interval. By default they start at once,
        as after a restart of the triggerer.
    """

    subject: str
    waiters: int
    size: int = 5
    lists: int = 1
    interval: float = 2.0
    changing: bool = True
    spread: bool = False
    tls: bool = False
    cpu_rounds: int = 2
    lag_rounds: int = 1


def interval_for(waiters: int) -> float:
    """Return an interval that is long enough for most subjects to be idle between polls."""
    return {1: 1.0, 10: 1.0, 100: 1.0, 500: 3.0, 1000: 4.0}[waiters]


def cases(quick: bool) -> Iterator[Case]:
    """Return all cases, ordered by number of triggers, so that all subjects run close together."""
    numbers = (1, 100) if quick else (1, 10, 100, 500, 1000)
    sizes = (5, 100) if quick else (5, 100, 1000)
    for waiters in numbers:
        interval = interval_for(waiters)
        # The goals are for 500 triggers, so measure those for longer.
        lag_rounds = 3 if waiters >= 500 else 2
        rounds = {"cpu_rounds": 4 if waiters == 500 else 3, "lag_rounds": lag_rounds}
        rounds = {} if quick else rounds
        for peer in PEERS:
            yield Case(peer.name, waiters, interval=interval, **rounds)
        for size in sizes:
            yield Case(OURS.name, waiters, size, interval=interval, **rounds)
        if waiters == 1:
            yield Case(OURS.name, waiters, 1000, interval=interval, changing=False, **rounds)
        else:
            for changing in (True, False):
                yield Case(
                    OURS.name, waiters, 5, lists=waiters, interval=interval, changing=changing, **rounds
                )
        if 1 < waiters <= 100:
            yield Case(OURS.name, waiters, 100, lists=waiters, interval=interval, **rounds)
    if quick:
        return
    for spread, tls in ((True, False), (False, True)):
        for name in ("faraday", "dbt-cloud"):
            yield Case(name, 500, 100, interval=3.0, spread=spread, tls=tls)
    yield Case(OURS.name, 500, 5, lists=500, interval=3.0, spread=True)
    yield Case(OURS.name, 500, 5, lists=500, interval=3.0, tls=True)


def counted_lookups() -> list[str]:
    """Return a list that collects the ids of all Airflow connections that are looked up from now on."""
    from airflow.sdk import Connection
    from airflow.sdk.execution_time import context

    looked_up: list[str] = []
    original, original_async = context._get_connection, context._async_get_connection

    def get(conn_id: str) -> Connection:
        looked_up.append(conn_id)
        return original(conn_id)

    async def aget(conn_id: str) -> Connection:
        looked_up.append(conn_id)
        return await original_async(conn_id)

    context._get_connection, context._async_get_connection = get, aget
    return looked_up


async def ticks(seconds: float) -> list[float]:
    """Return the lag of each tick of a timer; a long block counts once for every tick that it delays."""
    clock = time.perf_counter
    lags: list[float] = []
    due = clock()
    end = due + seconds
    while due < end:
        due += TICK
        await asyncio.sleep(max(0.0, due - clock()))
        lags.append(max(0.0, clock() - due))
    return lags


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


async def _requests(counter: Counter, number: int) -> None:
    """Wait until the server has received this number of requests."""
    async with asyncio.timeout(120):
        while counter.ask()["requests"] < number:  # noqa: ASYNC110 (it happens in another process)
            await asyncio.sleep(0.05)


async def _first_event(subject: Subject, number: int, case: Case, wait: float = 0.0) -> Any:
    await asyncio.sleep(wait)
    trigger = subject.trigger(number, case.size, case.interval)
    async for event in trigger.run():
        return event.payload
    return None


async def _measure(case: Case, memory: int, control_port: int) -> dict[str, Any]:
    subject = SUBJECTS[case.subject] if case.changing else UNCHANGED
    counter = Counter(control_port)
    looked_up = counted_lookups()
    step = case.interval / case.waiters if case.spread else 0.0
    begun = counter.ask()["requests"]
    tasks = []
    if case.spread:
        # The first poll in a process takes longest. It would delay other triggers' starts and bunch them.
        tasks.append(asyncio.create_task(_first_event(subject, 0, case)))
        await _requests(counter, begun + 1)
        await asyncio.sleep(1)
        begun = counter.ask()["requests"]
    tasks += [
        asyncio.create_task(_first_event(subject, number % case.lists, case, number * step))
        for number in range(len(tasks), case.waiters)
    ]
    # Skip the first poll, which includes imports and new TCP connections, and start in the pause after it.
    expected = case.lists if case.subject == OURS.name else case.waiters
    await _requests(counter, begun + expected)
    await asyncio.sleep(case.interval / 2)
    cold_lookups = len(looked_up)

    before, cpu, at = counter.ask(), time.process_time(), time.perf_counter()
    await asyncio.sleep(case.cpu_rounds * case.interval)
    cpu, elapsed, after = time.process_time() - cpu, time.perf_counter() - at, counter.ask()
    lookups = len(looked_up) - cold_lookups
    lags = await ticks(case.lag_rounds * case.interval)
    memory = psutil.Process().memory_info().rss - memory

    if ended := [task for task in tasks if task.done()]:
        raise RuntimeError(f"{case}: {len(ended)} triggers ended early, the first with {ended[0].result()}")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    requests = after["requests"] - before["requests"]
    rounds = requests / expected
    intervals = elapsed / case.interval
    return {
        "polls": requests,
        # Slow polls stretch a peer's interval, so count per round: every waiter gets one update.
        "cpu_ms_per_interval": 1000 * cpu / rounds,
        "cpu_ms_per_waiter_and_interval": 1000 * cpu / rounds / case.waiters,
        "cpu_ms_per_poll": 1000 * cpu / requests,
        "cpu_share": cpu / elapsed,
        "requests_per_interval": requests / intervals,
        "connections_per_interval": (after["connections"] - before["connections"]) / intervals,
        "lookups_per_interval": lookups / intervals,
        "lookups_to_start": cold_lookups,
        "lag_ms_p50": 1000 * percentile(lags, 0.5),
        "lag_ms_p99": 1000 * percentile(lags, 0.99),
        "lag_ms_max": 1000 * max(lags),
        "memory_mb": memory / 1e6,
    }


async def _ready_to_event(name: str, interval: float, waiters: int, control_port: int) -> dict[str, Any]:
    """Make the waiters' lists ready, spread evenly between two polls, and time the events."""
    case = Case(name, waiters, size=100, lists=waiters, interval=interval)
    subject = SUBJECTS[name]
    counter = Counter(control_port)
    counted_lookups()
    chance = random.Random(3)
    first = 100_000 * int(interval)  # lists that no other measurement has made ready
    delays: list[float] = []

    async def one(number: int, phase: float) -> None:
        start = chance.uniform(0, interval)
        task = asyncio.create_task(_first_event(subject, number, case, start))
        await asyncio.sleep(start + (2 + phase) * interval)
        at = counter.ask([subject.path(number, case.size)])["at"]
        await task
        delays.append(time.time() - at)

    await asyncio.gather(*(one(first + number, number / waiters) for number in range(waiters)))
    return {
        "interval": interval,
        "waiters": waiters,
        "median_s": statistics.median(delays),
        "p90_s": percentile(delays, 0.9),
        "max_s": max(delays),
    }


async def _all_to_event(name: str, interval: float, waiters: int, control_port: int) -> dict[str, Any]:
    """Make the list ready that all triggers wait for, and time the last event."""
    case = Case(name, waiters, size=100, interval=interval)
    subject = SUBJECTS[name]
    counter = Counter(control_port)
    tasks = [asyncio.create_task(_first_event(subject, 2_000_000, case)) for _ in range(waiters)]
    await asyncio.sleep(2.5 * interval)
    at = counter.ask([subject.path(2_000_000, case.size)])["at"]
    await asyncio.gather(*tasks)
    return {"interval": interval, "waiters": waiters, "last_s": time.time() - at}


async def _large_list(size: int, polls: int, control_port: int) -> dict[str, Any]:
    """Poll one list of ``size`` datasets, and measure how long that blocks the event loop."""
    interval = 2.0
    case = Case(OURS.name, 1, size=size, interval=interval)
    counter = Counter(control_port)
    process = psutil.Process()
    task = asyncio.create_task(_first_event(SUBJECTS[OURS.name], 0, case))
    begun = counter.ask()["requests"]
    await _requests(counter, begun + 1)
    await asyncio.sleep(interval / 2)
    before, cpu, memory = counter.ask(), time.process_time(), process.memory_info().rss
    lags = await ticks(polls * interval)
    cpu, after = time.process_time() - cpu, counter.ask()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    done = after["requests"] - before["requests"]
    return {
        "datasets": size,
        "megabytes": (after["bytes_sent"] - before["bytes_sent"]) / 1e6 / max(done, 1),
        "polls": done,
        "cpu_ms_per_poll": 1000 * cpu / max(done, 1),
        "lag_ms_p99": 1000 * percentile(lags, 0.99),
        "lag_ms_max": 1000 * max(lags),
        "rss_mb": memory / 1e6,
    }


async def _upstream(waiters: int, polls: int, control_port: int) -> dict[str, Any]:
    """Wait for 20 targets and everything upstream, and measure how long that blocks the event loop."""
    interval = 3.0
    counter = Counter(control_port)
    counted_lookups()

    async def wait(number: int) -> None:
        async for event in upstream(number, interval).run():
            raise RuntimeError(f"A trigger ended: {event.payload}")

    begun = counter.ask()["requests"]
    tasks = [asyncio.create_task(wait(number)) for number in range(waiters)]
    await _requests(counter, begun + 4)
    await asyncio.sleep(interval / 2)
    before, cpu = counter.ask(), time.process_time()
    await asyncio.sleep(polls * interval)
    cpu, after = time.process_time() - cpu, counter.ask()
    lags = await ticks(polls * interval)
    for task in tasks:
        task.cancel()
    if errors := [each for each in await asyncio.gather(*tasks, return_exceptions=True) if str(each)]:
        raise RuntimeError(f"{len(errors)} triggers failed, the first with {errors[0]!r}")
    return {
        "waiters": waiters,
        "interval": interval,
        "requests_per_interval": (after["requests"] - before["requests"]) / polls,
        "cpu_ms_per_interval": 1000 * cpu / polls,
        "lag_ms_p99": 1000 * percentile(lags, 0.99),
        "lag_ms_max": 1000 * max(lags),
    }


async def _unlike(waiters: int, changing: bool, rounds: int, control_port: int) -> dict[str, Any]:
    """Wait for one list of 100 datasets with criteria that all differ, and time how they are judged."""
    from airflow_provider_faraday.waiting.feed import Poll

    interval = 4.0
    counter = Counter(control_port)
    counted_lookups()
    clock = time.perf_counter
    judged: list[float] = []
    verdict = Poll.verdict

    def timed(self: Any, *arguments: Any) -> Any:
        result = verdict(self, *arguments)
        judged.append(clock())
        return result

    Poll.verdict = timed  # type: ignore[method-assign]

    async def wait(number: int) -> None:
        async for event in unlike(number, 100, interval, changing=changing).run():
            raise RuntimeError(f"A trigger ended: {event.payload}")

    await asyncio.to_thread(__import__, "airflow_provider_faraday.waiting.deferred")
    memory = psutil.Process().memory_info().rss
    tasks = [asyncio.create_task(wait(number)) for number in range(waiters)]
    while len(judged) < waiters:  # noqa: ASYNC110 (it happens in other tasks)
        await asyncio.sleep(0.05)
    await asyncio.sleep(interval / 2)
    memory = psutil.Process().memory_info().rss - memory
    judged.clear()
    before, cpu = counter.ask(), time.process_time()
    await asyncio.sleep(rounds * interval)
    cpu, after = time.process_time() - cpu, counter.ask()
    seconds = [0.0]
    # Each round's judgements lie close together, and far from the next round's.
    for earlier, later in itertools.pairwise(judged):
        seconds = [*seconds, 0.0] if later - earlier > 1 else [*seconds[:-1], seconds[-1] + later - earlier]
    count = len(judged) / rounds
    lags = await ticks(rounds * interval)
    for task in tasks:
        task.cancel()
    if errors := [each for each in await asyncio.gather(*tasks, return_exceptions=True) if str(each)]:
        raise RuntimeError(f"{len(errors)} triggers failed, the first with {errors[0]!r}")
    return {
        "waiters": waiters,
        "changing": changing,
        "interval": interval,
        "requests_per_interval": (after["requests"] - before["requests"]) / rounds,
        "judged_per_interval": count,
        "seconds_to_judge": max(seconds),
        "cpu_ms_per_interval": 1000 * cpu / rounds,
        "lag_ms_p99": 1000 * percentile(lags, 0.99),
        "lag_ms_max": 1000 * max(lags),
        "kb_per_waiter": memory / waiters / 1000,
    }


def _in_child(tls: bool, subject: Subject, work: Any, *arguments: Any) -> Any:
    ports = json.loads(os.environ["BENCH_PORTS"])
    if work is _measure:
        arguments += (psutil.Process().memory_info().rss,)  # before the provider is imported
    os.environ.update(connections(ports[1 if tls else 0], tls=tls))
    (subject.tls if tls else subject.plain_http)(ports[1 if tls else 0])
    with contextlib.redirect_stdout(sys.stderr):
        return asyncio.run(work(*arguments, ports[2]))


def main(quick: bool) -> None:
    """Run all cases, and print one JSON object per line."""
    # A triggerer has loaded these before its first trigger.
    from airflow.sdk import BaseOperator, BaseSensorOperator  # noqa: F401
    from airflow.sdk.execution_time import context  # noqa: F401
    from airflow.triggers.base import BaseTrigger  # noqa: F401

    gc.freeze()

    def output(kind: str, **result: Any) -> None:
        print(json.dumps({"kind": kind, **result}), flush=True)

    for case in cases(quick):
        result = forked(_in_child, case.tls, SUBJECTS[case.subject], _measure, case)
        output("waiting", **asdict(case), **result)
    for interval in (1.0,) if quick else (2.0, 5.0):
        for subject in SUBJECTS.values():
            if (quick or interval > 2.0) and subject.name not in ("faraday", "dbt-cloud"):
                continue
            result = forked(_in_child, False, subject, _ready_to_event, subject.name, interval, 40)
            output("ready_to_event", subject=subject.name, **result)
    for subject in SUBJECTS.values():
        if quick and subject.name not in ("faraday", "dbt-cloud"):
            continue
        result = forked(_in_child, False, subject, _all_to_event, subject.name, 2.0, 100 if quick else 500)
        output("all_to_event", subject=subject.name, **result)
    for size in (10_000,) if quick else (1000, 10_000):
        result = forked(_in_child, False, OURS, _large_list, size, 1 if quick else 5)
        output("large_list", subject=OURS.name, **result)
    for changing in (False, True):
        waiters, rounds = (500, 1) if quick else (10_000, 4)
        result = forked(_in_child, False, OURS, _unlike, waiters, changing, rounds)
        output("unlike", subject=OURS.name, **result)
    result = forked(_in_child, False, OURS, _upstream, 100 if quick else 1000, 1 if quick else 4)
    output("upstream", subject=OURS.name, **result)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
