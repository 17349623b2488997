"""The builds that a watcher has announced, kept in the state that Airflow 3.3 and later store for assets."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.api.updates import Mark, Marks, Updates, marks_of_all, merge_marks
from airflow_provider_faraday.waiting.source import Source

KEY = "airflow-provider-faraday"
"""The prefix of our keys in the state store."""

WEBHOOK_KEY = f"{KEY}.webhook"
"""The key under which a webhook keeps the mark of the build that it has announced, for all watchers."""

CONFIRM_SECONDS = 5.0
"""How long after its event was yielded a build is recorded as announced.

Airflow's triggerer sends events to be stored about once a second, and drops the rest when it stops.
"""

RETRY_SECONDS = 10.0
"""How long to wait before state that could not be read or written is requested again."""

WEBHOOK_SECONDS = 5.0
"""How long to wait for the builds that webhooks have announced."""


class Record:
    """What a watcher keeps in the state of its assets: the builds that it has announced, and its problem.

    :param states: the state store of each asset, by the asset's name; empty if Airflow keeps none.
    :param source: what it watches.
    :param events: its event settings. Each watcher has keys of its own, so that two watchers of one asset do
        not overwrite each other.
    :param log: the trigger's logger.
    :ivar marks: the announced builds and failures.
    """

    def __init__(
        self, states: Mapping[str, Any], source: Source, events: Mapping[str, bool], log: Any
    ) -> None:
        # The interval and the Airflow connection may change without losing the announced builds.
        # A new event setting must be left out while it has its default value: otherwise, all lose theirs.
        watcher = {**source.as_json, "resource_ids": source.ids and sorted(source.ids), **events}
        digest = hashlib.sha256(json.dumps(watcher, sort_keys=True).encode()).hexdigest()[:12]
        # The ".0" is from when a watcher stored several values.
        self._marks_key, self._problem_key = f"{KEY}.{digest}.0", f"{KEY}.{digest}.problem"
        self.marks: dict[str, Mark] = {}
        self._states = states
        self._ids = source.ids
        self._log = log
        self._values: dict[str, Any] = {self._marks_key: {}, self._problem_key: None}
        # Only as far as they are known: keys may be absent.
        self._stored: dict[str, dict[str, Any]] = {asset: {} for asset in states}
        self._warned: set[str] = set()
        self._has_events = False

    async def load(self) -> None:
        """Read the builds that an earlier process announced. Retry until that succeeds, to miss no build."""
        for asset in self._states:
            stored = self._stored[asset][self._marks_key] = await self._load(asset)
            self.marks = merge_marks(self.marks, stored)
        self._values[self._marks_key] = dict(self.marks)

    async def _load(self, asset: str) -> dict[str, Mark]:
        while True:
            try:
                stored = await self._states[asset].aget(self._marks_key)
                return msgspec.convert(stored or {}, dict[str, Mark])
            except msgspec.ValidationError as error:
                text = "The state '%s' of asset '%s' is not valid: %s"
                self._log.warning(text, self._marks_key, asset, error)
                return {}
            except Exception as error:  # whatever Airflow's API or a state backend raises
                self._warn(asset, error)
            await asyncio.sleep(RETRY_SECONDS)

    async def load_webhooks(self) -> bool:
        """Add the builds that webhooks have announced to the marks. Return whether there are any."""
        try:
            # Of polls that arrive meanwhile, only the last one is evaluated.
            async with asyncio.timeout(WEBHOOK_SECONDS):
                stored = [
                    msgspec.convert(await state.aget(WEBHOOK_KEY) or {}, dict[str, Mark])
                    for state in self._states.values()
                ]
        except Exception as error:  # whatever Airflow's API or a state backend raises
            self._log.warning("Could not read webhook announcements. %r", error)
            return False
        # An event goes to all assets of the watcher. Those that no webhook has reached still need it.
        announced = marks_of_all(stored)
        self.marks = merge_marks(self.marks, announced)
        return bool(announced)

    def announce(self, updates: Updates) -> None:
        """Keep the marks of a poll whose events were just yielded."""
        # A watcher by id never forgets its own marks. In a list, those of deleted resources would pile up.
        kept: Marks = {} if self._ids is None else self._values[self._marks_key]
        self._values[self._marks_key] = {**kept, **updates.marks}
        # A resource that is gone keeps its mark in this process, in case it comes back.
        self.marks.update(updates.marks)
        self._has_events = self._has_events or bool(updates.events)

    def report(self, problem: str | None) -> None:
        """Keep why the watcher fails; None if it does not."""
        self._values[self._problem_key] = problem

    async def save(self) -> None:
        """Write the marks and the problem to the state of each asset, until all of them have these.

        If the triggerer stops before, the builds are announced again.
        """
        while not self._is_saved:
            values, has_events = dict(self._values), self._has_events
            self._has_events = False
            await asyncio.gather(*(self._save(asset, values, has_events) for asset in self._states))
            if not self._is_saved:
                await asyncio.sleep(RETRY_SECONDS)

    async def _save(self, asset: str, values: dict[str, Any], has_events: bool) -> None:
        """Write values to the state of an asset, after Airflow has stored the events that precede them.

        The triggerer responds to requests in order. The first response proves that it was not stuck when the
        events were yielded, the second that it has processed what was sent in between, including the events.
        While it is stuck or shutting down, it does not respond.
        """
        state, stored = self._states[asset], self._stored[asset]
        if stored == values:
            return
        try:
            if has_events:
                await state.aget(self._marks_key)
                await asyncio.sleep(CONFIRM_SECONDS)
                # Between two deliveries of events, the triggerer lets the event loop turn up to twice per
                # trigger. A third turn is to be on the safe side.
                for _ in range(3 * len(asyncio.all_tasks())):
                    await asyncio.sleep(0)
                await state.aget(self._marks_key)
            for key, value in values.items():
                if key not in stored or stored[key] != value:
                    await (state.adelete(key) if value is None else state.aset(key, value))
                    stored[key] = value
            self._warned.discard(asset)
        except Exception as error:  # whatever Airflow's API or a state backend raises
            self._has_events = self._has_events or has_events
            self._warn(asset, error)

    @property
    def _is_saved(self) -> bool:
        return all(stored == self._values for stored in self._stored.values())

    def _warn(self, asset: str, error: Exception) -> None:
        """Log a failure once, until the state is written again."""
        if asset not in self._warned:
            self._warned.add(asset)
            text = one_line(f"{type(error).__name__}: {error}")
            self._log.warning("The state of asset '%s' cannot be read or written. Retrying. %s", asset, text)
