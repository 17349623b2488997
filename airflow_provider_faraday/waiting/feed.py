"""Feeds: one source, many subscribers. Triggers in a process that poll the same source share each poll."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

from airflow_provider_faraday.api import endpoints
from airflow_provider_faraday.api.endpoints import IDS_PER_REQUEST, Endpoint
from airflow_provider_faraday.api.errors import FaradayApiError, FaradayAuthenticationError, FaradayError
from airflow_provider_faraday.api.graph import Graph
from airflow_provider_faraday.api.readiness import Criteria, Verdict, assess
from airflow_provider_faraday.api.resources import ResourceType
from airflow_provider_faraday.api.responses import Remembering
from airflow_provider_faraday.api.retries import is_transient
from airflow_provider_faraday.api.states import ResourceState, decode_states
from airflow_provider_faraday.waiting.account import Account, accounts
from airflow_provider_faraday.waiting.source import Source

SETTLE_SECONDS = 1.0
"""How long a subscriber gets no poll: Airflow 3.1 can fail a task whose trigger fires right after
deferring."""

TICK_SECONDS = 0.1
"""Polls begin at multiples of this: those of several feeds cost less if they share the event loop's turns.
It is also the shortest pause between polls: Airflow allows a ``poke_interval`` of 0."""

VERDICTS = 8
"""How many verdicts of a poll are kept, for subscribers with equal criteria. Each may take kilobytes."""


@dataclass(frozen=True, kw_only=True)
class Poll:
    """The result of one poll, for all subscribers of a feed or for one.

    :param began_at: the event loop's time before the first request.
    :param now: the time of the response, by Faraday's clock.
    :param ids: the resources that it is about; None for those of a list.
    :param states: what Faraday returned.
    :param error: why the poll failed; None if it did not.
    :param graph: for a source that includes upstream resources.
    """

    resource_type: ResourceType
    began_at: float
    now: datetime
    ids: Collection[str] | None = None
    states: tuple[ResourceState, ...] = ()
    error: FaradayError | None = None
    graph: Graph | None = None
    _verdicts: list[tuple[Criteria, Verdict]] = field(default_factory=list)

    def of(self, ids: Collection[str]) -> Poll:
        """Return the part of the poll that is about these resources."""
        states = tuple(state for id_ in ids for state in self._by_id.get(id_, ()))
        return replace(self, ids=ids, states=states, _verdicts=[])

    @cached_property
    def _by_id(self) -> dict[str, list[ResourceState]]:
        by_id: dict[str, list[ResourceState]] = {}
        for state in self.states:
            by_id.setdefault(state.key, []).append(state)
        return by_id

    def is_unchanged_since(self, last: Poll) -> bool:
        """Return whether both succeeded, with the same result."""
        failed = self.error or last.error or (self.graph and self.graph.unclear)
        return not failed and self.states == last.states and self.graph == last.graph

    def verdict(self, criteria: Criteria) -> Verdict:
        """Evaluate the states. Subscribers of a list with equal criteria share the verdict.

        :raises FaradayError: if the poll failed. See :func:`~airflow_provider_faraday.api.readiness.assess`
            for others.
        """
        if self.error:
            # Without the frames of other subscribers, which would pile up.
            raise self.error.with_traceback(None)
        for known, verdict in self._verdicts:
            if known == criteria:
                return verdict
        verdict = assess(self.resource_type, self.states, criteria, self.ids, self.graph, now=self.now)
        if len(self._verdicts) < VERDICTS:
            self._verdicts.append((criteria, verdict))
        return verdict


class Subscriber:
    """A subscription to a feed.

    It receives polls that begin after :data:`SETTLE_SECONDS`, except unchanged ones.
    """

    def __init__(self, ids: tuple[str, ...] | None, starts_at: float) -> None:
        self.ids = ids
        self._starts_at = starts_at
        self._pending: asyncio.Queue[Poll | Exception] = asyncio.Queue(1)
        self._last: Poll | None = None
        self._deliver_after = math.inf

    async def next_poll(self, deliver_after: float = math.inf) -> Poll:
        """Wait for the next failed or changed poll. If several are pending, return the latest.

        :param deliver_after: the event loop's time after which unchanged polls are returned, too.
        :raises Exception: if the feed has a bug.
        """
        self._deliver_after = deliver_after
        pending = await self._pending.get()
        if isinstance(pending, Exception):
            raise pending
        return pending

    def offer(self, poll: Poll) -> bool:
        """Pass on a poll. Return whether that notifies the subscriber."""
        if poll.began_at < self._starts_at:
            return False
        last, self._last = self._last, poll
        if last and poll.began_at < self._deliver_after and poll.is_unchanged_since(last):
            return False
        self.notify(poll)
        return True

    def notify(self, pending: Poll | Exception) -> None:
        """Set what :meth:`next_poll` returns or raises."""
        if self._pending.full():
            self._pending.get_nowait()
        self._pending.put_nowait(pending)


class Feed:
    """Polls one source for its subscribers, for as long as it has any.

    :param source: without ids, because a feed requests the ids of all its subscribers together.
    :param interval: seconds between the end of a poll and the next one.
    """

    def __init__(self, account: Account, source: Source, interval: float, first_pause: float) -> None:
        self.subscribers: dict[Subscriber, None] = {}
        self._account = account
        self._source = source
        self._interval = interval
        self._ids: Counter[str] = Counter()
        self._decoders: dict[Endpoint, Remembering[list[ResourceState]]] = {}
        self._is_due = asyncio.Event()
        # Its own context, so that its log lines are not attributed to one task.
        self.task = asyncio.get_running_loop().create_task(
            self._run(SETTLE_SECONDS + first_pause), name=f"faraday feed {source.label}", context=Context()
        )

    def accepts(self, source: Source, interval: float) -> bool:
        """Return whether the feed polls for a source, and its ids fit into the feed's request."""
        if (source.without_ids, interval) != (self._source, self._interval):
            return False
        new = {*(source.ids or ())} - self._ids.keys()
        return not new or len(self._ids) + len(new) <= IDS_PER_REQUEST

    def add(self, subscriber: Subscriber) -> None:
        """Add a subscriber."""
        self.subscribers[subscriber] = None
        self._ids.update(subscriber.ids or ())

    def poll_at(self, time: float) -> None:
        """Poll at a time of the event loop's clock, besides the polls in each interval."""
        # Whole seconds, because many subscribers join together.
        asyncio.get_running_loop().call_at(math.ceil(time), self._is_due.set)

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a subscriber."""
        del self.subscribers[subscriber]
        self._ids -= Counter(subscriber.ids or ())

    async def _run(self, first_pause: float) -> None:
        await self._sleep(first_pause)
        while True:
            subscribers = list(self.subscribers)
            try:
                await self._poll_for(subscribers)
            except Exception as bug:  # ends each subscription with its traceback
                for subscriber in subscribers:
                    subscriber.notify(bug)
            await self._sleep(0.0 if self._source.include_upstream else self._interval)

    async def _poll_for(self, subscribers: list[Subscriber]) -> None:
        """Poll for all subscribers together, and again for each one if Faraday rejects their request."""
        is_by_id = self._source.ids is not None
        source = self._source._replace(ids=tuple(self._ids)) if is_by_id else self._source
        shared = await self._poll(source)
        if is_by_id and len(subscribers) > 1 and _is_refused(shared.error):
            for subscriber in subscribers:
                if subscriber in self.subscribers:
                    subscriber.offer(await self._poll(source._replace(ids=subscriber.ids)))
            return
        for subscriber in subscribers:
            if subscriber.offer(shared if subscriber.ids is None else shared.of(subscriber.ids)):
                # It evaluates the poll now, and other coroutines get their turn.
                await asyncio.sleep(0)

    async def _poll(self, source: Source) -> Poll:
        """Poll once.

        :param source: the feed's source, with the ids to request if it is by id.
        """
        clock = asyncio.get_running_loop().time
        began_at = clock()
        decoders = {}
        states: list[ResourceState] = []
        error = graph = sent_at = None
        try:
            for endpoint in source.endpoints():
                decode = self._decoders.get(endpoint) or Remembering(decode_states(source.type))
                decoders[endpoint] = decode
                seconds = self._account.longest_request(self._interval)
                fetched = await self._account.client.fetch(endpoint, decode, seconds=seconds)
                states += fetched.value
                sent_at = fetched.sent_at
            if source.include_upstream:
                waited = dict.fromkeys(state.key for state in states if not state.why_skipped)
                # After the list: an earlier graph may not show the latest change upstream.
                graph, sent_at = await self._account.graph(waited, after=clock())
        except FaradayError as failure:
            error = failure
        self._decoders = decoders
        return Poll(
            resource_type=source.type,
            began_at=began_at,
            now=sent_at or datetime.now(UTC),
            ids=source.ids,
            states=tuple(states),
            error=error,
            graph=graph,
        )

    async def _sleep(self, pause: float) -> None:
        """Sleep until the first tick after a pause, or until a poll is due."""
        loop = asyncio.get_running_loop()
        # Feeds that need the graph poll together, so that they share it.
        tick = max(TICK_SECONDS, self._interval) if self._source.include_upstream else TICK_SECONDS
        timer = loop.call_at((math.floor((loop.time() + pause) / tick) + 1) * tick, self._is_due.set)
        await self._is_due.wait()
        timer.cancel()
        self._is_due.clear()


def _is_refused(error: FaradayError | None) -> bool:
    """Return whether Faraday rejects a request permanently, possibly because of one of its ids."""
    if not isinstance(error, FaradayApiError) or isinstance(error, FaradayAuthenticationError):
        return False
    return error.path != endpoints.graph().path and not is_transient(error)


@asynccontextmanager
async def subscribe(
    faraday_conn_id: str, source: Source, interval: float, *, poll_now: bool = False
) -> AsyncIterator[Subscriber]:
    """Subscribe to the feed of a source, which starts with its first subscriber and ends with its last.

    :param interval: seconds between polls.
    :param poll_now: whether the subscriber gets a poll as soon as it may, not at some time within an interval
        from then.
    """
    now = asyncio.get_running_loop().time()
    account = accounts().get(faraday_conn_id) or Account(faraday_conn_id)
    accounts()[faraday_conn_id] = account
    account.joined_at = now
    feed: Feed | None = next((each for each in account.feeds if each.accepts(source, interval)), None)
    if feed is None:
        # Triggers start together when a triggerer does. Feeds that polled together would do so forever.
        spread = 0.0 if poll_now or source.include_upstream else random.uniform(0.0, interval)
        feed = Feed(account, source.without_ids, interval, spread)
        account.feeds.append(feed)
    elif poll_now:
        feed.poll_at(now + SETTLE_SECONDS)
    subscriber = Subscriber(source.ids, now + SETTLE_SECONDS)
    feed.add(subscriber)
    try:
        yield subscriber
    finally:
        feed.remove(subscriber)
        if not feed.subscribers:
            account.feeds.remove(feed)
            # Before the await, in which others may subscribe: not to an account that will be closed.
            if not account.feeds:
                del accounts()[faraday_conn_id]
            feed.task.cancel()
            try:
                await asyncio.wait([feed.task])
            finally:
                if not account.feeds:
                    await account.client.close()
