"""The configuration, client and graph that the triggers of an Airflow connection share."""

from __future__ import annotations

import asyncio
import logging
import math
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from airflow.providers.common.compat.connection import get_async_connection

from airflow_provider_faraday.api import endpoints
from airflow_provider_faraday.api.errors import FaradayError, lookup_error
from airflow_provider_faraday.api.graph import Graph, PreviewKey, decode_edges
from airflow_provider_faraday.api.responses import Remembering
from airflow_provider_faraday.api.states import decode_states
from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.client.aiohttp_client import AiohttpClient
from airflow_provider_faraday.client.config import ClientConfig, client_config, log_new_fields

if TYPE_CHECKING:
    from collections.abc import Collection

log = logging.getLogger(__name__)

T = TypeVar("T")

REFRESH_SECONDS = 50.0
"""How old the configuration of a request may be."""

LOOKUP_SECONDS = 10.0
"""How long a lookup of the Airflow connection may take. It delays the polls of all triggers."""

PREVIEW_SECONDS = 10.0
"""How long a request for previews may take. It delays the other waits."""

REQUEST_SECONDS = 60.0
"""How long a request may take, unless polls are further apart."""


# Its own thread, because blocking calls of others may keep those of asyncio busy.
_THREAD = ThreadPoolExecutor(1, "faraday-graph")


class Shared(Generic[T]):
    """A request whose result, or error, is shared by all callers that need one newer than a given time.

    :param request: sends the request.
    """

    def __init__(self, request: Callable[[], Awaitable[T]]) -> None:
        self._request = request
        self._began_at = -math.inf
        self._result: T | FaradayError | None = None
        self._requesting = asyncio.Lock()

    async def newer_than(self, time: float) -> T:
        """Return the result of a request that began at a time of the event loop's clock, or later.

        :raises FaradayError: if that request failed.
        """
        if self._began_at < time:
            async with self._requesting:
                if self._began_at < time:
                    began_at = asyncio.get_running_loop().time()
                    try:
                        self._result = await self._request()
                    except FaradayError as error:
                        self._result = error
                    # Not before: if this caller is cancelled, the next one sends the request.
                    self._began_at = began_at
        result = self._result
        if isinstance(result, FaradayError):
            # Without the frames of other callers, which would pile up.
            raise result.with_traceback(None)
        return cast("T", result)


class Account:
    """An Airflow connection in an event loop.

    While lookups fail, the last valid configuration is used. On Airflow 3, a failure of a secrets backend
    looks like an Airflow connection that does not exist.

    :ivar client: uses the latest configuration.
    :ivar feeds: the feeds that poll for subscribers.
    :ivar joined_at: when the newest subscriber joined. The next request uses a newer configuration.
    """

    def __init__(self, faraday_conn_id: str) -> None:
        self.conn_id = faraday_conn_id
        self.client = AiohttpClient(self._current_config)
        self.feeds: list[Any] = []
        self.joined_at = 0.0
        self._config: ClientConfig | None = None
        self._lookups = Shared(self._look_up)
        self._lookup: asyncio.Task[Any] | None = None
        self._graphs = Shared(self._fetch_graph)
        self._decode_edges = Remembering(decode_edges)
        self._edges: list[Any] = []
        self._graph = self._known_graph = Graph([])
        self._previews: dict[PreviewKey, bool] = {}

    async def graph(self, waited: Collection[str], after: float) -> tuple[Graph, datetime | None]:
        """Return the dependency graph, and the time of the response by Faraday's clock.

        :param waited: the ids of the waited resources.
        :param after: the event loop's time at which the request begins at the earliest.
        :raises FaradayError: if the request fails.
        """
        graph, sent_at = await self._graphs.newer_than(after)
        failure = None
        # In a thread, because searching a large graph takes longer than the event loop may be blocked.
        run = asyncio.get_running_loop().run_in_executor
        requests = await run(_THREAD, graph.preview_requests, waited, self._previews)
        try:
            for resource_type, endpoint in requests:
                fetched = await self.client.fetch(
                    endpoint, decode_states(resource_type), seconds=PREVIEW_SECONDS
                )
                self._previews |= graph.read_previews(endpoint, fetched.value)
        except FaradayError as error:
            failure = error
        return await run(_THREAD, self._with_previews, graph, waited, failure), sent_at

    def _with_previews(self, graph: Graph, waited: Collection[str], failure: FaradayError | None) -> Graph:
        """Return a graph with what is known of previews, searched once for all subscribers."""
        known = graph.with_previews(self._previews, waited, failure)
        if known != self._known_graph:
            # Otherwise the same object, which subscribers compare with their last one at no cost.
            self._known_graph = known
        for id_ in waited:
            self._known_graph.upstream_of(id_)
        return self._known_graph

    def longest_request(self, interval: float = 0.0) -> float:
        """Return how many seconds a request may take if polls are ``interval`` seconds apart."""
        return max(interval, REQUEST_SECONDS, self._config.read_seconds if self._config else 0.0)

    async def _current_config(self, rejected: ClientConfig | None) -> ClientConfig:
        """Return the configuration for a request; after a 401, one that is newer than the rejected one."""
        now = asyncio.get_running_loop().time()
        # Not before the first lookup either: both are None.
        is_usable = self._config != rejected
        try:
            await self._lookups.newer_than(max(self.joined_at, now - REFRESH_SECONDS) if is_usable else now)
        except FaradayError:
            if not is_usable:
                raise
        assert self._config
        return self._config

    async def _look_up(self) -> None:
        # Not canceled, because the triggerer of Airflow 3.1 confuses responses after a canceled request.
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.create_task(get_async_connection(self.conn_id))
            # Otherwise, asyncio logs an exception that nobody waits for anymore, which may contain a secret.
            self._lookup.add_done_callback(lambda lookup: lookup.cancelled() or lookup.exception())
        try:
            await asyncio.wait([self._lookup], timeout=LOOKUP_SECONDS)
            if not self._lookup.done():
                raise TimeoutError
            config = client_config(self._lookup.result(), warn=self._config is None)
        except Exception as error:  # whatever a secrets backend, Airflow's API or a decryption raises
            failure = lookup_error(self.conn_id, error)
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
            loop = asyncio.get_running_loop()
            self._graph = await loop.run_in_executor(_THREAD, Graph, fetched.value)
            self._edges = fetched.value
        return self._graph, fetched.sent_at


_accounts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Account]] = (
    weakref.WeakKeyDictionary()
)


def accounts() -> dict[str, Account]:
    """Return the accounts of this event loop by Airflow connection."""
    return _accounts.setdefault(asyncio.get_running_loop(), {})
