"""Sends requests with aiohttp, in the triggerer's event loop."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import tenacity
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from airflow_provider_faraday.api import errors, retries
from airflow_provider_faraday.api.endpoints import Endpoint
from airflow_provider_faraday.api.errors import (
    FaradayAuthenticationError,
    FaradayError,
    FaradayResponseError,
    Request,
)
from airflow_provider_faraday.api.responses import Decode, Exchange, Fetched, Remembering, Response
from airflow_provider_faraday.client.config import ClientConfig, ca_bundle
from airflow_provider_faraday.client.environment import next_link, user_agent, with_environment_proxy

T = TypeVar("T")

# A triggerer runs the triggers of many tasks, so that one response must not use up its memory.
MAX_BODY_BYTES = 512 * 1024 * 1024
"""The largest response to read, decompressed: about 150,000 datasets."""

_LARGE_BYTES = 1024 * 1024

# Longer than the usual pause between polls.
_KEEP_ALIVE_SECONDS = 300

# Failures that come before a request is sent: resolving, connecting, the proxy's tunnel, TLS.
_BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)


class AiohttpClient:
    """Sends requests to Faraday with the retry policy of both clients.

    :param look_up: returns the configuration: for None that for the next call, and for one that Faraday has
        rejected with 401 a newer one. If that differs, the request is sent once more.
    """

    def __init__(self, look_up: Callable[[ClientConfig | None], Awaitable[ClientConfig]]) -> None:
        self._look_up = look_up
        self._session: _Session | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Close the TCP connections, once the last call has ended."""
        session, self._session = self._session, None
        if session and not session.calls:
            await session.close()

    async def fetch(
        self, endpoint: Endpoint, decode: Decode[T], *, seconds: float | None = None
    ) -> Fetched[T]:
        """Request an endpoint, with all pages.

        :param seconds: the longest that a request may take. Once it has taken that long with its retries, it
            is not retried again; waiting for a ``Retry-After`` does not count.
        :raises FaradayApiError: if it fails permanently, or still fails on the last attempt.
        """
        config = await self._look_up(None)
        try:
            return await self._fetch(config, endpoint, decode, seconds)
        except FaradayAuthenticationError:
            newer = await self._look_up(config)
            if newer == config:
                raise
        return await self._fetch(newer, endpoint, decode, seconds)

    async def _fetch(
        self, config: ClientConfig, endpoint: Endpoint, decode: Decode[T], seconds: float | None
    ) -> Fetched[T]:
        last_body = decode.body if isinstance(decode, Remembering) else b""
        try:
            async with self._ready_session(config, endpoint) as session:
                exchange = Exchange(session.config.request(endpoint), decode)
                while exchange.next_request:
                    policy = retries.policy(config.max_attempts, seconds)
                    async for attempt in tenacity.AsyncRetrying(**policy):
                        with attempt:
                            await session.send_next(exchange, seconds, last_body)
                return exchange.fetched
        except FaradayError as error:
            # Without the frames of tenacity.
            raise error.with_traceback(None) from None

    @asynccontextmanager
    async def _ready_session(self, config: ClientConfig, endpoint: Endpoint) -> AsyncIterator[_Session]:
        """Open a session, unless that of the last call has the same configuration."""
        async with self._opening:
            session = self._session
            if session is None or not (session.looked_up is config or session.looked_up == config):
                await self.close()
                session = self._session = await _Session.open(config, endpoint)
        session.calls += 1
        try:
            yield session
        finally:
            session.calls -= 1
            if session is not self._session and not session.calls:
                await session.close()


class _Session:
    """The TCP connections for one configuration.

    :ivar looked_up: the configuration as it was looked up.
    :ivar config: the same, with the proxy of the environment. It may have a password, too, that no error may
        show.
    :ivar calls: how many calls are using it.
    """

    def __init__(self, looked_up: ClientConfig, tls: ssl.SSLContext | bool) -> None:
        self.looked_up = looked_up
        self.config = with_environment_proxy(looked_up)
        self.calls = 0
        self._session = aiohttp.ClientSession(
            # Without a limit: calls that wait for a slow server must not hold up the others.
            connector=aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            headers={
                "Authorization": f"Bearer {looked_up.api_key}",
                "User-Agent": user_agent(),
                "Accept": "application/json",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            # The limits of requests: a Link with a hundred ids exceeds those of aiohttp.
            max_line_size=65_536,
            max_field_size=65_536,
        )

    @classmethod
    async def open(cls, config: ClientConfig, endpoint: Endpoint) -> _Session:
        """Return a new session.

        :param endpoint: of the first call, for errors.
        """
        if config.base_url.startswith("http:"):
            return cls(config, True)
        try:
            # Reading a hundred certificates takes as long as a poll.
            return cls(config, await asyncio.to_thread(_tls_context, config.verify))
        except OSError as error:
            raise errors.transport_error(config.request(endpoint), error, request_sent=False) from None

    async def close(self) -> None:
        """Close the TCP connections."""
        await self._session.close()

    async def send_next(self, exchange: Exchange[Any], seconds: float | None, last_body: bytes) -> None:
        """Send the next request of an exchange once.

        :param last_body: the body that is expected.
        """
        assert exchange.next_request is not None
        response = await self._send(exchange.next_request, seconds, last_body)
        if len(response.body) > _LARGE_BYTES:
            # Other coroutines get their turn between reading a large body and decoding it.
            await asyncio.sleep(0)
        exchange.receive(response)

    async def _send(self, request: Request, seconds: float | None, last_body: bytes) -> Response:
        config = self.config
        limits = aiohttp.ClientTimeout(
            total=seconds,
            sock_connect=config.connect_seconds,
            sock_read=config.read_seconds,
        )
        try:
            async with self._session.request(
                request.method, request.url, proxy=config.proxy, allow_redirects=False, timeout=limits
            ) as response:
                body = await _read(request, response, last_body)
                links = ", ".join(response.headers.getall("Link", ()))
                link = next_link(links) if links else None
                return Response(response.status, response.headers, body, link)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            sent = not isinstance(error, _BEFORE_SENDING)
            failure = errors.transport_error(request, _root(error), request_sent=sent)
        # Outside of the except block: exceptions of aiohttp hold the request's headers.
        raise failure


async def _read(request: Request, response: aiohttp.ClientResponse, last_body: bytes) -> bytes:
    """Return the body; ``last_body`` itself if it has the same bytes.

    Comparing each chunk costs a third of putting a body of megabytes together.
    """
    chunks: list[bytes] = []
    size, is_same = 0, True
    async for chunk in response.content.iter_any():
        if is_same and not last_body.startswith(chunk, size):
            is_same = False
            chunks.append(last_body[:size])
        if not is_same:
            chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            message = f"Faraday's response is larger than {MAX_BODY_BYTES:,} bytes."
            raise errors.api_error(FaradayResponseError, request, message)
    if is_same:
        return last_body if size == len(last_body) else last_body[:size]
    return b"".join(chunks)


def _root(error: BaseException) -> BaseException:
    """Return what aiohttp wrapped in an error that quotes its own classes."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return error.certificate_error
        case aiohttp.ClientConnectorError():
            return error.os_error
        case aiohttp.ClientResponseError():
            return ConnectionError(error.message)
        case TimeoutError():
            return TimeoutError("timed out")
    return error


def _tls_context(verify: bool | str | None) -> ssl.SSLContext | bool:
    if verify is False:
        return False
    bundle = ca_bundle(verify) or DEFAULT_CA_BUNDLE_PATH
    if stat.S_ISDIR(os.stat(bundle).st_mode):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
