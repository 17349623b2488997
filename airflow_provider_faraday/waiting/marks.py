"""The builds that a watcher has announced, kept in the state that Airflow 3.3 and later store for assets."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.api.updates import Mark, Marks, Updates, marks_of_all, merge_marks
from airflow_provider_faraday.compat import is_inactive_asset

KEY = "airflow-provider-faraday"
"""The prefix of our keys in the state store."""

WEBHOOK_KEY = f"{KEY}.webhook"
"""The key under which a webhook keeps the mark of the build that it has announced, for all watchers."""

CONFIRM_SECONDS = 5.0
"""How long after its event was yielded a build is recorded as announced.

Airflow's triggerer sends events to be stored about once a second, and drops the rest when it stops.
"""

RETRY_SECONDS = 10.0
"""How long to wait after a failure of the state store, because Airflow's own retries block the triggerer."""


class AssetStates:
    """The state stores of the assets that a watcher watches for.

    :param states: the state store of each asset, by the asset's name; empty if Airflow keeps none.
    :param watcher: what identifies the watcher. Each has keys of its own, so that two watchers of one asset
        do not overwrite each other.
    :param log: the trigger's logger.
    """

    def __init__(self, states: Mapping[str, Any], watcher: Mapping[str, Any], log: Any) -> None:
        self.states = states
        self.key = f"{KEY}.{hashlib.sha256(json.dumps(watcher, sort_keys=True).encode()).hexdigest()[:12]}"
        self.log = log
        self._warned: set[str] = set()

    async def attempt(self, asset: str, exchange: Awaitable[Any]) -> bool:
        """Read or write. Return whether that succeeded or is not needed. Log repeated failures once."""
        try:
            await exchange
        except Exception as error:  # whatever Airflow's API or a state backend raises
            self.warn(asset, error)
            return is_inactive_asset(error)  # there is nothing to write to then
        self._warned.discard(asset)
        return True

    def warn(self, asset: str, error: Exception) -> None:
        """Log a failure, unless the last one of the asset was logged."""
        if asset not in self._warned:
            self._warned.add(asset)
            text = one_line(f"{type(error).__name__}: {error}")
            self.log.warning("The state of asset '%s' cannot be read or written. Retrying. %s", asset, text)


class Record:
    """A value in the state of each asset of a watcher: the latest one that was set.

    It is written in the background, because Airflow's API may be slow, and polls go on.

    :param states: the state stores.
    :param name: ends the key.
    :param may_write: waits until a value may be written; returns whether to write it, or to try again later.
    :ivar written: the value in the state of each asset, as far as it is known.
    """

    def __init__(
        self, states: AssetStates, name: str, may_write: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        self.key = f"{states.key}.{name}"
        self.written: dict[str, Any] = {}
        self._states = states
        self._may_write = may_write
        self._value: Any = None
        self._writing: asyncio.Task[None] | None = None

    def set(self, value: Any) -> None:
        """Write a value, unless a later one replaces it before; None removes the key."""
        self._value = value
        is_writing = self._writing and not self._writing.done()
        if self._outdated and not is_writing:
            self._writing = asyncio.create_task(self._write())

    def close(self) -> None:
        """Drop what has not been written yet."""
        if self._writing:
            self._writing.cancel()

    @property
    def _outdated(self) -> list[str]:
        """The assets whose state does not have the value."""
        known = self.written
        return [asset for asset in self._states.states if asset not in known or known[asset] != self._value]

    async def _write(self) -> None:
        while assets := self._outdated:
            value = self._value
            done = self._may_write is None or await self._may_write()
            for asset in assets if done else ():
                state = self._states.states[asset]
                exchange = state.adelete(self.key) if value is None else state.aset(self.key, value)
                if await self._states.attempt(asset, exchange):
                    self.written[asset] = value
                else:
                    done = False  # still write the other assets
            if not done:
                await asyncio.sleep(RETRY_SECONDS)


class MarkStore:
    """The marks of one watcher: in memory, and in the state of each asset that it watches for.

    :param states: the state stores.
    :param ids: the resources that the watcher watches; None if those of a list.
    """

    def __init__(self, states: AssetStates, ids: tuple[str, ...] | None) -> None:
        self.marks: dict[str, Mark] = {}
        self._states = states
        self._ids = ids
        self._latest: Marks = {}
        self._yielded = self._confirmed = 0
        self._record = Record(states, "0", self._events_are_stored)

    async def load(self) -> None:
        """Read the builds that an earlier process announced. Retry until that succeeds, to miss no build."""
        for asset in self._states.states:
            stored = self._record.written[asset] = await self._read(asset)
            self.marks = merge_marks(self.marks, stored)
        self._latest = dict(self.marks)

    async def _read(self, asset: str) -> dict[str, Mark]:
        key = self._record.key
        while True:
            try:
                return msgspec.convert(await self._states.states[asset].aget(key) or {}, dict[str, Mark])
            except msgspec.ValidationError as error:
                text = "The state '%s' of asset '%s' is not valid: %s"
                self._states.log.warning(text, key, asset, error)
                return {}
            except Exception as error:  # whatever Airflow's API or a state backend raises
                self._states.warn(asset, error)
            await asyncio.sleep(RETRY_SECONDS)

    async def load_webhooks(self) -> bool:
        """Add the builds that webhooks have announced to the marks. Return whether there are any."""
        try:
            stored = [
                msgspec.convert(await state.aget(WEBHOOK_KEY) or {}, dict[str, Mark])
                for state in self._states.states.values()
            ]
        except Exception as error:  # whatever Airflow's API or a state backend raises
            self._states.log.warning("Could not read webhook announcements. %s", one_line(str(error)))
            return False
        # An event goes to all assets of the watcher. Those that no webhook has reached still need it.
        announced = marks_of_all(stored)
        self.marks = merge_marks(self.marks, announced)
        return bool(announced)

    def announce(self, updates: Updates) -> None:
        """Keep the marks of a poll whose events were just yielded. Record them later."""
        # A watcher by id never forgets its own marks. In a list, those of deleted resources would pile up.
        self._latest = updates.marks if self._ids is None else {**self._latest, **updates.marks}
        self._yielded += bool(updates.events)
        # A resource that is gone keeps its mark in this process, in case it comes back.
        self.marks.update(updates.marks)
        self._record.set(self._latest)

    def close(self) -> None:
        """Drop the marks that have not been recorded yet: these builds will be announced again."""
        self._record.close()

    async def _events_are_stored(self) -> bool:
        """Wait until Airflow has stored the events that were yielded before.

        The triggerer responds to requests in order. The first response proves that it was not stuck when the
        events were yielded, the second that it has processed what was sent in between, including the events.
        While it is stuck or shutting down, it does not respond.
        """
        yielded = self._yielded
        if yielded == self._confirmed:
            return True
        asset, state = next(iter(self._states.states.items()))
        if not await self._states.attempt(asset, state.aget(self._record.key)):
            return False
        await asyncio.sleep(CONFIRM_SECONDS)
        if not await self._states.attempt(asset, state.aget(self._record.key)):
            return False
        self._confirmed = yielded
        return True
