"""Watch resources for an asset: the loop of a watcher."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from airflow_provider_faraday.api.updates import detect_updates
from airflow_provider_faraday.waiting.feed import subscribe
from airflow_provider_faraday.waiting.marks import Record
from airflow_provider_faraday.waiting.problems import Problems
from airflow_provider_faraday.waiting.source import Source

LONGEST_PAUSE_SECONDS = 900.0
"""How long a watcher pauses at most after failures, unless its ``poke_interval`` is longer."""


async def watch(
    faraday_conn_id: str,
    source: Source,
    poke_interval: float,
    states: Mapping[str, Any],
    log: Any,
    **events: bool,
) -> AsyncGenerator[dict[str, Any], None]:
    """Run until cancelled, and yield the payload of an event for each build.

    :param poke_interval: seconds between polls.
    :param states: the state store of each asset, by the asset's name; empty if Airflow keeps none.
    :param events: ``on_error`` and ``emit_initial``, see
        :func:`~airflow_provider_faraday.api.updates.detect_updates`.
    """
    record, problems = Record(states, source, events, log), Problems(source, log)
    failures = 0
    saving: asyncio.Task[None] | None = None
    try:
        await record.load()
        while True:
            pause = 0.0
            async with subscribe(faraday_conn_id, source, poke_interval, poll_now=True) as subscriber:
                while not pause:
                    # What could not be saved is saved after the next poll, even if it is unchanged.
                    poll = await subscriber.next_poll(deliver_after=math.inf if record.is_saved else 0.0)
                    if poll.error:
                        failures += 1
                        pause = _pause_after(failures, poke_interval)
                        problems.poll_failed(poll.error, failures, pause or poke_interval)
                    else:
                        failures = 0
                        updates = detect_updates(poll.states, record.marks, **events)
                        # Read only when there is a build: a webhook may have announced it.
                        if updates.events and await record.load_webhooks():
                            updates = detect_updates(poll.states, record.marks, **events)
                        for payload in updates.events:
                            yield payload
                        # After the events: a build that is recorded first is lost if the triggerer stops.
                        record.announce(updates)
                        problems.polled(poll.states)
                    record.report(problems.reported)
                    if saving is None or saving.done():
                        # In the background: Airflow's API may be slow, and no build may be missed meanwhile.
                        saving = asyncio.create_task(record.save())
            # Unsubscribed during the pause, which does not delay other subscribers.
            await asyncio.sleep(pause)
    finally:
        if saving:
            saving.cancel()


def _pause_after(failures: int, poke_interval: float) -> float:
    """Return the seconds to pause after failures in a row: 0 after the first one, then exponentially more."""
    longest = max(LONGEST_PAUSE_SECONDS, poke_interval)
    return min(poke_interval * (2.0 ** min(failures - 1, 20) - 1), longest)
