"""Waits with ``include_upstream`` in the triggerer: one graph for an account, each judged by its own part."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from typing import Any

import pytest

from airflow_provider_faraday.api.readiness import Criteria
from airflow_provider_faraday.exceptions import FaradayApiError
from airflow_provider_faraday.triggers.resources import ResourcesReadyTrigger
from airflow_provider_faraday.waiting import account as accounts
from airflow_provider_faraday.waiting import feed
from airflow_provider_faraday.waiting.feed import Subscriber
from airflow_provider_faraday.waiting.source import Source
from raw_server import RawServer, answer
from support.feeds import run
from support.graphs import chain, edge, node
from support.ids import SCOPE, UPLOADS, WAREHOUSE

Connect = Callable[..., None]


def id_of(kind: int, number: int) -> str:
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


TARGETS = [id_of(7, n) for n in range(20)]
SCOPES = [id_of(5, n) for n in range(20)]
PREVIEW = id_of(14, 1)


def subscribe(source: dict[str, Any], interval: float = 0.05) -> AbstractAsyncContextManager[Subscriber]:
    fields = {"resource_type": "targets", "include_upstream": True, **source}
    return feed.subscribe("faraday_default", Source.from_json(fields), interval)


class Account:
    """Twenty targets, each built from a scope, all from one dataset; 5,000 edges."""

    def __init__(self) -> None:
        self.dataset = node(id_of(13, 1), "datasets", "Orders")
        self.preview: dict[str, Any] | None = None
        self.failing: dict[str, Any] = {}
        self.scopes = [node(id_, "scopes", f"Scope {n}") for n, id_ in enumerate(SCOPES)]
        self.targets = [node(id_, "targets", f"Target {n}") for n, id_ in enumerate(TARGETS)]
        traits = [node(id_of(82, n), "traits") for n in range(248)]
        self.edges = [edge(trait, scope) for trait in traits for scope in self.scopes]

    def graph(self) -> list[dict[str, Any]]:
        pairs = zip(self.scopes, self.targets, strict=True)
        edges = [each for scope, target in pairs for each in chain(self.dataset, scope, target)]
        preview = [edge(self.preview, self.scopes[0])] if self.preview else []
        return [*self.edges, *edges, *preview]

    def respond(self, request: Any) -> Any:
        path = request.target.partition("?")[0].removeprefix("/v1")
        if path in self.failing:
            return self.failing[path]
        if path == "/graph":
            return answer(body=self.graph())
        if path == "/outcomes":
            assert self.preview
            return answer(body=[{**self.preview, "preview": True}])
        ids = request.target
        return answer(body=[each for each in self.targets if "ids=" not in ids or each["id"] in ids])


@pytest.fixture(autouse=True)
def settle_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(feed, "TICK_SECONDS", 0.01)


@pytest.fixture
def connect(faraday_default: Callable[..., None]) -> Connect:
    return lambda url, **fields: faraday_default(host=url, **fields)


def test_a_thousand_waiters_cost_two_requests_per_interval(connect: Connect) -> None:
    account = Account()
    assert len(account.graph()) == 5000
    with RawServer(account.respond) as server:
        connect(server.url)

        async def wait(number: int) -> None:
            after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
            source = {"resource_ids": (TARGETS[number % 20],)}
            async with subscribe(source) as subscriber:
                for _ in range(2):
                    poll = await subscriber.next_poll(0)
                    assert poll.verdict(Criteria(updated_after=after), subscriber.ids).is_ready

        async def test() -> None:
            await asyncio.gather(*(wait(number) for number in range(1000)))

        run(test)
        paths = Counter(target.partition("?")[0] for target in server.targets)
        assert paths["/v1/graph"] == paths["/v1/targets"]
        assert set(paths) == {"/v1/graph", "/v1/targets"}
        # All join within the first poll; some waiters may need a third one.
        assert paths["/v1/graph"] <= 4
        assert server.connections == 1


def test_all_sources_of_an_account_share_the_graph(connect: Connect) -> None:
    account = Account()
    lists = threading.Semaphore(0)

    def respond(request: Any) -> Any:
        if request.target != "/v1/graph":
            lists.release()
        elif server.targets.count("/v1/graph") == 1:
            # Until all lists were requested.
            for _ in range(4):
                lists.acquire(timeout=10)
        return account.respond(request)

    with RawServer(respond) as server:
        connect(server.url)

        async def test() -> None:
            sources: list[dict[str, Any]] = [
                {"scope_id": SCOPE},
                {"connection_id": WAREHOUSE},
                {"resource_ids": (TARGETS[0],)},
                {"resource_type": "scopes", "resource_ids": (SCOPES[0],)},
            ]
            async with AsyncExitStack() as stack:
                joining = (stack.enter_async_context(subscribe(source, 2.0)) for source in sources)
                subscribers = await asyncio.gather(*joining)
                polls = await asyncio.gather(*(subscriber.next_poll(0) for subscriber in subscribers))
                assert all(poll.graph == polls[0].graph for poll in polls)

        run(test)
        # Lists that end while the graph is requested share the next one.
        assert server.targets.count("/v1/graph") <= 3
        assert len(server.received) <= 7


def test_a_slow_list_does_not_hold_up_the_others(connect: Connect) -> None:
    account = Account()
    released = threading.Event()

    def respond(request: Any) -> Any:
        if UPLOADS in request.target:
            released.wait(10)
        return account.respond(request)

    with RawServer(respond) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe({"connection_id": UPLOADS}) as slow, subscribe({"scope_id": SCOPE}) as fast:
                for _ in range(2):
                    assert (await fast.next_poll(0)).graph
                assert sum(UPLOADS in target for target in server.targets) == 1
                released.set()
                assert (await slow.next_poll(0)).graph

        run(test)


def test_a_failed_graph_is_an_error_of_every_poll_and_the_next_one_recovers(connect: Connect) -> None:
    account = Account()
    account.failing["/graph"] = answer(503, {"error": "X", "note": "down"})
    with RawServer(account.respond) as server:
        connect(server.url, extra={"max_attempts": 1})

        async def test() -> None:
            async with (
                subscribe({"scope_id": SCOPE}) as one,
                subscribe({"resource_ids": (TARGETS[0],)}) as two,
            ):
                for subscriber in (one, two):
                    error = (await subscriber.next_poll(0)).error
                    assert isinstance(error, FaradayApiError)
                    assert error.status_code == 503
                account.failing.clear()
                while (await one.next_poll(0)).error:
                    pass
                await two.next_poll(0)
                assert (await two.next_poll(0)).graph

        run(test)


def test_a_failed_list_is_an_error_of_its_own_subscribers(connect: Connect) -> None:
    account = Account()
    account.failing[f"/scopes/{SCOPE}/targets"] = answer(403, {"error": "FORBIDDEN", "note": "no"})
    with RawServer(account.respond) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe({"scope_id": SCOPE}) as bad, subscribe({"connection_id": WAREHOUSE}) as good:
                polls = await asyncio.gather(bad.next_poll(0), good.next_poll(0))
                assert isinstance(polls[0].error, FaradayApiError)
                assert polls[1].error is None
                assert polls[1].graph

        run(test)


def test_previews_are_looked_up_once(connect: Connect) -> None:
    account = Account()
    account.preview = node(PREVIEW, "outcomes", "Draft", status="new")
    with RawServer(account.respond) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe({"resource_ids": (TARGETS[0],)}) as subscriber:
                for _ in range(3):
                    verdict = (await subscriber.next_poll(0)).verdict(Criteria(), subscriber.ids)
                    assert verdict.is_ready
                    assert "outcome 'Draft' (a preview" in verdict.description

        run(test)
        assert server.targets.count(f"/v1/outcomes?ids={PREVIEW}") == 1


def test_a_failed_lookup_of_previews_concerns_only_those_downstream(connect: Connect) -> None:
    account = Account()
    account.preview = node(PREVIEW, "outcomes", "Draft", status="error")
    account.failing["/outcomes"] = answer(503, {"error": "X", "note": "down"})
    with RawServer(account.respond) as server:
        connect(server.url, extra={"max_attempts": 1})

        async def test() -> None:
            async with (
                subscribe({"resource_ids": (TARGETS[0],)}) as behind,
                subscribe({"resource_ids": (TARGETS[1],)}) as beside,
            ):
                poll = await beside.next_poll(0)
                assert poll.verdict(Criteria(), beside.ids).is_ready
                with pytest.raises(FaradayApiError, match="down"):
                    (await behind.next_poll(0)).verdict(Criteria(), behind.ids)
                account.failing.clear()
                while (poll := await behind.next_poll(0)).graph.unclear:
                    pass
                assert poll.verdict(Criteria(), behind.ids).is_ready

        run(test)


def test_a_rotated_key_is_looked_up_once_by_concurrent_requests(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account()
    keys = ["the-key"]
    looked_up: list[str] = []
    look_up = accounts.get_async_connection

    async def counting(conn_id: str) -> Any:
        looked_up.append(conn_id)
        return await look_up(conn_id)

    def respond(request: Any) -> Any:
        if request.headers["authorization"] != f"Bearer {keys[0]}":
            return answer(401, {"error": "EXPIRED_API_KEY", "note": "Expired"})
        return account.respond(request)

    monkeypatch.setattr(accounts, "get_async_connection", counting)
    with RawServer(respond) as server:
        connect(server.url, password="the-key")

        async def test() -> None:
            sources = [{"connection_id": id_of(12, n)} for n in range(6)]
            async with AsyncExitStack() as stack:
                subscribers = [await stack.enter_async_context(subscribe(source)) for source in sources]
                polls = await asyncio.gather(*(each.next_poll(0) for each in subscribers))
                assert not any(poll.error for poll in polls)
                before = len(looked_up)
                keys[0] = "new-key"
                connect(server.url, password="new-key")
                for each in subscribers:
                    assert (await each.next_poll(0)).error is None
                    assert (await each.next_poll(0)).error is None
                # A 401 that arrives during the lookup is followed by another one.
                assert len(looked_up) <= before + 2

        run(test)


def test_a_stalled_lookup_of_previews_holds_up_only_those_downstream(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "PREVIEW_SECONDS", 0.2)
    account = Account()
    account.preview = node(PREVIEW, "outcomes", "Draft", status="new")
    released = threading.Event()

    def respond(request: Any) -> Any:
        if "/outcomes" in request.target:
            released.wait(20)
        return account.respond(request)

    with RawServer(respond) as server:
        connect(server.url)

        async def test() -> None:
            async with (
                subscribe({"resource_ids": (TARGETS[0],)}) as behind,
                subscribe({"resource_ids": (TARGETS[1],)}) as beside,
            ):
                poll = await beside.next_poll(0)
                assert poll.verdict(Criteria(), beside.ids).is_ready
                with pytest.raises(FaradayApiError, match="Could not look up which upstream resources"):
                    (await behind.next_poll(0)).verdict(Criteria(), behind.ids)
                released.set()

        run(test)


def test_ids_that_are_no_uuids_concern_nobody_else(connect: Connect) -> None:
    account = Account()
    account.preview = node("odd", "outcomes", "Odd", status="running")
    with RawServer(account.respond) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe({"resource_ids": (TARGETS[0], TARGETS[1])}) as subscriber:
                poll = await subscriber.next_poll(0)
                assert poll.verdict(Criteria(), (TARGETS[1],)).is_ready
                assert "outcome 'Odd' is running" in poll.verdict(Criteria(), (TARGETS[0],)).pending

        run(test)


NOW = datetime(2026, 1, 3, tzinfo=UTC)
LATE = node(id_of(7, 1), "targets", "Target")
SINCE = Criteria(updated_after=NOW, unchanged_after=0.8)


def paged_graph(*pages: tuple[datetime, list[dict[str, Any]]]) -> Callable[[Any], Any]:
    """Respond with a page of the graph per element, and its date."""

    def respond(request: Any) -> Any:
        if not request.target.startswith("/v1/graph"):
            return answer(body=[LATE])
        _, _, number = request.target.partition("?page=")
        date, edges = pages[int(number or 0)]
        headers = {"Date": format_datetime(date, usegmt=True)}
        if int(number or 0) + 1 < len(pages):
            headers["Link"] = f'</v1/graph?page={int(number or 0) + 1}>; rel="next"'
        return answer(body=edges, headers=headers)

    return respond


def test_a_wait_that_time_alone_ends_is_ended_by_equal_responses(connect: Connect) -> None:
    graph = chain(node(id_of(13, 1), "datasets", "Orders"), LATE)
    seconds = count()

    def respond(request: Any) -> Any:
        return paged_graph((NOW + timedelta(seconds=next(seconds)), graph))(request)

    with RawServer(respond) as server:
        connect(server.url)
        trigger = ResourcesReadyTrigger(
            faraday_conn_id="faraday_default",
            source={"resource_type": "targets", "connection_id": WAREHOUSE, "include_upstream": True},
            criteria={"updated_after": NOW.isoformat(), "unchanged_after": 2},
            poke_interval=0.1,
            deadline=time.time() + 3600,
        )

        async def test() -> None:
            async with aclosing(trigger.run()) as events:
                event = await anext(events)
            assert event.payload["status"] == "ready"

        run(test)
        assert len(server.targets) > 4


def test_the_latest_page_of_a_graph_tells_the_time(connect: Connect) -> None:
    pages = [(NOW, chain(node(id_of(13, 1), "datasets", "Orders"), LATE)), (NOW, [])]
    with RawServer(lambda request: paged_graph(*pages)(request)) as server:
        connect(server.url)

        async def test() -> None:
            async with subscribe({"connection_id": WAREHOUSE}) as subscriber:
                assert not (await subscriber.next_poll()).verdict(SINCE, None).is_ready
                other = chain(node(id_of(13, 2), "datasets", "Other"), node(id_of(5, 2), "scopes", "Other"))
                pages[1] = (NOW + timedelta(hours=1), other)
                assert (await subscriber.next_poll()).verdict(SINCE, None).is_ready

        run(test)
