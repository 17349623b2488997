"""One poll for all who wait: every trigger in the process that watches the same list shares it."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_faraday.api import calls
from airflow_provider_faraday.api.readiness import Criteria, DatasetState, Verdict, assess
from airflow_provider_faraday.api.responses import dataset_states
from airflow_provider_faraday.exceptions import (
    FaradayAuthenticationError,
    FaradayConfigurationError,
    FaradayConnectionError,
    FaradayError,
)
from airflow_provider_faraday.hooks.aiohttp_transport import AiohttpTransport
from airflow_provider_faraday.hooks.connection import client_config

if TYPE_CHECKING:
    from airflow_provider_faraday.api.config import ClientConfig

log = logging.getLogger(__name__)

SETTLE_SECONDS = 1.0
"""How long a waiter takes no poll after joining: Airflow 3.1 can fail a task whose trigger fires at once."""


WAITERS_AT_A_TIME = 2
"""How many waiters are woken before other work of the event loop gets its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is polled and how often; waiters whose watches are equal share a poll.

    :param faraday_conn_id: the Airflow connection.
    :param connection_id: UUID of a Faraday connection whose datasets are polled, or None.
    :param scope_id: UUID of a scope whose datasets are polled, or None; with neither, datasets by id.
    :param interval: seconds between the end of a poll and the next one.
    """

    faraday_conn_id: str
    connection_id: str | None = None
    scope_id: str | None = None
    interval: float

    def calls(self, ids: Iterable[str]) -> list[calls.ApiCall]:
        """Give the calls of one poll.

        :param ids: the datasets that are waited for by id.
        """
        if self.connection_id is not None:
            return [calls.connection_datasets(self.connection_id)]
        if self.scope_id is not None:
            return [calls.scope_datasets(self.scope_id)]
        return calls.datasets_by_id(ids)


@dataclass(slots=True)
class Poll:
    """What one poll brought: the datasets, or the error.

    :param began_at: the event loop's time when the first request was made.
    """

    began_at: float
    states: list[DatasetState] = field(default_factory=list)
    error: FaradayError | None = None
    _verdicts: dict[Criteria, Verdict] = field(default_factory=dict)
    _by_id: dict[str, list[DatasetState]] = field(default_factory=dict)

    def verdict(self, criteria: Criteria) -> Verdict:
        """Judge the datasets; waiters with equal criteria share the work."""
        if criteria not in self._verdicts:
            self._verdicts[criteria] = assess(self.of(criteria.wanted_ids), criteria)
        return self._verdicts[criteria]

    def of(self, ids: Iterable[str] | None) -> list[DatasetState]:
        """Give the datasets with these ids; all with None."""
        if ids is None:
            return self.states
        # Hundreds may each wait for one of hundreds: each looks at its own alone.
        if not self._by_id:
            for state in self.states:
                self._by_id.setdefault(state.id.lower(), []).append(state)
        return [state for id_ in ids for state in self._by_id.get(id_, ())]


class Waiter:
    """One trigger's part in a feed: it is given the polls that began after it had settled in."""

    def __init__(self, ids: tuple[str, ...], settled_at: float) -> None:
        self.ids = ids
        self._settled_at = settled_at
        self._next: asyncio.Future[Poll] = asyncio.get_running_loop().create_future()

    async def next_poll(self) -> Poll:
        """Wait for the next poll; of several that nobody took, the last."""
        try:
            return await self._next
        finally:
            self._next = asyncio.get_running_loop().create_future()

    def give(self, poll: Poll) -> None:
        """Hand over a poll."""
        if poll.began_at < self._settled_at:
            return
        if self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        self._next.set_result(poll)

    def break_off(self, bug: BaseException) -> None:
        """End the wait with what nobody expected, rather than never."""
        if not self._next.done():
            self._next.set_exception(bug)


class Feed:
    """Polls one list for as long as somebody waits for it."""

    def __init__(self, watch: Watch, first_pause: float) -> None:
        self.watch = watch
        self._first_pause = max(first_pause, SETTLE_SECONDS)
        self.waiters: dict[Waiter, None] = {}
        # In a context of its own: what it logs is no single task's, and goes to the triggerer's log.
        self.task = asyncio.get_running_loop().create_task(
            self._run(), name=f"faraday feed {watch}", context=Context()
        )
        self.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            for waiter in self.waiters:
                waiter.break_off(bug)

    async def _run(self) -> None:
        transport: AiohttpTransport | None = None
        loop = asyncio.get_running_loop()
        pause = self._first_pause
        try:
            while True:
                await asyncio.sleep(pause)
                pause = self.watch.interval
                poll = Poll(loop.time())
                try:
                    if transport is None:
                        transport = self._transport(await _look_up(self.watch.faraday_conn_id))
                    try:
                        poll.states = await self._poll(transport)
                    except FaradayAuthenticationError:
                        current = await _look_up(self.watch.faraday_conn_id)
                        if current.api_key == transport.config.api_key:
                            raise
                        log.info(
                            "The key in Airflow connection '%s' was replaced; using the new one.",
                            current.conn_id,
                        )
                        await transport.close()
                        transport = self._transport(current)
                        poll.states = await self._poll(transport)
                except FaradayError as error:
                    poll.error = error
                # A few at a time: each judges the poll by its own criteria when it wakes.
                for number, waiter in enumerate(list(self.waiters)):
                    waiter.give(poll)
                    if number % WAITERS_AT_A_TIME == WAITERS_AT_A_TIME - 1:
                        await asyncio.sleep(0)
        finally:
            if transport is not None:
                await transport.close()

    async def _poll(self, transport: AiohttpTransport) -> list[DatasetState]:
        wanted = list(dict.fromkeys(id_ for waiter in self.waiters for id_ in waiter.ids))
        states: list[DatasetState] = []
        for call in self.watch.calls(wanted):
            states += await transport.fetch(call, dataset_states)
        return states

    def _transport(self, config: ClientConfig) -> AiohttpTransport:
        return AiohttpTransport(config, keep_alive=2 * self.watch.interval + 60)


_feeds: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Watch, Feed]] = weakref.WeakKeyDictionary()


@asynccontextmanager
async def joined(watch: Watch, ids: tuple[str, ...] = (), *, soon: bool = False) -> AsyncIterator[Waiter]:
    """Join the feed of a watch, starting it for the first and ending it after the last.

    :param ids: the datasets that this waiter waits for by id.
    :param soon: whether a feed that starts with this waiter polls at once, and not first after an interval.
    """
    loop = asyncio.get_running_loop()
    feeds = _feeds.setdefault(loop, {})
    feed = feeds.get(watch)
    if feed is None or feed.task.done():
        feed = feeds[watch] = Feed(watch, first_pause=0.0 if soon else watch.interval)
    waiter = Waiter(ids, settled_at=loop.time() + SETTLE_SECONDS)
    feed.waiters[waiter] = None
    try:
        yield waiter
    finally:
        del feed.waiters[waiter]
        if not feed.waiters:
            if feeds.get(watch) is feed:
                del feeds[watch]
            feed.task.cancel()
            await asyncio.wait([feed.task])


async def _look_up(conn_id: str) -> ClientConfig:
    try:
        return client_config(await get_async_connection(conn_id))
    except AirflowNotFoundException:
        failure: FaradayError = FaradayConfigurationError(
            f"There is no Airflow connection '{conn_id}' any more. Add it again, and clear this task."
        )
    except FaradayError:
        raise
    except Exception as error:  # whatever a secrets backend or Airflow's API raises while it is away
        failure = FaradayConnectionError(
            f"Airflow connection '{conn_id}' could not be looked up: {type(error).__name__}.",
            request_sent=False,
        )
    raise failure
