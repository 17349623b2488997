"""Polls a source in the triggerer: fetches, follows key rotations, and keeps one batch's errors from
others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow.providers.common.compat.connection import get_async_connection

from airflow_provider_faraday.api.errors import (
    FaradayAuthenticationError,
    FaradayError,
    FaradayTransportError,
)
from airflow_provider_faraday.api.readiness import Criteria, ResourceState, Verdict, assess
from airflow_provider_faraday.api.responses import decode_states
from airflow_provider_faraday.client.aiohttp_client import AiohttpClient
from airflow_provider_faraday.client.config import client_config

if TYPE_CHECKING:
    from airflow_provider_faraday.api.endpoints import Endpoint
    from airflow_provider_faraday.api.resources import ResourceType
    from airflow_provider_faraday.client.config import ClientConfig
    from airflow_provider_faraday.waiting.source import Source

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Poll:
    """What one poll of a source brought.

    :param began_at: the event loop's time before the first request.
    :param states: what Faraday returned.
    :param error: what failed the whole poll.
    :param error_by_id: what failed the batch in which a resource was requested by id.
    """

    resource_type: ResourceType
    began_at: float
    states: list[ResourceState] = field(default_factory=list)
    error: FaradayError | None = None
    error_by_id: dict[str, FaradayError] = field(default_factory=dict)
    _verdicts: dict[tuple[Criteria, tuple[str, ...] | None], Verdict] = field(default_factory=dict)
    _by_id: dict[str, list[ResourceState]] = field(default_factory=dict)

    def states_of(self, ids: Iterable[str] | None) -> list[ResourceState]:
        """Return the states of these resources; None for all."""
        if ids is None:
            return self.states
        # Hundreds of subscribers may each wait for one of hundreds of resources: index them once.
        if not self._by_id:
            for state in self.states:
                self._by_id.setdefault(state.id.lower(), []).append(state)
        return [state for id_ in ids for state in self._by_id.get(id_, ())]

    def error_of(self, ids: Iterable[str] | None) -> FaradayError | None:
        """Return what failed the requests for these resources, if anything; None for all."""
        if self.error or not self.error_by_id:
            return self.error
        return next((self.error_by_id[id_] for id_ in ids or () if id_ in self.error_by_id), None)

    def verdict(self, criteria: Criteria, ids: tuple[str, ...] | None) -> Verdict:
        """Judge the states. Subscribers with equal criteria share the verdict.

        :raises FaradayInputError: see :func:`~airflow_provider_faraday.api.readiness.assess`.
        """
        key = (criteria, ids)
        if key not in self._verdicts:
            self._verdicts[key] = assess(self.resource_type, self.states_of(ids), criteria, ids)
        return self._verdicts[key]


class Poller:
    """Polls a source with the Airflow connection as it is stored now.

    A failed lookup of the Airflow connection is a transient error: on Airflow 3 "not found" is also what a
    secrets backend's failure looks like. The client that works is kept until its key is rejected.

    :param keep_alive: seconds to keep an idle TCP connection open.
    """

    def __init__(self, faraday_conn_id: str, source: Source, *, keep_alive: float) -> None:
        self._conn_id = faraday_conn_id
        self._source = source
        self._keep_alive = keep_alive
        self._client: AiohttpClient | None = None

    async def close(self) -> None:
        """Close the TCP connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def poll(self, ids: Sequence[str]) -> Poll:
        """Poll once; what fails is part of the result.

        :param ids: the resources to request, for a source by id.
        """
        poll = Poll(self._source.type, asyncio.get_running_loop().time())
        for endpoint in self._source.endpoints(ids):
            try:
                poll.states += await self._fetch(endpoint)
            except FaradayError as error:
                batch = [value for name, value in endpoint.query if name == "ids"]
                if not batch or self._client is None or isinstance(error, FaradayAuthenticationError):
                    # Not about these resources: other requests would fail the same way.
                    poll.error = error
                    break
                poll.error_by_id |= dict.fromkeys(batch, error)
        return poll

    async def _fetch(self, endpoint: Endpoint) -> list[ResourceState]:
        decode = decode_states(self._source.type)
        if self._client is None:
            self._client = self._new_client(await self._look_up())
        try:
            return await self._client.fetch(endpoint, decode)
        except FaradayAuthenticationError:
            config = await self._look_up()
            if config.api_key == self._client.config.api_key:
                raise
        log.info("The API key of the Airflow connection '%s' was replaced. Using the new one.", self._conn_id)
        await self._client.close()
        self._client = self._new_client(config)
        return await self._client.fetch(endpoint, decode)

    def _new_client(self, config: ClientConfig) -> AiohttpClient:
        return AiohttpClient(config, keep_alive=self._keep_alive)

    async def _look_up(self) -> ClientConfig:
        try:
            connection = await get_async_connection(self._conn_id)
        except Exception as error:  # whatever a secrets backend or Airflow's API raises
            failure = FaradayTransportError(
                # Not the exception's text, which may quote a secret.
                f"The Airflow connection '{self._conn_id}' could not be looked up: {type(error).__name__}.",
                request_sent=False,
            )
        else:
            return client_config(connection)
        raise failure
