"""Sends requests with aiohttp, in the triggerer's event loop."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from collections.abc import Awaitable, Callable
from typing import TypeVar

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
from airflow_provider_faraday.client.environment import next_link, user_agent

T = TypeVar("T")

# A triggerer runs the triggers of many tasks, so that one response must not use up its memory.
MAX_BODY_BYTES = 512 * 1024 * 1024
"""The largest response to read, decompressed: about 150,000 datasets."""

# Longer than the usual pause between polls.
_KEEP_ALIVE_SECONDS = 300

# Failures that come before a request is sent: resolving, connecting, the proxy's tunnel, TLS.
_BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)


class AiohttpClient:
    """Sends requests to Faraday with the retry policy of both clients. Create it in an event loop.

    :param look_up: returns the configuration: for None that for the next call, and for one that Faraday has
        rejected with 401 a newer one. If that differs, the request is sent once more.
    """

    def __init__(self, look_up: Callable[[ClientConfig | None], Awaitable[ClientConfig]]) -> None:
        self._look_up = look_up
        self._session = aiohttp.ClientSession(
            # Without a limit: calls that wait for a slow server must not hold up the others.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            headers={"User-Agent": user_agent(), "Accept": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
            # The limits of requests: a Link with a hundred ids exceeds those of aiohttp.
            max_line_size=65_536,
            max_field_size=65_536,
        )
        self._tls: tuple[ClientConfig, ssl.SSLContext | bool] | None = None
        self._reading_certificates = asyncio.Lock()

    async def close(self) -> None:
        """Close the TCP connections."""
        await self._session.close()

    async def fetch(self, endpoint: Endpoint, decode: Decode[T], *, seconds: float) -> Fetched[T]:
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
        self, config: ClientConfig, endpoint: Endpoint, decode: Decode[T], seconds: float
    ) -> Fetched[T]:
        exchange = Exchange(config.request(endpoint), decode)
        expected = decode.body if isinstance(decode, Remembering) else b""
        try:
            while exchange.next_request:
                policy = retries.policy(config.max_attempts, seconds)
                pauses: list[float] = []
                # AsyncRetrying, which would sleep by itself, takes a tenth of a poll's CPU time.
                for attempt in tenacity.Retrying(**policy, sleep=pauses.append):
                    if pauses:
                        await asyncio.sleep(pauses[-1])
                    with attempt:
                        exchange.receive(await self._send(exchange.next_request, config, seconds, expected))
            return exchange.fetched
        except FaradayError as error:
            # Without the frames of tenacity.
            raise error.with_traceback(None) from None

    async def _send(
        self, request: Request, config: ClientConfig, seconds: float, expected: bytes
    ) -> Response:
        """Send a request once.

        :param expected: the body, if the response has not changed.
        """
        limits = aiohttp.ClientTimeout(
            total=seconds,
            sock_connect=config.connect_seconds,
            sock_read=config.read_seconds,
        )
        try:
            async with self._session.request(
                request.method,
                request.url,
                headers={"Authorization": f"Bearer {config.api_key}"},
                proxy=config.proxy_url,
                ssl=await self._tls_for(config),
                allow_redirects=False,
                timeout=limits,
            ) as response:
                link = next_link(", ".join(response.headers.getall("Link", ())))
                body = await _read(request, response, expected)
                return Response(response.status, response.headers, body, link)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            sent = not isinstance(error, _BEFORE_SENDING)
            failure = errors.transport_error(request, _root(error), request_sent=sent)
        # Outside of the except block: exceptions of aiohttp hold the request's headers.
        raise failure

    async def _tls_for(self, config: ClientConfig) -> ssl.SSLContext | bool:
        """Return the certificates to trust, which are read once per configuration."""
        if config.base_url.startswith("http:"):
            return True
        async with self._reading_certificates:
            if self._tls is None or self._tls[0] != config:
                # In a thread: reading a hundred certificates takes as long as many polls.
                self._tls = config, await asyncio.to_thread(_tls_context, config.verify)
            return self._tls[1]


async def _read(request: Request, response: aiohttp.ClientResponse, expected: bytes) -> bytes:
    """Return the body. If it is the expected one, it is not copied: comparing megabytes is faster."""
    same = size = 0
    rest: list[bytes] = []
    async for chunk in response.content.iter_any():
        if not rest and expected.startswith(chunk, same):
            same += len(chunk)
        else:
            rest.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            message = f"Faraday's response is larger than {MAX_BODY_BYTES:,} bytes."
            raise errors.api_error(FaradayResponseError, request, message)
    return b"".join([expected[:same], *rest])


def _root(error: BaseException) -> BaseException:
    """Return what aiohttp wrapped in an error that quotes its own classes."""
    if isinstance(error, aiohttp.ClientResponseError):
        return ConnectionError(error.message)
    return TimeoutError("timed out") if isinstance(error, TimeoutError) else error.__cause__ or error


def _tls_context(verify: bool | str | None) -> ssl.SSLContext | bool:
    if verify is False:
        return False
    bundle = ca_bundle(verify) or DEFAULT_CA_BUNDLE_PATH
    # Unlike isdir and ssl, stat raises an error that names the path.
    if stat.S_ISDIR(os.stat(bundle).st_mode):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
