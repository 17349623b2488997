"""Polls a source in the triggerer: fetches, follows key rotations, and keeps the errors of some resources
from those who wait for others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.connection import get_async_connection

from airflow_provider_faraday.api.errors import (
    FaradayAuthenticationError,
    FaradayConfigurationError,
    FaradayError,
    FaradayTransportError,
    lookup_error,
)
from airflow_provider_faraday.api.readiness import Criteria, Standing, Verdict, assess, standings
from airflow_provider_faraday.api.responses import decode_states
from airflow_provider_faraday.api.retries import is_transient
from airflow_provider_faraday.api.states import ResourceState
from airflow_provider_faraday.client.aiohttp_client import AiohttpClient
from airflow_provider_faraday.client.config import client_config
from airflow_provider_faraday.waiting.upstream import graph_requests

if TYPE_CHECKING:
    from airflow_provider_faraday.api.endpoints import Endpoint
    from airflow_provider_faraday.api.graph import Graph, PreviewKey
    from airflow_provider_faraday.api.resources import ResourceType
    from airflow_provider_faraday.api.responses import Decode, Response
    from airflow_provider_faraday.client.config import ClientConfig
    from airflow_provider_faraday.waiting.source import Source

log = logging.getLogger(__name__)

T = TypeVar("T")

LISTS_AT_A_TIME = 8
"""How many sources of an account are requested concurrently."""

PATIENCE_SECONDS = 5.0
"""How long the fast lists of an account wait for the slow ones."""

REFUSALS = 32
"""After how many refused requests a poll stops looking for the ids that they are about. Finding one of a
hundred takes seven; if Faraday refuses everything, there are none to find."""

VERDICTS = 8
"""How many verdicts of a poll are kept, for subscribers with equal criteria. Each may take kilobytes."""


@dataclass(slots=True)
class Poll:
    """What one poll of a source brought. A later poll that brings nothing new is the same object.

    :param began_at: the event loop's time before the first request of the latest of these polls.
    :param states: what Faraday returned.
    :param error: what failed the whole poll.
    :param error_by_id: what failed the request for a resource by id.
    :param graph: for a source that includes what is upstream.
    :param previews: those of the graph.
    :param unclear: what failed the requests that would say whether resources upstream are previews.
    """

    resource_type: ResourceType
    began_at: float
    states: list[ResourceState] = field(default_factory=list)
    error: FaradayError | None = None
    error_by_id: dict[str, FaradayError] = field(default_factory=dict)
    graph: Graph | None = None
    previews: set[str] | None = None
    unclear: dict[str, FaradayError] = field(default_factory=dict)
    _verdicts: dict[tuple[Criteria, tuple[str, ...] | None], Verdict] = field(default_factory=dict)
    _standings: list[Standing] = field(default_factory=list)
    _by_id: dict[str, list[Standing]] = field(default_factory=dict)

    def brings_nothing_new(self, last: Poll) -> bool:
        """Return whether everything that verdicts and updates depend on is as it was."""
        if self.error_by_id or last.error_by_id:
            return False
        return self.brings_nothing_new_about(None, last)

    def brings_nothing_new_about(self, ids: tuple[str, ...] | None, last: Poll) -> bool:
        """The same for these resources; None for all."""
        if any(poll.error_of(ids) or poll.unclear for poll in (self, last)):
            return False
        same_graph = self.graph is last.graph and self.previews is last.previews
        return same_graph and self.states_of(ids) == last.states_of(ids)

    def repeat(self, began_at: float) -> None:
        """Make this the result of a later poll, too."""
        self.began_at = began_at
        # They may depend on the time.
        self._verdicts.clear()

    def states_of(self, ids: Iterable[str] | None) -> list[ResourceState]:
        """Return the states of these resources; None for all."""
        return self.states if ids is None else [standing.state for standing in self._standings_of(ids)]

    def error_of(self, ids: Iterable[str] | None) -> FaradayError | None:
        """Return what failed the requests for these resources, if anything; None for all."""
        if self.error or not self.error_by_id:
            return self.error
        return next((self.error_by_id[id_] for id_ in ids or () if id_ in self.error_by_id), None)

    def verdict(self, criteria: Criteria, ids: tuple[str, ...] | None) -> Verdict:
        """Judge the states. Subscribers with equal criteria share the verdict.

        :raises FaradayInputError: see :func:`~airflow_provider_faraday.api.readiness.assess`.
        :raises FaradayApiError: if it is unclear whether a resource upstream is a preview.
        """
        key = (criteria, ids)
        verdict = self._verdicts.get(key)
        if verdict is None:
            listed = self._standings_of(ids)
            if self.graph and self.unclear:
                self._check_clear(self.graph, (standing.state for standing in listed))
            verdict = assess(self.resource_type, listed, criteria, ids, self.graph)
            if len(self._verdicts) >= VERDICTS:
                self._verdicts.clear()
            self._verdicts[key] = verdict
        return verdict

    def _standings_of(self, ids: Iterable[str] | None) -> list[Standing]:
        if len(self._standings) != len(self.states):
            self._standings = standings(self.states)
        if ids is None:
            return self._standings
        # Hundreds of subscribers may each wait for one of hundreds of resources: index them once.
        if not self._by_id:
            for standing in self._standings:
                self._by_id.setdefault(standing.id, []).append(standing)
        return [standing for id_ in ids for standing in self._by_id.get(id_, ())]

    def _check_clear(self, graph: Graph, states: Iterable[ResourceState]) -> None:
        for state in states:
            for upstream in graph.upstream_of(state.id.lower()).unsettled:
                if error := self.unclear.get(upstream.id.lower()):
                    raise error


class Poller:
    """Polls sources with the Airflow connection as it is stored now.

    A failed lookup of the Airflow connection is a transient error: on Airflow 3 "not found" is also what a
    secrets backend's failure looks like. The client that works is kept until its key is rejected.
    """

    def __init__(self, faraday_conn_id: str) -> None:
        self._conn_id = faraday_conn_id
        self._client = AiohttpClient(self._current)
        self._config: ClientConfig | None = None
        self._seen: dict[str, tuple[bytes, list[Any]]] = {}
        self._latest: dict[str, tuple[bytes, list[Any]]] = {}
        self._running: dict[Source, asyncio.Task[Poll]] = {}
        self._lookup = asyncio.Lock()
        self._slots = asyncio.Semaphore(LISTS_AT_A_TIME)
        self._previews: dict[PreviewKey, bool] = {}
        self._last: dict[Source, Poll] = {}
        self._graph: Graph | None = None
        self._graph_at = 0.0

    async def close(self) -> None:
        """Cancel what is running, and close the TCP connections."""
        for task in self._running.values():
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values())
        await self._client.close()

    async def poll(self, wanted: Mapping[Source, Sequence[str]]) -> dict[Source, Poll]:
        """Poll sources once; what fails is part of the result.

        If a list takes longer than :data:`PATIENCE_SECONDS`, the others do not wait for it. Its poll is in
        the result of a later call.

        :param wanted: the sources, each with the resources to request if it is by id.
        """
        polls = await self._poll_lists(wanted)
        # After the lists: a graph from before could show as settled what a list shows as built too early.
        upstream = [poll for source, poll in polls.items() if source.include_upstream and not poll.error]
        if upstream:
            await self._add_graph(upstream)
        if not self._running:
            self._seen, self._latest = self._latest, {}
        self._last = {source: self._last[source] for source in wanted if source in self._last}
        return {source: self._unless_new(source, poll) for source, poll in polls.items()}

    async def _poll_lists(self, wanted: Mapping[Source, Sequence[str]]) -> dict[Source, Poll]:
        if len(wanted) == 1 and not self._running:
            # No need for a task, which takes as long as a tenth of a poll.
            return {source: await self._poll_list(source, ids) for source, ids in wanted.items()}
        # Lists that were too slow for the last poll. Newer results replace these.
        polls = self._take_ended()
        for source, ids in wanted.items():
            if source not in self._running:
                self._running[source] = asyncio.create_task(self._poll_list(source, ids))
        alone = len(self._running) == 1
        await asyncio.wait(self._running.values(), timeout=None if alone else PATIENCE_SECONDS)
        return polls | self._take_ended()

    def _take_ended(self) -> dict[Source, Poll]:
        ended = [source for source, task in self._running.items() if task.done()]
        return {source: self._running.pop(source).result() for source in ended}

    def _unless_new(self, source: Source, poll: Poll) -> Poll:
        """Return the last poll if this one brings nothing new."""
        last = self._last.get(source)
        if last and poll.brings_nothing_new(last):
            last.repeat(poll.began_at)
            return last
        self._last[source] = poll
        return poll

    async def _poll_list(self, source: Source, ids: Sequence[str]) -> Poll:
        poll = Poll(source.type, asyncio.get_running_loop().time())
        async with self._slots:
            await self._request_list(source, ids, poll)
        return poll

    async def _request_list(self, source: Source, ids: Sequence[str], poll: Poll) -> None:
        """Request a list, and add what is returned, or what fails, to a poll."""
        endpoints = source.endpoints(ids)
        refusals = 0
        while endpoints:
            endpoint = endpoints.pop(0)
            try:
                poll.states += await self._fetch(endpoint, decode_states(source.type))
                continue
            except FaradayError as error:
                failure = error
            batch = [value for name, value in endpoint.query if name == "ids"]
            not_about_ids = isinstance(failure, (FaradayAuthenticationError, FaradayConfigurationError))
            if not batch or self._config is None or not_about_ids:
                # Other requests would fail the same way.
                poll.error = failure
                return
            refusals += 1
            if len(batch) == 1 or is_transient(failure) or refusals > REFUSALS:
                poll.error_by_id |= dict.fromkeys(batch, failure)
            else:
                # Find the ids that Faraday refuses: other subscribers wait for the others.
                middle = len(batch) // 2
                endpoints[:0] = [*source.endpoints(batch[:middle]), *source.endpoints(batch[middle:])]

    async def _add_graph(self, polls: Sequence[Poll]) -> None:
        waited = {state.id.lower(): None for poll in polls for state in poll.states}
        steps = graph_requests(waited, self._previews, self._graph)
        endpoint, decode = next(steps)
        unclear: dict[str, FaradayError] = {}
        try:
            items: list[Any] | None = await self._fetch(endpoint, decode)
            while True:
                # Other coroutines get their turn between decoding the graph and searching it.
                await asyncio.sleep(0)
                endpoint, decode = steps.send(items)
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        items = await self._fetch(endpoint, decode)
                except (FaradayError, TimeoutError) as error:
                    # Concerns only those who wait for what is downstream.
                    failure = error if isinstance(error, FaradayError) else _too_slow(endpoint)
                    unclear |= {id_: failure for _, id_ in endpoint.query}
                    items = None
        except StopIteration as finished:
            graph: Graph = finished.value
            now = asyncio.get_running_loop().time()
            if graph is self._graph and graph.sent_at:
                graph.sent_at += timedelta(seconds=now - self._graph_at)
            self._graph, self._graph_at = graph, now
            for poll in polls:
                poll.graph, poll.previews, poll.unclear = graph, graph.previews, unclear
        except FaradayError as error:
            for poll in polls:
                poll.error = error

    async def _fetch(self, endpoint: Endpoint, decode: Decode[list[T]]) -> list[T]:
        def decode_if_new(response: Response) -> list[T]:
            body, items = self._latest.get(response.url) or self._seen.get(response.url) or (None, [])
            if body != response.body:
                items = decode(response)
            self._latest[response.url] = (response.body, items)
            return items

        return (await self._client.fetch(endpoint, decode_if_new)).value

    async def _current(self, rejected: ClientConfig | None) -> ClientConfig:
        """Return the Airflow connection. If Faraday has rejected its key, look it up again."""
        async with self._lookup:
            if self._config is None or self._config == rejected:
                self._config = await self._look_up()
            return self._config

    async def _look_up(self) -> ClientConfig:
        try:
            connection = await get_async_connection(self._conn_id)
        except Exception as error:  # whatever a secrets backend or Airflow's API raises
            raise lookup_error(self._conn_id, error) from None
        return client_config(connection)


def _too_slow(endpoint: Endpoint) -> FaradayTransportError:
    return FaradayTransportError(
        f"Faraday did not say within {PATIENCE_SECONDS:.0f} s which resources upstream are previews.",
        method=endpoint.method,
        path=endpoint.path,
    )
