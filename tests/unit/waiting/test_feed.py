"""Feeds: one poll for all subscribers of a source."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_faraday.api.readiness import Criteria
from airflow_provider_faraday.waiting import feed
from airflow_provider_faraday.waiting.feed import Poll, Subscriber
from airflow_provider_faraday.waiting.source import Source
from raw_server import answer
from support.accounts import Account, id_of
from support.graphs import node
from support.ids import SCOPE, WAREHOUSE
from support.triggers import polled, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("waiting")]

A, B, C = (id_of(13, number) for number in (1, 2, 3))


def subscribe(
    *ids: str, interval: float = 0.03, poll_now: bool = False, **source: Any
) -> AbstractAsyncContextManager[Subscriber]:
    """Subscribe to datasets by id, or to those of a Faraday connection."""
    source = source or ({"resource_ids": ids} if ids else {"connection_id": WAREHOUSE})
    parsed = Source.from_json({"resource_type": "datasets", **source})
    return feed.subscribe("faraday_default", parsed, interval, poll_now=poll_now)


@pytest.fixture
def account(serve: Callable[[Account], Account]) -> Account:
    return serve(Account(*(node(id_, "datasets") for id_ in (A, B, C)), waited="datasets"))


def change(account: Account, id_: str, **fields: Any) -> None:
    """Change a dataset from the next poll on."""
    account.resources = [each | (fields if each["id"] == id_ else {}) for each in account.resources]


async def test_different_sources_and_intervals_are_polled_separately(account: Account) -> None:
    """A watcher polls at once."""
    others: list[dict[str, Any]] = [{"connection_id": A}, {"scope_id": SCOPE}, {"interval": 3601}]
    async with AsyncExitStack() as stack:
        for fields in [{}, *others]:
            arguments = {"interval": 3600, "poll_now": True, **fields}
            await (await stack.enter_async_context(subscribe(**arguments))).next_poll()
    assert len(account.server.targets) == 4
    assert len(set(account.server.targets)) == 3


async def test_only_equal_criteria_share_a_verdict(account: Account) -> None:
    async with subscribe() as subscriber:
        poll = await subscriber.next_poll()
    early, late = (Criteria(updated_after=poll.now + timedelta(days=days)) for days in (-9999, 9))
    verdicts = [poll.verdict(criteria) for criteria in (early, late, early)]
    assert [verdict.is_ready for verdict in verdicts] == [True, False, True]
    assert verdicts[2] is verdicts[0]


async def test_ids_of_subscribers_are_requested_together(account: Account) -> None:
    async with subscribe(A, B) as one:
        async with subscribe(B, C) as other:
            await until(lambda: account.server.targets[-1:] == [f"/v1/datasets?ids={A}&ids={B}&ids={C}"])
            polls = await asyncio.gather(one.next_poll(), other.next_poll())
            assert [[state.id for state in poll.states] for poll in polls] == [[A, B], [B, C]]
            async with AsyncExitStack() as stack:
                others = (subscribe(id_of(14, number)) for number in range(247))
                await asyncio.gather(*map(stack.enter_async_context, others))
                await until(lambda: {target.count("ids=") for target in account.server.targets} >= {50, 100})
        await until(lambda: account.server.targets[-1] == f"/v1/datasets?ids={A}&ids={B}")
    assert max(target.count("ids=") for target in account.server.targets) == 100
    async with subscribe(C) as last:
        await last.next_poll()
    assert account.server.targets[-1] == f"/v1/datasets?ids={C}"


async def test_a_new_subscriber_gets_only_polls_that_begin_later(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.3)
    async with subscribe() as first:
        await first.next_poll()
        joined_at = asyncio.get_running_loop().time()
        async with subscribe() as late:
            poll: Poll = await late.next_poll()
            assert poll.began_at >= joined_at + 0.3


@pytest.mark.parametrize("interval", [0.0, 0.2])
async def test_polls_are_an_interval_or_a_tick_apart(account: Account, interval: float) -> None:
    async with subscribe(interval=interval) as subscriber:
        times = [(await subscriber.next_poll(0)).began_at for _ in range(6)]
    # A poll may begin late within its tick.
    assert times[-1] - times[0] >= 4 * max(interval, 0.01)


async def test_first_polls_of_feeds_that_start_together_are_spread_over_the_interval(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed.random, "uniform", random.Random(1).uniform)
    # Feeds that would poll earlier must not poll together as soon as they may.
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.5)

    async def first_poll(number: int) -> float:
        async with subscribe(connection_id=id_of(12, number), interval=1.0) as subscriber:
            return (await subscriber.next_poll()).began_at

    times = sorted(await asyncio.gather(*map(first_poll, range(30))))
    # Late starts only widen the span.
    assert times[-1] - times[0] >= 0.5
    assert times[13] - times[0] >= 0.1


async def test_subscribers_that_leave_or_are_cancelled_do_not_affect_others(account: Account) -> None:
    async def wait_forever() -> None:
        async with subscribe() as subscriber:
            while True:
                await subscriber.next_poll(0)

    cancelled = asyncio.create_task(wait_forever())
    async with subscribe() as staying:
        async with subscribe() as leaving:
            await leaving.next_poll()
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert cancelled.cancelled()
        for _ in range(3):
            await staying.next_poll(0)


@pytest.mark.parametrize("polls", [0, 1, 2])
async def test_a_feed_ends_with_its_last_subscriber(account: Account, polls: int) -> None:
    async with subscribe():
        # The last poll is in progress.
        await until(lambda: account.polls >= polls)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("faraday feed")]


async def test_a_bug_ends_each_subscription_and_a_new_one_starts_over(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(resource_type: Any) -> Any:
        raise ZeroDivisionError

    async with subscribe(A) as slow, subscribe(A, B) as quick:
        await quick.next_poll()
        with monkeypatch.context() as patch:
            patch.setattr(feed, "decode_states", broken)
            async with subscribe(C) as third:
                for subscriber in (third, quick, slow):
                    with pytest.raises(ZeroDivisionError):
                        await subscriber.next_poll()
        async with subscribe(A) as later:
            assert (await later.next_poll()).error is None


@asynccontextmanager
async def notifications(
    *ids: str, deliver_after: float = math.inf, **source: Any
) -> AsyncIterator[list[Poll]]:
    """Subscribe, and give the polls that notify the subscriber."""
    polls: list[Poll] = []

    async def listen(subscriber: Subscriber) -> None:
        while True:
            polls.append(await subscriber.next_poll(deliver_after))

    async with subscribe(*ids, **source) as subscriber:
        task = asyncio.create_task(listen(subscriber))
        yield polls
        task.cancel()
        await asyncio.wait([task])


async def test_a_poll_notifies_if_the_states_have_changed(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    decode_states = feed.decode_states

    def counting(resource_type: Any) -> Any:
        decode = decode_states(resource_type)
        return lambda response: decoded.append(response.body) or decode(response)

    monkeypatch.setattr(feed, "decode_states", counting)
    async with notifications() as one, notifications() as other:
        await polled(account, 3)
        assert [len(one), len(other)] == [1, 1]
        assert len(decoded) == 1, "an identical response was decoded again"
        change(account, A, sample={"email": "a@b.c"})
        await polled(account, 3)
        assert [len(one), len(other)] == [1, 1]
        change(account, A, status="running")
        await polled(account, 3)
        assert [len(one), len(other)] == [2, 2]
        assert one[-1].states[0].status == "running"
        # A new subscriber gets its first poll in any case.
        async with notifications() as late:
            await polled(account, 5)
            assert [len(one), len(late)] == [2, 1]


async def test_failed_polls_and_the_next_good_one_notify(account: Account) -> None:
    async with notifications() as polls:
        await polled(account)
        account.steps[f"/connections/{WAREHOUSE}/datasets"] = answer(503, {"error": "X", "note": "down"})
        await polled(account, 2)
        account.steps.clear()
        await polled(account, 3)
        first, *failed, last = polls
        assert len(failed) >= 2
        assert all("down" in str(poll.error) for poll in failed)
        assert (first.error, last.error) == (None, None)


async def test_a_subscriber_is_notified_after_its_own_time(account: Account) -> None:
    soon = asyncio.get_running_loop().time() + 0.2
    async with notifications() as other, notifications(deliver_after=soon) as polls:
        await until(lambda: len(polls) >= 2)
        assert polls[-1].began_at >= soon
        assert len(other) == 1


@pytest.mark.parametrize("failing", [False, True])
async def test_other_ids_of_the_account_do_not_notify(account: Account, failing: bool) -> None:
    ids = [id_of(14, number) for number in range(100)]
    account.resources += [node(id_, "datasets") for id_ in ids]

    def respond(*of_request: Any) -> None:
        wanted = [each for each in account.resources if each["id"] in of_request[1].target]
        fails = failing and account.resources[0] in wanted
        answer(503 if fails else 200, wanted)(*of_request)

    async with notifications(*ids) as polls:
        await polled(account)
        account.steps["/datasets"] = respond
        async with notifications(A) as other:
            await until(lambda: len(other) >= (2 if failing else 1))
            assert len(polls) == 1


async def test_the_event_loop_has_other_turns_while_subscribers_are_notified(account: Account) -> None:
    async with AsyncExitStack() as stack:
        subscribed = [await stack.enter_async_context(notifications()) for _ in range(100)]
        await until(lambda: all(subscribed))
        change(account, A, status="running")
        notified = [0]
        while notified[-1] < 100:
            await asyncio.sleep(0)
            notified.append(sum(len(polls) - 1 for polls in subscribed))
        assert max(later - earlier for earlier, later in pairwise(notified)) <= 20
