"""Watch resources for an asset: the loop of a watcher, and its failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_provider_faraday.api.errors import FaradayError
from airflow_provider_faraday.api.retries import is_transient
from airflow_provider_faraday.api.states import ResourceState
from airflow_provider_faraday.api.text import first_of, one_line
from airflow_provider_faraday.api.times import shown
from airflow_provider_faraday.api.updates import detect_updates
from airflow_provider_faraday.waiting.feed import subscribe
from airflow_provider_faraday.waiting.marks import Record
from airflow_provider_faraday.waiting.source import Source

LONGEST_PAUSE_SECONDS = 900.0
"""How long a watcher pauses at most after failures, unless its ``poke_interval`` is longer."""

FAILURES_TO_REPORT = 3
"""After how many failed polls in a row a watcher reports a transient error. Others are reported at once."""


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
                    poll = await subscriber.next_poll()
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


class Problems:
    """The problems of one watcher.

    :param source: what it watches.
    :param log: the trigger's logger.
    :ivar reported: the current problem in a sentence; None if there is none.
    """

    def __init__(self, source: Source, log: Any) -> None:
        self.reported: str | None = None
        self._source = source
        self._log = log
        self._missing: list[str] = []
        self._failing_since: datetime | None = None

    def poll_failed(self, error: FaradayError, failures: int, seconds: float) -> None:
        """Log the error of a poll, and report it if it is permanent or persists.

        :param failures: how many polls have failed in a row.
        :param seconds: until the next poll.
        """
        self._log.warning("Poll for updates failed, retrying in %.0f s: %s", seconds, one_line(str(error)))
        if failures >= FAILURES_TO_REPORT or not is_transient(error):
            # Without Faraday's error id, which differs each time.
            self._report(one_line(f"{error.args[0]} {getattr(error, 'remedy', '')}"))

    def polled(self, states: Iterable[ResourceState]) -> None:
        """Log and report which resources are missing.

        :param states: what a poll returned.
        """
        missing = sorted(set(self._source.ids or ()) - {state.key for state in states})
        if missing and missing != self._missing:
            kind = self._source.type.label.capitalize()
            self._log.warning("%s %s is watched, but Faraday does not return it.", kind, first_of(missing))
        self._missing = missing
        self._report(f"Faraday does not return {first_of(missing)}." if missing else None)

    def _report(self, problem: str | None) -> None:
        self._failing_since = (self._failing_since or datetime.now(UTC)) if problem else None
        since = self._failing_since
        self.reported = f"Failing since {shown(since)}: {problem}" if since else None
