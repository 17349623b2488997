"""The configuration, client and graph that the triggers of an Airflow connection share."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import weakref
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow.providers.common.compat.connection import get_async_connection

from airflow_provider_faraday.api import endpoints
from airflow_provider_faraday.api.errors import FaradayError, lookup_error
from airflow_provider_faraday.api.graph import Graph, PreviewKey
from airflow_provider_faraday.api.responses import Remembering, decode_objects
from airflow_provider_faraday.api.states import decode_states
from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.client.aiohttp_client import AiohttpClient
from airflow_provider_faraday.client.config import ClientConfig, client_config, log_new_fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Hashable

log = logging.getLogger(__name__)

T = TypeVar("T")

REFRESH_SECONDS = 50.0
"""How often the Airflow connection is looked up beside the polls. A change is used within a minute."""

LOOKUP_SECONDS = 10.0
"""How long a lookup of the Airflow connection may take."""

PREVIEW_SECONDS = 10.0
"""How long a request for previews may take. It delays the other waits."""

SEARCHES_AT_A_TIME = 5
"""How many resources are searched upstream before the coroutine yields to others."""

REQUEST_SECONDS = 60.0
"""How long a request may take, unless polls are further apart."""


class Shared(Generic[T]):
    """A request whose result is shared by all callers that need one newer than a given time.

    :param request: sends the request.
    """

    def __init__(self, request: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._request = request
        self._task: asyncio.Task[T] | None = None
        self._began_at = -math.inf

    async def newer_than(self, time: float) -> T:
        """Return the result of a request that began at a time of the event loop's clock, or later."""
        while self._task is None or self._began_at < time:
            if self._task and not self._task.done():
                await asyncio.wait([self._task])
                continue
            loop = asyncio.get_running_loop()
            self._began_at = loop.time()
            # Its own context, so that its log lines are not attributed to one trigger.
            self._task = loop.create_task(self._request(), context=Context())
            self._task.add_done_callback(_retrieve)
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """Cancel the request."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])


class Account:
    """An Airflow connection in an event loop.

    While lookups fail, the last valid configuration is used. On Airflow 3, a failure of a secrets backend
    looks like an Airflow connection that does not exist.

    :ivar client: uses the latest configuration.
    :ivar feeds: the feeds that poll for subscribers.
    :ivar phase: when polls that need the graph begin, as a share of their interval. They begin together.
    """

    def __init__(self, faraday_conn_id: str) -> None:
        self.conn_id = faraday_conn_id
        self.client = AiohttpClient(self._current_config)
        self.feeds: dict[Hashable, Any] = {}
        self.members = 0
        self.phase = random.random()
        self._config: ClientConfig | None = None
        self._lookups = Shared(self._look_up)
        self._graphs = Shared(self._fetch_graph)
        self._decode_edges = Remembering(decode_objects)
        self._edges: list[Any] = []
        self._graph = self._known_graph = Graph([])
        self._previews: dict[PreviewKey, bool] = {}
        self._refreshing = asyncio.get_running_loop().create_task(self._keep_fresh(), context=Context())

    async def refresh(self) -> None:
        """Look the Airflow connection up, if possible."""
        with suppress(FaradayError):
            await self._lookups.newer_than(asyncio.get_running_loop().time())

    async def graph(self, waited: Collection[str], after: float) -> tuple[Graph, datetime | None]:
        """Return the dependency graph, and the time of the response by Faraday's clock.

        :param waited: the ids of the waited resources.
        :param after: the event loop's time at which the request begins at the earliest.
        :raises FaradayError: if the request fails.
        """
        graph, sent_at = await self._graphs.newer_than(after)
        await _search(graph, waited)
        failure = None
        try:
            for resource_type, endpoint in graph.preview_requests(waited, self._previews):
                fetched = await self.client.fetch(
                    endpoint, decode_states(resource_type), seconds=PREVIEW_SECONDS
                )
                self._previews |= graph.read_previews(endpoint, fetched.value)
        except FaradayError as error:
            failure = error
        known = graph.with_previews(self._previews, waited, failure)
        if known == self._known_graph:
            # It has been searched already.
            known = self._known_graph
        self._known_graph = known
        await _search(known, waited)
        return known, sent_at

    def longest_request(self, interval: float = 0.0) -> float:
        """Return how many seconds a request may take if polls are ``interval`` seconds apart."""
        return max(interval, REQUEST_SECONDS, self._config.read_seconds if self._config else 0.0)

    async def close(self) -> None:
        """Cancel running requests, and close the TCP connections."""
        self._refreshing.cancel()
        await asyncio.wait([self._refreshing])
        await self._lookups.close()
        await self._graphs.close()
        await self.client.close()

    async def _current_config(self, rejected: ClientConfig | None) -> ClientConfig:
        """Return the configuration for a request; after a 401, one that is newer than the rejected one."""
        if self._config is None or self._config == rejected:
            await self._lookups.newer_than(asyncio.get_running_loop().time())
        assert self._config
        return self._config

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self.refresh()

    async def _look_up(self) -> None:
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                connection = await get_async_connection(self.conn_id)
            config = client_config(connection, warn=self._config is None)
        except Exception as error:  # whatever a secrets backend, Airflow's API or a decryption raises
            failure = error if isinstance(error, FaradayError) else lookup_error(self.conn_id, error)
            if self._config:
                log.warning("Using the last configuration: %s", one_line(str(failure)))
            raise failure from None
        if self._config and config != self._config:
            log_new_fields(self.conn_id)
        self._config = config

    async def _fetch_graph(self) -> tuple[Graph, datetime | None]:
        fetched = await self.client.fetch(
            endpoints.graph(), self._decode_edges, seconds=self.longest_request()
        )
        if fetched.value != self._edges:
            # Yields to other coroutines between decoding the edges and reading them.
            await asyncio.sleep(0)
            self._edges, self._graph = fetched.value, Graph(fetched.value)
        return self._graph, fetched.sent_at


async def _search(graph: Graph, waited: Collection[str]) -> None:
    """Search the graph once for all subscribers, a few resources at a time."""
    for number, id_ in enumerate(waited):
        if number % SEARCHES_AT_A_TIME == 0:
            await asyncio.sleep(0)
        graph.upstream_of(id_)


def _retrieve(task: asyncio.Task[object]) -> None:
    # Otherwise, asyncio logs the exception if every caller was cancelled.
    if not task.cancelled():
        task.exception()


_accounts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Account]] = (
    weakref.WeakKeyDictionary()
)


@asynccontextmanager
async def joined(faraday_conn_id: str) -> AsyncIterator[Account]:
    """Share the account of an Airflow connection in this event loop. The last one to leave closes it."""
    accounts = _accounts.setdefault(asyncio.get_running_loop(), {})
    account = accounts.get(faraday_conn_id)
    if account is None:
        account = accounts[faraday_conn_id] = Account(faraday_conn_id)
    account.members += 1
    try:
        await account.refresh()
        yield account
    finally:
        account.members -= 1
        if not account.members:
            del accounts[faraday_conn_id]
            await account.close()
