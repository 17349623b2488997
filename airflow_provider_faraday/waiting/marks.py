"""What a watcher has announced, kept in the state that Airflow 3.3 and later store for assets."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.api.updates import Mark, Marks, marks_of_all, merge_marks
from airflow_provider_faraday.compat import is_inactive_asset

KEY = "airflow-provider-faraday"
"""The prefix of our keys in the state store."""

WEBHOOK_KEY = f"{KEY}.webhook"
"""The key under which a webhook keeps the mark of the build that it has announced, for all watchers."""

CONFIRM_SECONDS = 5.0
"""How long after its event was yielded a build is recorded as announced.

Airflow's triggerer sends events to be stored about once a second, and drops the rest when it stops.
"""

MARKS_PER_KEY = 500
"""How many marks are stored in one value: Airflow warns about values above 64 KB."""

RETRY_SECONDS = 10.0
"""How long to leave the state store alone after a failure: Airflow's own retries block its whole
triggerer."""


class MarkStore:
    """The marks of one watcher: in memory, and in the state of each asset that it watches for.

    Each watcher has keys of its own, so that two of them on one asset do not overwrite each other.

    :param states: the state store of each asset, by the asset's name; empty if Airflow keeps none.
    :param watcher: what identifies the watcher: what it watches, and for which events.
    :param log: the trigger's logger.
    """

    def __init__(self, states: Mapping[str, Any], watcher: Mapping[str, Any], log: Any) -> None:
        self.marks: dict[str, Mark] = {}
        identity = hashlib.sha256(json.dumps(watcher, sort_keys=True).encode()).hexdigest()[:12]
        self._key = f"{KEY}.{identity}"
        self._states = states
        self._log = log
        self._latest: dict[str, Mark] = {}
        self._stored: dict[tuple[str, str], Marks] = {}
        self._dirty = False
        self._yielded = self._settled = 0
        self._lock = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._warned: set[str] = set()
        self._problem: str | None = None
        self._failing_since: datetime | None = None
        self._shown: str | None = ""  # unknown: an earlier process may have shown a problem

    async def load(self) -> None:
        """Read what was announced before this process. Retry until it works: builds would be missed."""
        for asset, state in self._states.items():
            number, found = 0, True
            while found:
                key = f"{self._key}.{number}"
                try:
                    stored = msgspec.convert(await state.aget(key) or {}, dict[str, Mark])
                except msgspec.ValidationError as error:
                    self._log.warning("The state '%s' of asset '%s' is not valid: %s", key, asset, error)
                    stored = {}
                except Exception as error:  # whatever Airflow's API or a state backend raises
                    self._warn(asset, error)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                self.marks = merge_marks(self.marks, stored)
                self._stored[asset, key] = stored
                number, found = number + 1, bool(stored)
        self._latest = dict(self.marks)

    async def load_webhooks(self) -> bool:
        """Read what webhooks have announced, and take it over. Return whether there is anything."""
        try:
            stored = [
                msgspec.convert(await state.aget(WEBHOOK_KEY) or {}, dict[str, Mark])
                for state in self._states.values()
            ]
        except Exception as error:  # whatever Airflow's API or a state backend raises
            self._log.warning("What webhooks have announced cannot be read. %s", one_line(str(error)))
            return False
        # An event goes to all assets of the watcher. Those that no webhook has reached still need it.
        announced = marks_of_all(stored)
        self.marks = merge_marks(self.marks, announced)
        return bool(announced)

    def announce(self, marks: Marks, *, is_complete: bool, has_events: bool) -> None:
        """Keep the marks of a poll whose events were just yielded. Record them once Airflow has the events.

        :param is_complete: whether the poll covered every resource, so that missing ones no longer exist.
        :param has_events: whether there were events.
        """
        latest = dict(marks) if is_complete else {**self._latest, **marks}
        self._dirty = self._dirty or latest != self._latest
        self._latest = latest
        self._yielded += has_events
        # A resource that is gone keeps its mark in this process, in case it comes back.
        self.marks.update(marks)
        if self._dirty and self._states:
            self._start("record", self._record)

    def report(self, problem: str | None) -> None:
        """Show in the state of the assets why the watcher cannot watch; None if it can."""
        self._problem = problem
        self._failing_since = (self._failing_since or datetime.now(UTC)) if problem else None
        if problem != self._shown:
            self._start("report", self._report)

    def close(self) -> None:
        """Drop what has not been recorded yet: it will be announced again."""
        for task in self._tasks.values():
            task.cancel()

    def _start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # In the background: Airflow's API may be slow, and polls go on.
        running = self._tasks.get(name)
        if running is None or running.done():
            self._tasks[name] = asyncio.create_task(work())

    async def _report(self) -> None:
        key = f"{self._key}.problem"
        while (problem := self._problem) != self._shown:
            value = f"Failing since {self._failing_since:%F %TZ}: {problem}" if self._failing_since else ""
            async with self._lock:
                done = [
                    await self._attempt(asset, state.aset(key, value) if problem else state.adelete(key))
                    for asset, state in self._states.items()
                ]
            if all(done):
                self._shown = problem
            else:
                await asyncio.sleep(RETRY_SECONDS)

    async def _record(self) -> None:
        while self._dirty:
            self._dirty = False
            marks, yielded = self._latest, self._yielded
            if yielded > self._settled and await self._events_are_stored():
                self._settled = yielded
            if yielded > self._settled or not await self._write(marks):
                self._dirty = True
                await asyncio.sleep(RETRY_SECONDS)

    async def _write(self, marks: Marks) -> bool:
        """Write what has changed. Return whether all of it was written."""
        ids = sorted(marks)
        values: dict[str, dict[str, Mark]] = {
            f"{self._key}.{number}": {id_: marks[id_] for id_ in ids[start : start + MARKS_PER_KEY]}
            for number, start in enumerate(range(0, len(ids), MARKS_PER_KEY))
        }
        done = True
        async with self._lock:
            for asset, state in self._states.items():
                unused = [
                    key for stored_for, key in self._stored if stored_for == asset and key not in values
                ]
                for key, value in {**values, **{key: {} for key in unused}}.items():
                    if self._stored.get((asset, key), {}) == value:
                        continue
                    if await self._attempt(asset, state.aset(key, value)):
                        self._stored[asset, key] = value
                    else:
                        done = False
                        break  # the other assets are written all the same
        return done

    async def _events_are_stored(self) -> bool:
        """Wait until Airflow has stored the events that were yielded before.

        The triggerer responds to requests in order. The first response proves that it was not stuck when the
        events were yielded, the second that it has processed what was sent in between, including the events.
        While it is stuck or shutting down, it does not respond.
        """
        asset, state = next(iter(self._states.items()))
        key = f"{self._key}.0"
        if not await self._attempt(asset, state.aget(key)):
            return False
        await asyncio.sleep(CONFIRM_SECONDS)
        return await self._attempt(asset, state.aget(key))

    async def _attempt(self, asset: str, exchange: Awaitable[Any]) -> bool:
        try:
            await exchange
        except Exception as error:  # whatever Airflow's API or a state backend raises
            self._warn(asset, error)
            return is_inactive_asset(error)  # there is nothing to write to then
        self._warned.discard(asset)
        return True

    def _warn(self, asset: str, error: Exception) -> None:
        if asset not in self._warned:
            self._warned.add(asset)
            text = one_line(f"{type(error).__name__}: {error}")
            self._log.warning("The state of asset '%s' cannot be read or written. Retrying. %s", asset, text)
