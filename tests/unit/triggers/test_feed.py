"""Feed: one poll for all who wait, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from airflow_provider_faraday.exceptions import (
    FaradayAuthenticationError,
    FaradayConfigurationError,
    FaradayConnectionError,
)
from airflow_provider_faraday.triggers import feed
from airflow_provider_faraday.triggers.feed import Poll, Watch, joined
from raw_server import RawServer, answer

A, B, C = (f"d0000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
CONNECTION = "c0000000-0000-4000-8000-000000000001"


def watch(**fields: Any) -> Watch:
    return Watch(
        **{"faraday_conn_id": "faraday_default", "connection_id": CONNECTION, "interval": 0.05} | fields
    )


BY_ID = {"connection_id": None}


def datasets(*ids: str, status: str = "ready") -> Any:
    return answer(body=[{"id": id_, "status": status} for id_ in ids])


@pytest.fixture(autouse=True)
def settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.05)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_connection(url: str, *, password: str = "the-key", **extra: Any) -> None:
        fields = {"conn_type": "faraday", "password": password, "host": url, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(fields))

    return set_connection


@asynccontextmanager
async def nothing_left_behind() -> AsyncIterator[None]:
    """Check that a block ends with the tasks, feeds and sockets that it began with."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert not feed._feeds.get(asyncio.get_running_loop())
    gc.collect()  # an unclosed session warns when it is collected, which pytest turns into a failure


def run(test: Callable[[], Any]) -> None:
    async def checked() -> None:
        async with nothing_left_behind():
            await test()

    asyncio.run(asyncio.wait_for(checked(), 20))


def test_many_waiters_share_each_poll_over_one_connection(connect: Callable[..., None]) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with AsyncExitStack() as stack:
                waiters = [await stack.enter_async_context(joined(watch())) for _ in range(500)]
                for _ in range(3):
                    polls = await asyncio.gather(*(waiter.next_poll() for waiter in waiters))
                    assert len({id(poll) for poll in polls}) == 1
                    assert [state.id for state in polls[0].states] == [A]

        run(test)
        assert len(server.received) == 3
        assert server.connections == 1


def test_different_lists_connections_and_intervals_are_polled_apart(connect: Callable[..., None]) -> None:
    others = [{"connection_id": A}, {"connection_id": None, "scope_id": A}, {"interval": 0.06}]
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with AsyncExitStack() as stack:
                waiters = [
                    await stack.enter_async_context(joined(watch(**fields))) for fields in [{}, *others]
                ]
                await asyncio.gather(*(waiter.next_poll() for waiter in waiters))

        run(test)
        assert len(server.received) == 4
        assert len(set(server.targets)) == 3


def test_named_datasets_are_asked_for_together_each_once(connect: Callable[..., None]) -> None:
    with RawServer([datasets(A, B, C)]) as server:
        connect(server.url)

        async def test() -> None:
            async with joined(watch(**BY_ID), (A, B)) as one, joined(watch(**BY_ID), (B, C)) as other:
                await asyncio.gather(one.next_poll(), other.next_poll())
            async with joined(watch(**BY_ID), (C,)) as last:
                await last.next_poll()

        run(test)
        assert server.targets == [f"/v1/datasets?ids={A}&ids={B}&ids={C}", f"/v1/datasets?ids={C}"]


def test_more_than_a_hundred_named_datasets_are_asked_for_in_batches(connect: Callable[..., None]) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with AsyncExitStack() as stack:
                named = [f"d0000000-0000-4000-8000-{n:012x}" for n in range(250)]
                waiters = [await stack.enter_async_context(joined(watch(**BY_ID), (id_,))) for id_ in named]
                await asyncio.gather(*(waiter.next_poll() for waiter in waiters))

        run(test)
        assert [target.count("ids=") for target in server.targets] == [100, 100, 50]


def test_a_late_joiner_takes_no_poll_that_began_before_it_had_settled(
    connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.3)
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with joined(watch()) as first:
                await first.next_poll()
                joined_at = asyncio.get_running_loop().time()
                async with joined(watch()) as late:
                    poll: Poll = await late.next_poll()
                    assert poll.began_at >= joined_at + 0.3
                await first.next_poll()

        run(test)


def test_the_first_poll_comes_after_the_interval(connect: Callable[..., None]) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            started = time.monotonic()
            async with joined(watch(interval=0.4)) as waiter:
                await waiter.next_poll()
                assert server.received[0].at - started >= 0.4
                await waiter.next_poll()
                assert server.received[1].at - server.received[0].at >= 0.4

        run(test)


def test_a_leaver_and_a_cancelled_waiter_do_not_disturb_the_others(connect: Callable[..., None]) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def wait_for_ever() -> None:
            async with joined(watch()) as waiter:
                while True:
                    await waiter.next_poll()

        async def test() -> None:
            cancelled = asyncio.create_task(wait_for_ever())
            async with joined(watch()) as staying:
                async with joined(watch()) as leaving:
                    await leaving.next_poll()
                cancelled.cancel()
                await asyncio.wait([cancelled])
                assert cancelled.cancelled()
                await staying.next_poll()
                await staying.next_poll()

        run(test)


@pytest.mark.parametrize("moment", ["before the first poll", "during a poll", "between polls"])
def test_the_last_one_out_leaves_nothing_behind(connect: Callable[..., None], moment: str) -> None:
    held = asyncio.Event()

    def step(request: Any) -> Any:
        if moment == "during a poll":
            time.sleep(0.2)
        return datasets(A)

    with RawServer(step) as server:
        connect(server.url)

        async def wait_for_ever() -> None:
            async with joined(watch()) as waiter:
                while True:
                    await waiter.next_poll()
                    held.set()

        async def test() -> None:
            task = asyncio.create_task(wait_for_ever())
            if moment == "before the first poll":
                await asyncio.sleep(0)
            elif moment == "during a poll":
                await asyncio.sleep(0.15)
            else:
                await held.wait()
            task.cancel()
            await asyncio.wait([task])

        run(test)
        asked = len(server.received)
        time.sleep(0.2)
        assert len(server.received) == asked


def test_a_failing_poll_is_given_as_an_error_and_the_next_one_heals(connect: Callable[..., None]) -> None:
    with RawServer([answer(500, {"error": "X", "note": "down"}), datasets(A)]) as server:
        connect(server.url, max_attempts=1)

        async def test() -> None:
            async with joined(watch()) as waiter:
                poll = await waiter.next_poll()
                assert "down" in str(poll.error)
                poll = await waiter.next_poll()
                assert poll.error is None
                assert len(poll.states) == 1

        run(test)


def keyed(key: str) -> Callable[[Any], Any]:
    expired = answer(401, {"error": "EXPIRED_API_KEY", "note": "Expired"})
    return lambda request: datasets(A) if request.headers["authorization"] == f"Bearer {key}" else expired


def test_a_rotated_key_is_taken_up_within_the_poll(connect: Callable[..., None]) -> None:
    keys = ["the-key"]
    with RawServer(lambda request: keyed(keys[0])(request)) as server:
        connect(server.url)

        async def test() -> None:
            async with joined(watch()) as waiter:
                assert (await waiter.next_poll()).error is None
                keys[0] = "new-key"
                connect(server.url, password="new-key")
                assert (await waiter.next_poll()).error is None

        run(test)
        assert server.connections == 2


def test_the_same_key_refused_is_an_error_for_every_waiter(connect: Callable[..., None]) -> None:
    with RawServer(keyed("another")) as server:
        connect(server.url)

        async def test() -> None:
            async with joined(watch()) as one, joined(watch()) as other:
                polls = await asyncio.gather(one.next_poll(), other.next_poll())
                assert all(isinstance(poll.error, FaradayAuthenticationError) for poll in polls)

        run(test)
        assert len(server.received) == 1


def test_the_connection_is_looked_up_once_for_many_polls(
    connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    look_up = feed.get_async_connection

    async def counting(conn_id: str) -> Any:
        looked_up.append(conn_id)
        return await look_up(conn_id)

    monkeypatch.setattr(feed, "get_async_connection", counting)
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with joined(watch()) as one, joined(watch()) as other:
                for _ in range(3):
                    await asyncio.gather(one.next_poll(), other.next_poll())

        run(test)
    assert looked_up == ["faraday_default"]


def test_a_connection_that_cannot_be_looked_up_for_a_while_is_waited_out(
    connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = feed.get_async_connection
    failures = [RuntimeError("the secrets backend said: secret-token")]

    async def flaky(conn_id: str) -> Any:
        if failures:
            raise failures.pop()
        return await look_up(conn_id)

    monkeypatch.setattr(feed, "get_async_connection", flaky)
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with joined(watch()) as waiter:
                error = (await waiter.next_poll()).error
                assert isinstance(error, FaradayConnectionError)
                assert "could not be looked up: RuntimeError" in str(error)
                assert "secret-token" not in str(error)
                assert (await waiter.next_poll()).error is None

        run(test)


@pytest.mark.parametrize(("password", "says"), [(None, "There is no Airflow connection"), ("", "no API key")])
@pytest.mark.usefixtures("airflow_home")
def test_a_connection_that_is_gone_or_unusable_is_an_error(
    connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch, password: str | None, says: str
) -> None:
    if password is None:
        monkeypatch.delenv("AIRFLOW_CONN_FARADAY_DEFAULT", raising=False)
    else:
        connect("http://127.0.0.1:9", password=password)

    async def test() -> None:
        async with joined(watch()) as waiter:
            error = (await waiter.next_poll()).error
            assert isinstance(error, FaradayConfigurationError)
            assert says in str(error)

    run(test)


def test_a_bug_in_the_poll_ends_every_wait_and_a_later_one_starts_afresh(
    connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bugs = [ZeroDivisionError("a bug")]
    decode = feed.dataset_states

    def buggy(answer: Any) -> Any:
        if bugs:
            raise bugs.pop()
        return decode(answer)

    monkeypatch.setattr(feed, "dataset_states", buggy)
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with joined(watch()) as one, joined(watch()) as other:
                ended = await asyncio.gather(one.next_poll(), other.next_poll(), return_exceptions=True)
                assert [type(error) for error in ended] == [ZeroDivisionError] * 2
                async with joined(watch()) as later:
                    assert (await later.next_poll()).error is None

        run(test)


def test_a_new_event_loop_has_feeds_of_its_own(connect: Callable[..., None]) -> None:
    with RawServer([datasets(A)]) as server:
        connect(server.url)

        async def test() -> None:
            async with joined(watch()) as waiter:
                await waiter.next_poll()

        run(test)
        run(test)
        assert len(server.received) == 2
