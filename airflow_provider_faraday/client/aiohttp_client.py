"""Sends requests with aiohttp, in the triggerer's event loop."""

from __future__ import annotations

import asyncio
import os
import ssl
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import aiohttp
import certifi
import tenacity
from yarl import URL

from airflow_provider_faraday.api import responses, retries
from airflow_provider_faraday.api.endpoints import Endpoint
from airflow_provider_faraday.api.errors import FaradayError
from airflow_provider_faraday.client import errors
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.client.environment import next_link, user_agent, with_environment_proxy

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")

_LARGE_BYTES = 1024 * 1024

# Longer than the usual pause between polls.
_KEEP_ALIVE_SECONDS = 300

# Failures that come before a request is sent: resolving, connecting, the proxy's tunnel, TLS.
_BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)


@dataclass(frozen=True, slots=True)
class Seen:
    """The body of a response, and the items that were decoded from it."""

    body: bytes
    items: list[Any]


class AiohttpClient:
    """Sends requests to Faraday with the retry policy of both clients.

    Clients of an event loop share their TCP connections.

    Most polls bring back what the last one did. A body with the same bytes is not decoded again: the items
    are the same objects.

    :param config: the checked Airflow connection.
    """

    def __init__(self, config: ClientConfig) -> None:
        self.config = with_environment_proxy(config)
        self._shared: _SharedSession | None = None
        self._seen: dict[str, Seen] = {}
        self._latest: dict[str, Seen] = {}

    def end_poll(self) -> None:
        """Forget the responses to what was not requested since the last call."""
        self._seen, self._latest = self._latest, {}

    async def close(self) -> None:
        """Close the TCP connections, unless other clients use them."""
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.leave()

    async def fetch(self, endpoint: Endpoint, decode: responses.Decode[T]) -> list[T]:
        """Request an endpoint and return the items of all pages.

        :raises FaradayApiError: if it fails permanently, or still fails on the last attempt.
        """
        statistics: dict[str, Any] = {}
        first = responses.Request(endpoint, endpoint.url(self.config.base_url))
        steps: Generator[responses.Request, responses.Page[T], list[T]] = responses.pages(first)
        try:
            request = next(steps)
            while True:
                page: responses.Page[T] = await self._fetch_page(request, decode, statistics)
                try:
                    request = steps.send(page)
                except StopIteration as finished:
                    items: list[T] = finished.value
                    return items
        except FaradayError as error:
            failure = errors.final(error, self.config, statistics)
        # Raised here, so that the traceback shows no frames of libraries.
        raise failure.with_traceback(None)

    async def _fetch_page(
        self, request: responses.Request, decode: responses.Decode[T], statistics: dict[str, Any]
    ) -> responses.Page[T]:
        """Request a page, and retry.

        :param statistics: receives those of tenacity.
        """
        statistics.clear()
        try:
            return await self._attempt(request, decode)
        except FaradayError as error:
            failures = [error]

        # Tenacity takes a third of a poll's time, so only a failure of the first attempt is passed to it.
        async def attempt() -> responses.Page[T]:
            if failures:
                raise failures.pop()
            return await self._attempt(request, decode)

        retrying = tenacity.AsyncRetrying(**retries.policy(self.config.max_attempts))
        try:
            page: responses.Page[T] = await retrying(attempt)
        finally:
            statistics.update(retrying.statistics)
        return page

    async def _attempt(self, request: responses.Request, decode: responses.Decode[T]) -> responses.Page[T]:
        seen = self._latest.get(request.url) or self._seen.get(request.url)
        response = await self._send(request, seen.body if seen else b"")
        is_new = seen is None or response.body is not seen.body
        if is_new and len(response.body) > _LARGE_BYTES:
            # Other coroutines get their turn between reading a large body and decoding it.
            await asyncio.sleep(0)

        def decode_if_new(response: responses.Response) -> list[T]:
            items = decode(response) if seen is None or is_new else seen.items
            self._latest[request.url] = Seen(response.body, items)
            return items

        return responses.read_page(request, response, decode_if_new, datetime.now(UTC))

    async def _send(self, request: responses.Request, expected: bytes) -> responses.Response:
        # Errors are raised outside of the except block: those of aiohttp hold the request's headers.
        try:
            async with asyncio.timeout(self.config.connect_seconds + self.config.response_seconds) as whole:
                return await self._exchange(request, expected)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = _root(error)
            if isinstance(cause, ssl.SSLError):
                # The CA bundle may have changed since it was read.
                await self.close()
            # A URL that cannot be used raises ValueError. Errors of certificates are ValueErrors, too.
            if isinstance(error, aiohttp.InvalidURL) or not isinstance(error, (aiohttp.ClientError, OSError)):
                failure: FaradayError = errors.bad_url(request, self.config, error)
            elif whole.expired():
                failure = errors.response_timeout(request, self.config)
            else:
                sent = not isinstance(error, _BEFORE_SENDING)
                failure = errors.transport_error(request, self.config, cause, request_sent=sent)
        raise failure

    async def _exchange(self, request: responses.Request, expected: bytes) -> responses.Response:
        session = await self._ready_session()
        async with session.request(
            request.endpoint.method,
            URL(request.url, encoded=True),
            headers={"Authorization": f"Bearer {self.config.api_key}"},
            proxy=self.config.proxy,
            allow_redirects=False,
        ) as response:
            body = await _read(response.content.iter_any(), expected)
            if body is None:
                raise errors.too_large(request)
            link = partial(next_link, ", ".join(response.headers.getall("Link", [])))
            return responses.Response(response.status, response.headers, body, self.config.redact, link)

    async def _ready_session(self) -> aiohttp.ClientSession:
        tls = await _tls(self.config) if self._shared is None else False
        # Another request may have joined one meanwhile.
        if self._shared is None:
            self._shared = _SharedSession.join(tls, self.config)
        return self._shared.session


class _SharedSession:
    """A session of the clients in an event loop whose TLS settings and timeouts are the same.

    A thousand feeds that poll in turn need a few TCP connections, not a thousand.
    """

    _all: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, _SharedSession]]] = (
        weakref.WeakKeyDictionary()
    )

    def __init__(self, tls: ssl.SSLContext | bool, config: ClientConfig) -> None:
        self._clients = 0
        self.session = aiohttp.ClientSession(
            # Without a limit: those who wait for a slow server must not hold up the others.
            connector=aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=config.connect_seconds, sock_read=config.read_seconds
            ),
            headers={"User-Agent": user_agent(), "Accept": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
            # The limits of requests: a Link with a hundred ids exceeds those of aiohttp.
            max_line_size=65_536,
            max_field_size=65_536,
        )
        # aiohttp would resend a GET when a TCP connection breaks. The retry policy does that.
        self.session._retry_connection = False

    @classmethod
    def join(cls, tls: ssl.SSLContext | bool, config: ClientConfig) -> _SharedSession:
        """Return the session for these settings, which one more client uses from now on."""
        sessions = cls._all.setdefault(asyncio.get_running_loop(), {})
        key = (tls, config.connect_seconds, config.read_seconds)
        shared = sessions.get(key)
        if shared is None:
            shared = sessions[key] = cls(tls, config)
        shared._clients += 1
        return shared

    async def leave(self) -> None:
        """Close the session if no client uses it any more."""
        self._clients -= 1
        if not self._clients:
            sessions = self._all[asyncio.get_running_loop()]
            for key in [key for key, shared in sessions.items() if shared is self]:
                del sessions[key]
            await self.session.close()


async def _read(chunks: AsyncIterator[bytes], expected: bytes) -> bytes | None:
    """Return a body; ``expected`` itself if the bytes are the same, None if it is too large.

    A megabyte that is compared as it comes costs a third of one that is put together first.
    """
    size = 0
    different: list[bytes] = []
    async for chunk in chunks:
        if different or not expected.startswith(chunk, size):
            if not different:
                different.append(expected[:size])
            different.append(chunk)
        size += len(chunk)
        if size > errors.MAX_BODY_BYTES:
            return None
    if different:
        return b"".join(different)
    return expected if size == len(expected) else expected[:size]


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


async def _tls(config: ClientConfig) -> ssl.SSLContext | bool:
    if config.base_url.startswith("http:"):
        return True
    verify = config.verify
    if verify is None or verify is True:
        # As requests does it, so that workers and triggerer trust the same certificates.
        verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    return await asyncio.to_thread(_tls_context, verify)


def _tls_context(verify: bool | str) -> ssl.SSLContext:
    if verify is False:
        return _load(None, ())
    bundle = certifi.where() if verify is True else verify
    status = Path(bundle).stat()
    return _load(bundle, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=16)
def _load(bundle: str | None, version: tuple[int, ...]) -> ssl.SSLContext:
    """Load a CA bundle. Reading a hundred certificates takes as long as a poll: once for all feeds.

    :param version: differs when the file has changed.
    """
    if bundle is None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if Path(bundle).is_dir():
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
