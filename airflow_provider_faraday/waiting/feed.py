"""One poller, many subscribers: triggers in a process that poll the same source share each poll."""

from __future__ import annotations

import asyncio
import math
import random
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass

from airflow_provider_faraday.waiting.poller import Poll, Poller
from airflow_provider_faraday.waiting.source import Source

SETTLE_SECONDS = 1.0
"""How long a subscriber gets no poll: Airflow 3.1 can fail a task whose trigger fires right after
deferring."""

TICK_SECONDS = 0.1
"""Polls begin at multiples of this: those of several feeds cost less if they share the event loop's turns.
It is also the shortest pause between polls: Airflow allows a ``poke_interval`` of 0."""

SUBSCRIBERS_AT_A_TIME = 25
"""How many subscribers are woken before the event loop gets to do other work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedKey:
    """What to poll and how often. Subscribers with equal keys share a feed.

    :param source: without ids, since a feed requests the ids of all its subscribers together. None for all
        sources that include what is upstream: one graph serves them all.
    :param interval: seconds between the end of a poll and the next one.
    """

    faraday_conn_id: str
    source: Source | None
    interval: float


class Subscriber:
    """A subscription to a feed.

    It receives the polls that begin at least :data:`SETTLE_SECONDS` later, except those that bring nothing
    new.
    """

    def __init__(self, source: Source, settled_at: float) -> None:
        self.source = source.without_ids
        self.ids = source.ids or ()
        self._settled_at = settled_at
        self._changed = asyncio.Event()
        self._poll: Poll | None = None
        self._last: Poll | None = None
        self._again_at = math.inf
        self._bug: BaseException | None = None

    async def next_poll(self, again_at: float = math.inf) -> Poll:
        """Wait for the next poll that failed or brings something new; the latest if several are pending.

        :param again_at: the event loop's time from which on any poll will do.
        :raises BaseException: whatever ended the feed unexpectedly.
        """
        self._again_at = again_at
        while True:
            await self._changed.wait()
            if self._bug is not None:
                raise self._bug
            self._changed.clear()
            if self._poll is not None:
                poll, self._poll = self._poll, None
                return poll

    def deliver(self, poll: Poll) -> bool:
        """Pass on a poll. Return whether that wakes the subscriber."""
        if poll.began_at < self._settled_at:
            return False
        last, self._last = self._last, poll
        if last and poll.began_at < self._again_at and not self._is_new(poll, last):
            return False
        self._poll = poll
        self._changed.set()
        return True

    def _is_new(self, poll: Poll, last: Poll) -> bool:
        if poll is last:
            return False
        # In a feed by id, the resources of other subscribers come, go and fail.
        return not self.ids or not poll.brings_nothing_new_about(self.ids, last)

    def fail(self, bug: BaseException) -> None:
        """End the wait with an unexpected exception, also if a poll has not been taken yet."""
        self._bug = bug
        self._changed.set()


class Feed:
    """Polls the sources of its subscribers, for as long as it has any."""

    def __init__(self, key: FeedKey, first_pause: float) -> None:
        self.key = key
        self.subscribers: dict[Subscriber, None] = {}
        self._wanted: dict[Source, list[str]] | None = None
        self._first_pause = SETTLE_SECONDS + first_pause
        # In a context of its own: what it logs belongs to no single task, but to the triggerer's log.
        self.task = asyncio.get_running_loop().create_task(
            self._run(), name=f"faraday feed {key}", context=Context()
        )
        self.task.add_done_callback(self._ended)

    async def _run(self) -> None:
        poller = Poller(self.key.faraday_conn_id)
        pause = self._first_pause
        try:
            while True:
                await _sleep_until_tick(pause)
                pause = self.key.interval
                await self._deliver(await poller.poll(self._sources()))
        finally:
            await poller.close()

    async def _deliver(self, polls: Mapping[Source, Poll]) -> None:
        woken = 0
        for subscriber in list(self.subscribers):
            poll = polls.get(subscriber.source)
            if poll and subscriber.deliver(poll):
                woken += 1
                if woken % SUBSCRIBERS_AT_A_TIME == 0:
                    await asyncio.sleep(0)

    def _sources(self) -> dict[Source, list[str]]:
        """Return what to poll, with the ids that any subscriber waits for."""
        if self._wanted is None:
            wanted: dict[Source, dict[str, None]] = {}
            for subscriber in self.subscribers:
                wanted.setdefault(subscriber.source, {}).update(dict.fromkeys(subscriber.ids))
            self._wanted = {source: list(ids) for source, ids in wanted.items()}
        return self._wanted

    def add(self, subscriber: Subscriber) -> None:
        """Add a subscriber."""
        self.subscribers[subscriber] = self._wanted = None

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a subscriber."""
        del self.subscribers[subscriber]
        self._wanted = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        # A feed is cancelled after its last subscriber has left. Any other end is unexpected.
        bug = None if task.cancelled() else task.exception()
        for subscriber in self.subscribers:
            subscriber.fail(bug or RuntimeError("The feed ended unexpectedly."))


async def _sleep_until_tick(pause: float) -> None:
    now = asyncio.get_running_loop().time()
    tick = math.floor((now + pause) / TICK_SECONDS) + 1
    await asyncio.sleep(tick * TICK_SECONDS - now)


_feeds: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[FeedKey, Feed]] = (
    weakref.WeakKeyDictionary()
)


@asynccontextmanager
async def subscribe(
    faraday_conn_id: str, source: Source, interval: float, *, poll_now: bool = False
) -> AsyncIterator[Subscriber]:
    """Subscribe to the feed of a source, which starts with its first subscriber and ends with its last.

    :param interval: seconds between polls.
    :param poll_now: whether a feed that starts with this subscriber polls as soon as it may, not at some time
        within an interval from then.
    """
    loop = asyncio.get_running_loop()
    feeds = _feeds.setdefault(loop, {})
    polled = None if source.include_upstream else source.without_ids
    key = FeedKey(faraday_conn_id=faraday_conn_id, source=polled, interval=interval)
    feed = feeds.get(key)
    if feed is None or feed.task.done():
        # Triggers start together when a triggerer does. Feeds that polled together would do so forever.
        feed = feeds[key] = Feed(key, first_pause=0.0 if poll_now else random.uniform(0.0, interval))
    subscriber = Subscriber(source, settled_at=loop.time() + SETTLE_SECONDS)
    feed.add(subscriber)
    try:
        yield subscriber
    finally:
        feed.remove(subscriber)
        if not feed.subscribers:
            if feeds.get(key) is feed:
                del feeds[key]
            feed.task.cancel()
            await asyncio.wait([feed.task])
