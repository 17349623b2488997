"""Wait in the triggerer: the loop of a deferred task."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from airflow_provider_faraday.api.errors import FaradayError
from airflow_provider_faraday.api.readiness import Criteria
from airflow_provider_faraday.api.retries import is_transient
from airflow_provider_faraday.waiting.events import Errored, Event, Ready, TimedOut, to_payload
from airflow_provider_faraday.waiting.feed import Poll, subscribe
from airflow_provider_faraday.waiting.progress import Progress, failed
from airflow_provider_faraday.waiting.source import Source


async def wait(
    faraday_conn_id: str,
    source: dict[str, Any],
    criteria: dict[str, Any],
    poke_interval: float,
    deadline: float,
    log: Any,
) -> dict[str, Any]:
    """Wait until all resources of a source are ready, and return the event that ends the wait.

    The arguments are those of a :class:`~airflow_provider_faraday.triggers.resources.ResourcesReadyTrigger`.
    """
    waited, wanted = Source.from_json(source), Criteria.from_json(criteria)
    clock = asyncio.get_running_loop().time
    ends_at = clock() + max(0.0, deadline - time.time())
    progress = Progress(log, waited)
    event: Event | None = None
    async with subscribe(faraday_conn_id, waited, poke_interval) as subscriber:
        while event is None:
            # After the deadline, the next poll decides, even if it is unchanged.
            poll = await subscriber.next_poll(deliver_after=min(ends_at, progress.changes_at))
            event = _judged(poll, waited, wanted, deadline, progress)
            if event is None and clock() > ends_at:
                event = TimedOut(progress.pending or waited.label)
    # Not logged here: the resumed task does that, and a triggerer's log is slow.
    return to_payload(event)


def _judged(
    poll: Poll, source: Source, criteria: Criteria, deadline: float, progress: Progress
) -> Event | None:
    """Return the event with which a poll ends the wait; None if the wait goes on.

    Do not keep the verdict: thousands of waits with a hundred findings each would slow down Python's garbage
    collector, which blocks the event loop.
    """
    try:
        verdict = poll.verdict(criteria)
    except FaradayError as error:
        if not is_transient(error):
            return Errored.from_error(error)
        progress.poll_failed(error)
        return None
    if verdict.is_ready:
        return Ready(criteria, deadline)
    progress.polled(verdict, poll.began_at)
    if verdict.problem:
        return failed(verdict.problem, source)
    return None
