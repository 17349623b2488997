"""Measure waiting: many triggers in one event loop, each case in a forked process."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import server
import triggers
from forked import forked

TICK = 0.01
INTERVAL = 3.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One measurement.

    :param trigger: makes each trigger.
    :param polls: the number of requests with which every waiter is served once.
    :param interval: seconds between polls.
    :param cpu_rounds: how many intervals CPU time is measured for.
    :param lag_rounds: after that, how many intervals lag is measured for. Measuring it takes CPU time.
    :param repeated: whether each run of the benchmark measures this, not only the first.
    """

    name: str
    trigger: Callable[[int, float], Any]
    waiters: int
    polls: int
    interval: float = INTERVAL
    cpu_rounds: int = 3
    lag_rounds: int = 0
    repeated: bool = True


# What is compared is measured one right after the other.
CASES = (
    Case(name="500 dbt jobs", trigger=triggers.dbt_job, waiters=500, polls=500, lag_rounds=2),
    Case(name="500 own lists", trigger=triggers.own_list, waiters=500, polls=500, lag_rounds=2),
    Case(name="500 on one list", trigger=triggers.one_list, waiters=500, polls=1),
    Case(name="one dbt job", trigger=triggers.dbt_job, waiters=1, polls=1, interval=1.0, cpu_rounds=6),
    Case(name="one large list", trigger=triggers.large_list, waiters=1, polls=1, interval=1.0, cpu_rounds=6),
    Case(name="unlike criteria", trigger=triggers.unlike, waiters=10_000, polls=1, repeated=False),
    Case(
        name="unlike criteria, changing",
        trigger=triggers.unlike_changing,
        waiters=10_000,
        polls=1,
        cpu_rounds=0,
        lag_rounds=3,
    ),
    Case(name="graph", trigger=triggers.target, waiters=1_000, polls=2, cpu_rounds=2, lag_rounds=2),
    Case(
        name="graph, 400 times",
        trigger=triggers.target_after_times,
        waiters=1_000,
        polls=2,
        cpu_rounds=0,
        lag_rounds=2,
    ),
)


def quick_version(case: Case) -> Case:
    """Return a case with a tenth of the waiters and short intervals."""
    waiters = max(1, case.waiters // 10)
    polls = waiters if case.polls == case.waiters else case.polls
    return replace(case, waiters=waiters, polls=polls, interval=0.25, cpu_rounds=2, lag_rounds=2)


def measure(case: Case, port: int) -> dict[str, float]:
    """Measure a case in this process."""
    os.environ.update(triggers.connections(port))
    if case.trigger is triggers.dbt_job:
        triggers.make_dbt_use_plain_http()
    return asyncio.run(_measure(case))


async def _measure(case: Case) -> dict[str, float]:
    begun = server.requests()
    tasks = [asyncio.create_task(_run(case.trigger(number, case.interval))) for number in range(case.waiters)]
    # Skip two rounds of polls, which include imports and new TCP connections. Start in the pause after them.
    await _requests(begun + 2 * case.polls)
    await asyncio.sleep(case.interval / 2)
    results = await _cpu(case) if case.cpu_rounds else {}
    if case.lag_rounds:
        results |= await _lag(case)
    ended = [task.exception() for task in tasks if task.done()]
    if ended:
        raise RuntimeError(f"{len(ended)} triggers of {case} ended.") from ended[0]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return results


async def _requests(number: int) -> None:
    """Wait until the server has received so many requests."""
    async with asyncio.timeout(120):
        while server.requests() < number:  # noqa: ASYNC110 (it happens in another process)
            await asyncio.sleep(0.05)


async def _run(trigger: Any) -> None:
    async for event in trigger.run():
        raise RuntimeError(f"Unexpected event: {event.payload}")


async def _cpu(case: Case) -> dict[str, float]:
    before, cpu, began = server.requests(), time.process_time(), time.perf_counter()
    await asyncio.sleep(case.cpu_rounds * case.interval)
    await _requests(before + case.polls)  # a busy machine may need longer
    milliseconds = 1000 * (time.process_time() - cpu)
    requests, seconds = server.requests() - before, time.perf_counter() - began
    return {
        "requests_per_interval": requests / seconds * case.interval,
        # Slow polls stretch the interval, so count per round of polls.
        "cpu_ms_per_interval": milliseconds / requests * case.polls,
        "cpu_ms_per_poll": milliseconds / requests,
    }


async def _lag(case: Case) -> dict[str, float]:
    verdicts = _times_of_verdicts() if case.trigger is triggers.unlike_changing else []
    lags = sorted(await _ticks(case.lag_rounds * case.interval))
    return {
        "lag_ms_p99": 1000 * lags[math.ceil(0.99 * len(lags)) - 1],
        "hold_ms": 1000 * lags[-1],
        "seconds_to_judge": _longest_burst(verdicts, case.interval / 3),
    }


async def _ticks(seconds: float) -> list[float]:
    """Return the lag of each tick of a timer. A long hold counts once for every tick that it delays."""
    clock = time.perf_counter
    lags: list[float] = []
    due = now = clock()
    end = now + seconds
    while now < end:
        await asyncio.sleep(due - now)
        now = clock()
        while due <= now:
            lags.append(now - due)
            due += TICK
    return lags


def _times_of_verdicts() -> list[float]:
    """Return a list that collects when waiters are judged, from now on."""
    from airflow_provider_faraday.waiting.feed import Poll

    times: list[float] = []
    verdict = Poll.verdict

    def timed(self: Any, *arguments: Any) -> Any:
        result = verdict(self, *arguments)
        times.append(time.perf_counter())
        return result

    Poll.verdict = timed  # type: ignore[method-assign]
    return times


def _longest_burst(times: list[float], pause: float) -> float:
    """Return the length of the longest burst of events, if there are longer pauses than this in between."""
    longest, began = 0.0, times[0] if times else 0.0
    for earlier, later in itertools.pairwise(times):
        if later - earlier > pause:
            began = later
        longest = max(longest, later - began)
    return longest


def main(quick: bool) -> None:
    """Measure all cases in turn, several times, and print one JSON object per measurement."""
    port = server.start()
    # A triggerer has loaded these before its first trigger.
    from airflow.sdk import BaseOperator, BaseSensorOperator  # noqa: F401
    from airflow.sdk.execution_time import context  # noqa: F401
    from airflow.triggers.base import BaseTrigger  # noqa: F401

    gc.freeze()
    for run in range(1 if quick else 3):
        for case in CASES:
            if run == 0 or case.repeated:
                results = forked(measure, quick_version(case) if quick else case, port)
                print(json.dumps({"case": case.name, **results}), flush=True)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
