"""Feed and poller: one poll for all who wait, each judged by its own part, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_faraday.api.readiness import Criteria
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayConfigurationError,
    FaradayTransportError,
)
from airflow_provider_faraday.waiting import account, feed
from airflow_provider_faraday.waiting.feed import Poll, Subscriber
from airflow_provider_faraday.waiting.source import Source
from raw_server import RawServer, answer
from support.feeds import run
from support.ids import WAREHOUSE

A, B, C = (f"d0000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
Connect = Callable[..., None]


def subscribe(
    *ids: str, interval: float = 0.05, poll_now: bool = False, **source: Any
) -> AbstractAsyncContextManager[Subscriber]:
    """Subscribe to datasets by id, or to those of a Faraday connection."""
    source = source or ({"resource_ids": ids} if ids else {"connection_id": WAREHOUSE})
    return feed.subscribe(
        "faraday_default",
        Source.from_json({"resource_type": "datasets", **source}),
        interval,
        poll_now=poll_now,
    )


def datasets(*ids: str, status: str = "ready") -> Any:
    return answer(body=[{"id": id_, "status": status} for id_ in ids])


@pytest.fixture(autouse=True)
def settle_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(feed, "TICK_SECONDS", 0.01)


async def join(
    stack: AsyncExitStack, *subscriptions: AbstractAsyncContextManager[Subscriber]
) -> list[Subscriber]:
    """Start several subscriptions together, as a triggerer does."""
    return await asyncio.gather(*map(stack.enter_async_context, subscriptions))


def settle_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first poll of a feed begin when all subscribers have settled."""
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(feed, "TICK_SECONDS", 0.5)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Return a function that sets the Airflow connection."""

    def set_connection(url: str, *, password: str = "the-key", **extra: Any) -> None:
        fields = {"conn_type": "faraday", "password": password, "host": url, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(fields))

    return set_connection


def test_many_subscribers_share_each_poll_and_one_tcp_connection(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with AsyncExitStack() as stack:
                subscribers = await join(stack, *(subscribe(interval=0.5) for _ in range(500)))
                for _ in range(3):
                    polls = await asyncio.gather(*(subscriber.next_poll(0) for subscriber in subscribers))
                    assert all(poll is polls[0] for poll in polls)
                    assert [state.id for state in polls[0].states] == [A]

        run(test)
        assert len(server.received) == 3
        assert server.connections == 1


def test_different_sources_and_intervals_are_polled_separately(connect: Connect) -> None:
    once: dict[str, Any] = {"interval": 3600, "poll_now": True}
    others: list[dict[str, Any]] = [{"connection_id": A}, {"scope_id": A}, {"interval": 3601}]
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with AsyncExitStack() as stack:
                subscribers = [
                    await stack.enter_async_context(subscribe(**once | fields)) for fields in [{}, *others]
                ]
                await asyncio.gather(*(subscriber.next_poll(0) for subscriber in subscribers))

        run(test)
        assert len(server.received) == 4
        assert len(set(server.targets)) == 3


def test_ids_of_all_subscribers_are_requested_together_and_once(connect: Connect) -> None:
    with RawServer([datasets(A, B, C)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe(A, B) as one, subscribe(B, C) as other:
                await asyncio.gather(one.next_poll(0), other.next_poll(0))
            async with subscribe(C) as last:
                await last.next_poll(0)

        run(test)
        assert server.targets == [f"/v1/datasets?ids={A}&ids={B}&ids={C}", f"/v1/datasets?ids={C}"]


def test_ids_are_requested_in_batches_of_a_hundred(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with AsyncExitStack() as stack:
                named = [f"d0000000-0000-4000-8000-{n:012x}" for n in range(250)]
                subscribers = await join(stack, *(subscribe(id_, interval=3) for id_ in named))
                await asyncio.gather(*(subscriber.next_poll(0) for subscriber in subscribers))

        run(test)
        assert sorted(target.count("ids=") for target in server.targets) == [50, 100, 100]


def test_a_new_subscriber_gets_no_poll_that_began_before_it_settled(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.3)
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe() as first:
                await first.next_poll(0)
                joined_at = asyncio.get_running_loop().time()
                async with subscribe() as late:
                    poll: Poll = await late.next_poll(0)
                    assert poll.began_at >= joined_at + 0.3
                await first.next_poll(0)

        run(test)


def test_polls_are_an_interval_apart(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe(interval=0.4) as subscriber:
                await subscriber.next_poll(0)
                await subscriber.next_poll(0)
                assert server.received[1].at - server.received[0].at >= 0.4

        run(test)


def test_first_polls_of_feeds_that_start_together_are_spread_over_the_interval(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed.random, "uniform", random.Random(1).uniform)
    # Those that would poll before they may must not poll together as soon as they may.
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.5)
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def first_poll(number: int) -> None:
            async with subscribe(
                connection_id=f"c0000000-0000-4000-8000-{number:012x}", interval=1.0
            ) as subscriber:
                await subscriber.next_poll()

        async def test() -> None:
            await asyncio.gather(*(first_poll(number) for number in range(30)))

        run(test)
        times = sorted(request.at for request in server.received)
        assert len(times) == 30
        # Late starts only widen the span.
        assert times[-1] - times[0] >= 0.5
        assert times[20] - times[10] >= 0.1
        assert times[13] - times[0] >= 0.1


def test_feeds_that_poll_in_turn_share_a_tcp_connection(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe(interval=3600, poll_now=True) as one:
                await one.next_poll()
                async with subscribe(B, interval=3600, poll_now=True) as other:
                    await other.next_poll()
                async with subscribe(A, interval=3600, poll_now=True) as other:
                    await other.next_poll()

        run(test)
        assert len(server.received) == 3
        assert server.connections == 1


def test_a_feed_for_a_watcher_polls_at_once(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe(interval=3600, poll_now=True) as subscriber:
                await subscriber.next_poll()

        run(test)


def test_leaving_and_being_cancelled_does_not_disturb_other_subscribers(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def wait_forever() -> None:
            async with subscribe() as subscriber:
                while True:
                    await subscriber.next_poll(0)

        async def test() -> None:
            cancelled = asyncio.create_task(wait_forever())
            async with subscribe() as staying:
                async with subscribe() as leaving:
                    await leaving.next_poll(0)
                cancelled.cancel()
                await asyncio.wait([cancelled])
                assert cancelled.cancelled()
                await staying.next_poll(0)
                await staying.next_poll(0)

        run(test)


@pytest.mark.parametrize("moment", ["before the first poll", "during a poll", "between polls"])
def test_the_last_subscriber_leaves_nothing_behind(connect: Connect, moment: str) -> None:
    held = asyncio.Event()

    def step(request: Any) -> Any:
        if moment == "during a poll":
            time.sleep(0.2)
        return datasets(A)

    with RawServer(step) as server:
        connect(server.url)

        async def wait_forever() -> None:
            async with subscribe() as subscriber:
                while True:
                    await subscriber.next_poll(0)
                    held.set()

        async def test() -> None:
            task = asyncio.create_task(wait_forever())
            if moment == "before the first poll":
                await asyncio.sleep(0)
            elif moment == "during a poll":
                await asyncio.sleep(0.15)
            else:
                await held.wait()
            task.cancel()
            await asyncio.wait([task])

        run(test)
        requests = len(server.received)
        time.sleep(0.2)
        assert len(server.received) == requests


def test_a_failed_poll_has_an_error_and_the_next_one_recovers(connect: Connect) -> None:
    with RawServer([answer(500, {"error": "X", "note": "down"}), datasets(A)]) as server:
        connect(server.url, max_attempts=1)

        async def test() -> None:
            async with subscribe() as subscriber:
                poll = await subscriber.next_poll(0)
                assert "down" in str(poll.error)
                poll = await subscriber.next_poll(0)
                assert poll.error is None
                assert len(poll.states) == 1

        run(test)


def keyed(key: str) -> Callable[[Any], Any]:
    expired = answer(401, {"error": "EXPIRED_API_KEY", "note": "Expired"})
    return lambda request: datasets(A) if request.headers["authorization"] == f"Bearer {key}" else expired


def test_a_rotated_key_is_used_within_the_same_poll(connect: Connect) -> None:
    keys = ["the-key"]
    with RawServer(lambda request: keyed(keys[0])(request)) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe() as subscriber:
                assert (await subscriber.next_poll(0)).error is None
                keys[0] = "new-key"
                connect(server.url, password="new-key")
                assert (await subscriber.next_poll(0)).error is None

        run(test)


def test_a_rejected_key_is_an_error_for_every_subscriber(connect: Connect) -> None:
    with RawServer(keyed("another")) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe() as one, subscribe() as other:
                polls = await asyncio.gather(one.next_poll(0), other.next_poll(0))
                assert all(isinstance(poll.error, FaradayAuthenticationError) for poll in polls)

        run(test)
        assert len(server.received) == 1


def test_the_airflow_connection_is_looked_up_once_for_many_polls(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    look_up = account.get_async_connection

    async def counting(conn_id: str) -> Any:
        looked_up.append(conn_id)
        return await look_up(conn_id)

    monkeypatch.setattr(account, "get_async_connection", counting)
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe() as one, subscribe() as other:
                before = len(looked_up)
                for _ in range(3):
                    await asyncio.gather(one.next_poll(0), other.next_poll(0))
                assert len(looked_up) == before

        run(test)
    # One for each subscriber, since its Airflow connection may have changed.
    assert looked_up == ["faraday_default"] * 2


@pytest.fixture
def lookup_failures(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Return a list of exceptions that the next lookups of the Airflow connection raise."""
    failures: list[Exception] = []
    look_up = account.get_async_connection

    async def flaky(conn_id: str) -> Any:
        if failures:
            raise failures.pop()
        return await look_up(conn_id)

    monkeypatch.setattr(account, "get_async_connection", flaky)
    return failures


@pytest.mark.parametrize(
    "failure", [RuntimeError("the backend said: secret-token"), AirflowNotFoundException("not found")]
)
def test_a_failed_lookup_is_transient_and_does_not_quote_a_secrets_backend(
    connect: Connect, lookup_failures: list[Exception], failure: Exception
) -> None:
    # The first lookup is for the new subscriber, the second one for its poll.
    lookup_failures += [failure, failure]
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe() as subscriber:
                error = (await subscriber.next_poll(0)).error
                assert isinstance(error, FaradayTransportError)
                assert type(failure).__name__ in str(error)
                assert "secret-token" not in str(error)
                assert (await subscriber.next_poll(0)).error is None

        run(test)


def test_a_failed_lookup_after_a_401_is_retried_with_the_next_poll(
    connect: Connect, lookup_failures: list[Exception]
) -> None:
    keys = ["the-key"]
    with RawServer(lambda request: keyed(keys[0])(request)) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe() as subscriber:
                assert (await subscriber.next_poll(0)).error is None
                lookup_failures.append(AirflowNotFoundException("a blip"))
                keys[0] = "new-key"
                connect(server.url, password="new-key")
                assert isinstance((await subscriber.next_poll(0)).error, FaradayTransportError)
                assert (await subscriber.next_poll(0)).error is None

        run(test)


def test_an_airflow_connection_that_cannot_be_decrypted_is_transient(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 2 decrypts a connection when its fields are read."""
    look_up = account.get_async_connection
    is_broken = [True]

    class Undecryptable:
        conn_id = "faraday_default"
        extra = None
        host = schema = port = None

        @property
        def password(self) -> str:
            raise RuntimeError("secret-token")

    async def sometimes(conn_id: str) -> Any:
        return Undecryptable() if is_broken[0] else await look_up(conn_id)

    monkeypatch.setattr(account, "get_async_connection", sometimes)
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe() as subscriber:
                error = (await subscriber.next_poll(0)).error
                assert isinstance(error, FaradayTransportError)
                assert "secret-token" not in str(error)
                is_broken[0] = False
                while (await subscriber.next_poll(0)).error:
                    pass

        run(test)


def test_an_unusable_airflow_connection_is_a_configuration_error(connect: Connect) -> None:
    connect("http://127.0.0.1:9", password="")

    async def test() -> None:
        async with subscribe() as subscriber:
            error = (await subscriber.next_poll(0)).error
            assert isinstance(error, FaradayConfigurationError)
            assert "no API key" in str(error)

    run(test)


@pytest.mark.parametrize("status", [403, 504])
def test_a_failed_batch_fails_only_subscribers_to_its_ids(connect: Connect, status: int) -> None:
    ids = [f"d0000000-0000-4000-8000-{n:012x}" for n in range(150)]

    def respond(request: Any) -> Any:
        if ids[0] in request.target:
            return answer(status, {"error": "X", "note": "bad batch"})
        return datasets(*(id_ for id_ in ids if id_ in request.target))

    with RawServer(respond) as server:
        connect(server.url, max_attempts=1)

        async def test() -> None:
            async with subscribe(*ids[:100]) as bad, subscribe(ids[120]) as good, subscribe(*ids) as both:
                polls = await asyncio.gather(*(each.next_poll(0) for each in (bad, good, both)))
                for poll in (polls[0], polls[2]):
                    assert isinstance(poll.error, FaradayApiError)
                    assert poll.error.status_code == status
                assert polls[1].verdict(Criteria(), good.ids).is_ready

        run(test)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_refused_ids_fail_only_their_own_subscribers(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """A refused request for the ids of several subscribers is repeated for each of them."""
    settle_together(monkeypatch)
    ids = [f"d0000000-0000-4000-8000-{n:012x}" for n in range(100)]
    refused, good = ids[:30], ids[30:]

    def respond(request: Any) -> Any:
        if any(id_ in request.target for id_ in refused):
            return answer(status, {"error": "X", "note": "one of these"})
        return datasets(*(id_ for id_ in good if id_ in request.target))

    with RawServer(respond) as server:
        connect(server.url)

        async def test() -> None:
            async with AsyncExitStack() as stack:
                alone = (subscribe(id_, interval=3600, poll_now=True) for id_ in ids)
                subscribers = await join(stack, *alone)
                polls = await asyncio.gather(*(each.next_poll(0) for each in subscribers))
                for id_, poll in zip(ids, polls, strict=True):
                    if id_ in refused:
                        assert isinstance(poll.error, FaradayApiError)
                        assert poll.error.status_code == status
                    else:
                        assert poll.verdict(Criteria(), (id_,)).is_ready

        run(test)
        assert len(server.targets) == 101


def test_a_refused_request_of_a_single_subscriber_is_not_repeated(connect: Connect) -> None:
    ids = [f"d0000000-0000-4000-8000-{n:012x}" for n in range(500)]
    with RawServer([answer(403, {"error": "FORBIDDEN", "note": "by a proxy"})]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe(*ids, interval=3600, poll_now=True) as subscriber:
                assert (await subscriber.next_poll(0)).error

        run(test)
        assert len(server.targets) == 1


def test_a_rejected_key_is_not_tried_for_each_batch(connect: Connect) -> None:
    ids = [f"d0000000-0000-4000-8000-{n:012x}" for n in range(300)]
    with RawServer([answer(401, {"error": "EXPIRED_API_KEY"})]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe(*ids, interval=3600, poll_now=True) as subscriber:
                assert isinstance((await subscriber.next_poll(0)).error, FaradayAuthenticationError)

        run(test)
        assert len(server.targets) == 1


@pytest.fixture
def bugs(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Return a list of exceptions that the next polls raise, as a bug in a feed would."""
    bugs: list[Exception] = []
    poll = feed.Feed._poll

    async def buggy(self: feed.Feed, ids: Any) -> Poll:
        if bugs:
            raise bugs.pop()
        return await poll(self, ids)

    monkeypatch.setattr(feed.Feed, "_poll", buggy)
    return bugs


def test_a_bug_ends_every_wait_and_a_new_subscriber_starts_over(
    connect: Connect, bugs: list[Exception]
) -> None:
    bugs.append(ZeroDivisionError("a bug"))
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe() as one, subscribe() as other:
                ended = await asyncio.gather(one.next_poll(0), other.next_poll(0), return_exceptions=True)
                assert [type(error) for error in ended] == [ZeroDivisionError] * 2
                async with subscribe() as later:
                    assert (await later.next_poll(0)).error is None

        run(test)


def test_a_bug_reaches_a_subscriber_that_is_a_poll_behind(connect: Connect, bugs: list[Exception]) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe() as slow, subscribe() as quick:
                await quick.next_poll(0)
                bugs.append(ZeroDivisionError("a bug"))
                with pytest.raises(ZeroDivisionError):
                    await quick.next_poll(0)
                with pytest.raises(ZeroDivisionError):
                    await slow.next_poll(0)

        run(test)


def test_an_interval_of_zero_does_not_poll_without_a_pause(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe(interval=0.0) as subscriber:
                await subscriber.next_poll(0)
                before = len(server.received)
                await asyncio.sleep(0.2)
                assert len(server.received) - before <= 0.2 / feed.TICK_SECONDS + 1

        run(test)


def test_a_cancelled_feed_fails_its_subscribers(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe() as subscriber:
                await subscriber.next_poll(0)
                (of_connection,) = account._accounts[asyncio.get_running_loop()].values()
                next(iter(of_connection.feeds.values())).task.cancel()
                with pytest.raises(RuntimeError, match="ended unexpectedly"):
                    await subscriber.next_poll(0)

        run(test)


def test_a_new_event_loop_has_feeds_of_its_own(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe() as subscriber:
                await subscriber.next_poll(0)

        run(test)
        run(test)
        assert len(server.received) == 2


async def polls(server: RawServer, number: int) -> None:
    """Wait until a number of polls have been answered and delivered."""
    expected = len(server.received) + number
    while len(server.received) < expected:  # noqa: ASYNC110 (it happens in another thread)
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


class Listener:
    """A subscriber that counts what wakes it."""

    def __init__(self, subscriber: Subscriber, deliver_after: float = math.inf) -> None:
        self.polls: list[Poll] = []
        self.task = asyncio.create_task(self._listen(subscriber, deliver_after))

    async def _listen(self, subscriber: Subscriber, deliver_after: float) -> None:
        while True:
            self.polls.append(await subscriber.next_poll(deliver_after))


@asynccontextmanager
async def listening(*args: Any, deliver_after: float = math.inf, **kwargs: Any) -> AsyncIterator[Listener]:
    async with subscribe(*args, **kwargs) as subscriber:
        listener = Listener(subscriber, deliver_after)
        yield listener
        listener.task.cancel()
        await asyncio.wait([listener.task])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list of the bodies that are decoded from now on."""
    bodies: list[bytes] = []
    decode_states = feed.decode_states

    def counting(resource_type: Any) -> Any:
        decode = decode_states(resource_type)

        def decode_and_count(response: Any) -> Any:
            bodies.append(response.body)
            return decode(response)

        return decode_and_count

    monkeypatch.setattr(feed, "decode_states", counting)
    return bodies


def test_a_response_with_the_same_bytes_is_not_decoded_and_wakes_nobody(
    connect: Connect, decoded: list[bytes]
) -> None:
    responses = [datasets(A, status="running")]
    with RawServer(lambda request: responses[0]) as server:
        connect(server.url)

        async def test() -> None:
            async with listening() as one, listening() as other:
                await polls(server, 4)
                assert [len(one.polls), len(other.polls), len(decoded)] == [1, 1, 1]
                responses[0] = datasets(A)
                await polls(server, 4)
                assert [len(one.polls), len(other.polls), len(decoded)] == [2, 2, 2]
                assert [state.status for state in one.polls[-1].states] == ["ready"]

        run(test)


@pytest.mark.parametrize("change", ["longer", "shorter", "another middle"])
def test_any_change_of_a_body_is_noticed(connect: Connect, change: str) -> None:
    many = [{"id": f"d0000000-0000-4000-8000-{n:012x}", "status": "ready"} for n in range(3000)]
    changed = {
        "longer": [*many, {"id": A, "status": "ready"}],
        "shorter": many[:-1],
        "another middle": [{**each, "status": "error"} if n == 1500 else each for n, each in enumerate(many)],
    }
    responses = [answer(body=many)]
    with RawServer(lambda request: responses[0]) as server:
        connect(server.url)

        async def test() -> None:
            async with listening() as listener:
                await polls(server, 2)
                responses[0] = answer(body=changed[change])
                await polls(server, 2)
                assert len(listener.polls) == 2
                seen = [{"id": state.id, "status": state.status} for state in listener.polls[-1].states]
                assert seen == changed[change]
                responses[0] = answer(body=many)
                await polls(server, 2)
                assert len(listener.polls) == 3

        run(test)


def test_a_change_that_no_verdict_depends_on_wakes_nobody(connect: Connect) -> None:
    with RawServer(
        lambda request: answer(body=[{"id": A, "status": "ready", "sample": time.time()}])
    ) as server:
        connect(server.url)

        async def test() -> None:
            async with listening() as listener:
                await polls(server, 3)
                assert len(listener.polls) == 1

        run(test)


def test_a_new_subscriber_is_woken_by_its_first_poll_even_if_nothing_is_new(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with listening() as first:
                await polls(server, 2)
                async with listening() as second:
                    await polls(server, 10)
                    assert len(second.polls) == 1
                assert len(first.polls) == 1

        run(test)


def test_every_error_and_the_first_good_poll_after_it_wake_subscribers(connect: Connect) -> None:
    failing = answer(503, {"error": "X", "note": "down"})
    responses = [datasets(A)]
    with RawServer(lambda request: responses[0]) as server:
        connect(server.url, max_attempts=1)

        async def test() -> None:
            async with listening() as listener:
                await polls(server, 2)
                responses[0] = failing
                await polls(server, 2)
                responses[0] = datasets(A)
                await polls(server, 3)
                errors = [bool(poll.error) for poll in listener.polls]
                assert errors[:1] == [False]
                assert errors[-1:] == [False]
                assert errors.count(False) == 2
                assert errors.count(True) >= 2

        run(test)


def test_a_subscriber_is_woken_at_its_own_time_and_others_are_not(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            soon = asyncio.get_running_loop().time() + 0.3
            async with listening() as other, listening(deliver_after=soon) as listener:
                while len(listener.polls) < 2:  # noqa: ASYNC110 (the feed decides when)
                    await asyncio.sleep(0.01)
                assert listener.polls[-1].began_at >= soon
                assert len(other.polls) == 1

        run(test)


@pytest.mark.parametrize("failing", [False, True])
def test_what_concerns_other_ids_wakes_nobody(connect: Connect, failing: bool) -> None:
    ids = [f"d0000000-0000-4000-8000-{number:012x}" for number in range(101)]

    def respond(request: Any) -> Any:
        wanted = [id_ for id_ in ids if id_ in request.target]
        if failing and ids[-1] in wanted:
            return answer(503)
        return datasets(*wanted, status="running")

    with RawServer(respond) as server:
        connect(server.url, max_attempts=1)

        async def test() -> None:
            async with listening(*ids[:100]) as bystander:
                for _ in range(3):
                    async with listening(ids[-1]) as other:
                        await polls(server, 12)
                        assert (len(other.polls) > 1) == failing
                assert len(bystander.polls) == 1

        run(test)


def test_the_event_loop_has_other_turns_while_many_subscribers_are_woken(connect: Connect) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with AsyncExitStack() as stack:
                subscribers = await join(stack, *(subscribe(interval=0.5) for _ in range(300)))
                listeners = [Listener(subscriber) for subscriber in subscribers]
                woken = [0]
                while woken[-1] < 300:
                    await asyncio.sleep(0)
                    woken.append(sum(len(listener.polls) for listener in listeners))
                assert max(later - earlier for earlier, later in pairwise(woken)) <= 100
                for listener in listeners:
                    listener.task.cancel()

        run(test)


def test_the_event_loop_has_other_turns_while_an_unchanged_poll_is_delivered(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WORK_AT_A_TIME", 10)
    turns: list[float] = []
    sleep = asyncio.sleep

    async def counting(delay: float) -> None:
        if delay == 0:
            turns.append(delay)
        await sleep(delay)

    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with AsyncExitStack() as stack:
                subscribers = await join(stack, *(subscribe(interval=0.2) for _ in range(50)))
                await asyncio.gather(*(subscriber.next_poll() for subscriber in subscribers))
                monkeypatch.setattr(feed.asyncio, "sleep", counting)
                received = len(server.received)
                while len(server.received) < received + 2:
                    await sleep(0.01)
                monkeypatch.setattr(feed.asyncio, "sleep", sleep)
                assert len(turns) >= 5

        run(test)
