"""Sends requests with aiohttp, in the triggerer's event loop."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TypeVar

import aiohttp
import tenacity
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from airflow_provider_faraday.api import errors, responses, retries
from airflow_provider_faraday.api.endpoints import Endpoint
from airflow_provider_faraday.api.errors import FaradayAuthenticationError, FaradayError, Request
from airflow_provider_faraday.api.responses import Decode, Exchange, Fetched, Response
from airflow_provider_faraday.client.config import ClientConfig, ca_bundle
from airflow_provider_faraday.client.environment import next_link, user_agent, with_environment_proxy

T = TypeVar("T")

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
        """Close the TCP connections, when the last request has ended."""
        session, self._session = self._session, None
        if session is not None:
            await session.retire()

    async def fetch(
        self, endpoint: Endpoint, decode: Decode[T], *, seconds: float | None = None
    ) -> Fetched[T]:
        """Request an endpoint, with redirects and all pages.

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
        request = Request(
            endpoint.method, endpoint.path, endpoint.url(config.base_url), config.conn_id, endpoint.private
        )
        limits = aiohttp.ClientTimeout(
            total=seconds and max(seconds, config.read_seconds),
            sock_connect=config.connect_seconds,
            sock_read=config.read_seconds,
        )
        exchange = Exchange(request, decode)

        async def attempt() -> None:
            response = await session.send(request, limits)
            if len(response.body) > _LARGE_BYTES:
                # Other coroutines get their turn between reading a large body and decoding it.
                await asyncio.sleep(0)
            exchange.receive(request, response, datetime.now(UTC))

        try:
            async with await self._ready_session(config, request) as session:
                while exchange.next_request:
                    request = exchange.next_request
                    await tenacity.AsyncRetrying(**retries.policy(config.max_attempts, seconds))(attempt)
        except FaradayError as error:
            # Without the frames of tenacity.
            raise error.with_traceback(None) from None
        return exchange.fetched

    async def _ready_session(self, config: ClientConfig, request: Request) -> _Session:
        session = self._session
        if session is None or session.looked_up != config:
            async with self._opening:
                # Another request may have opened it meanwhile.
                session = self._session
                if session is None or session.looked_up != config:
                    await self.close()
                    session = self._session = await _Session.open(config, request)
        return session


class _Session:
    """The TCP connections for one configuration. Closed when it was replaced and its last call has ended."""

    def __init__(self, looked_up: ClientConfig, tls: ssl.SSLContext | bool) -> None:
        self.looked_up = looked_up
        # The proxy of the environment may have a password, too, that no error may show.
        self._config = with_environment_proxy(looked_up)
        self._calls = 0
        self._is_retired = False
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
    async def open(cls, config: ClientConfig, request: Request) -> _Session:
        """Return a new session.

        :param request: the first request, for errors.
        """
        if config.base_url.startswith("http:"):
            return cls(config, True)
        try:
            # Reading a hundred certificates takes as long as a poll.
            return cls(config, await asyncio.to_thread(_tls_context, config.verify))
        except OSError as error:
            raise errors.transport_error(
                request, error, request_sent=False, through_proxy=False, redact=config.redact
            ) from None

    async def __aenter__(self) -> _Session:
        self._calls += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls -= 1
        await self._close_if_unused()

    async def retire(self) -> None:
        """Close it, when its last call has ended."""
        self._is_retired = True
        await self._close_if_unused()

    async def _close_if_unused(self) -> None:
        if self._is_retired and not self._calls:
            await self._session.close()

    async def send(self, request: Request, limits: aiohttp.ClientTimeout) -> Response:
        """Send a request once, and return the complete response."""
        try:
            async with self._session.request(
                request.method,
                request.url,
                proxy=self._config.proxy,
                allow_redirects=False,
                timeout=limits,
            ) as response:
                body = await _read(request, response)
                links = ", ".join(response.headers.getall("Link", ()))
                return Response(
                    response.status,
                    response.headers,
                    body,
                    request.url,
                    self._config.redact,
                    next_link(links) if links else None,
                )
        except aiohttp.InvalidURL as error:
            failure = errors.bad_url_error(request, error, self._config.redact)
        except (aiohttp.ClientError, OSError) as error:
            failure = errors.transport_error(
                request,
                _root(error),
                request_sent=not isinstance(error, _BEFORE_SENDING),
                through_proxy=bool(self._config.proxy),
                redact=self._config.redact,
            )
        except ValueError as error:
            failure = errors.bad_url_error(request, error, self._config.redact)
        # Outside of the except block: exceptions of aiohttp hold the request's headers.
        raise failure


async def _read(request: Request, response: aiohttp.ClientResponse) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > responses.MAX_BODY_BYTES:
            raise responses.too_large_error(request)
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


def _tls_context(verify: bool | str | None) -> ssl.SSLContext:
    if verify is False:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    bundle = ca_bundle(verify) or DEFAULT_CA_BUNDLE_PATH
    if stat.S_ISDIR(os.stat(bundle).st_mode):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
