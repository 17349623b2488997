"""Sends Faraday calls with aiohttp, for the triggerer's event loop."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import aiohttp
import certifi
import tenacity
from multidict import CIMultiDict
from yarl import URL

from airflow_provider_faraday.api import responses, retries
from airflow_provider_faraday.api.calls import ApiCall
from airflow_provider_faraday.api.config import ClientConfig
from airflow_provider_faraday.api.errors import FaradayConfigurationError
from airflow_provider_faraday.hooks.proxies import environment_proxy
from airflow_provider_faraday.hooks.user_agent import user_agent

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")

_CHUNK_BYTES = 256 * 1024
_LARGE_BYTES = 1024 * 1024

# Failures that come before a request is sent: resolving, connecting, the proxy's tunnel, TLS.
_BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)


class AiohttpTransport:
    """Calls Faraday over one session, with the retries of :mod:`airflow_provider_faraday.api.retries`.

    :param config: the checked Airflow connection.
    :param keep_alive: seconds that an idle TCP connection stays open: longer than the pause between polls.
    """

    def __init__(self, config: ClientConfig, *, keep_alive: float) -> None:
        self.config = replace(config, proxy=config.proxy or environment_proxy(config.base_url))
        self._keep_alive = keep_alive
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(self, call: ApiCall, decode: responses.Decode[T]) -> list[T]:
        """Make a call and give the items of all its pages.

        :raises FaradayApiError: where it fails for good, or still fails when the attempts are spent.
        """
        steps: Generator[responses.Request, responses.Page[T], list[T]] = responses.pages(call, self.config)
        retrying = tenacity.AsyncRetrying(**retries.policy(self.config.max_attempts))
        request = next(steps)
        while True:
            page: responses.Page[T] = await retrying(self._attempt, request, decode)
            try:
                request = steps.send(page)
            except StopIteration as finished:
                items: list[T] = finished.value
                return items

    async def _attempt(self, request: responses.Request, decode: responses.Decode[T]) -> responses.Page[T]:
        answer = await self._send(request)
        if len(answer.body) > _LARGE_BYTES:
            # Others get their turn between reading a large body and decoding it.
            await asyncio.sleep(0)
        return responses.read_page(request, answer, self.config, decode, datetime.now(UTC))

    async def _send(self, request: responses.Request) -> responses.Answer:
        # The error is raised outside the except block: aiohttp's own exception holds the request's headers.
        seconds = self.config.connect_seconds + self.config.body_seconds
        try:
            async with asyncio.timeout(seconds) as whole:
                return await self._exchange(request)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # A URL that cannot be used raises ValueError, of which errors of certificates are a kind, too.
            if isinstance(error, aiohttp.InvalidURL) or not isinstance(error, (aiohttp.ClientError, OSError)):
                failure: Exception = FaradayConfigurationError(
                    f"Airflow connection '{self.config.conn_id}' cannot be used: "
                    f"{self.config.redact(str(error))}. Check its host and its extra 'proxy'."
                )
            elif whole.expired():
                failure = responses.given_up(request, f"it took longer than {seconds:.0f} seconds")
            else:
                sent = not isinstance(error, _BEFORE_SENDING)
                failure = responses.unreachable(request, self.config, error, request_sent=sent)
        raise failure

    async def _exchange(self, request: responses.Request) -> responses.Answer:
        session = await self._ready_session()
        async with session.request(
            request.call.method,
            URL(request.url, encoded=True),
            headers={"Authorization": f"Bearer {self.config.api_key}"},
            proxy=self.config.proxy,
            allow_redirects=False,
        ) as response:
            chunks: list[bytes] = []
            size = 0
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                chunks.append(chunk)
                size += len(chunk)
                if size > responses.MAX_BODY_BYTES:
                    raise responses.given_up(request, f"it is larger than {responses.MAX_BODY_BYTES:,} bytes")
            # A header that came several times is one list, as requests has it.
            headers = CIMultiDict(
                (name, ", ".join(response.headers.getall(name))) for name in dict.fromkeys(response.headers)
            )
            return responses.Answer(response.status, headers, b"".join(chunks))

    async def _ready_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=await _tls(self.config), keepalive_timeout=self._keep_alive
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=self.config.connect_seconds,
                    sock_read=self.config.read_seconds,
                ),
                headers={"User-Agent": user_agent(), "Accept": "application/json"},
                cookie_jar=aiohttp.DummyCookieJar(),
                # As wide as a worker takes them: a Link with a hundred ids is longer than aiohttp's default.
                max_line_size=65_536,
                max_field_size=65_536,
            )
            # aiohttp would send a GET once more by itself when a connection breaks: the policy does that.
            self._session._retry_connection = False
        return self._session


async def _tls(config: ClientConfig) -> ssl.SSLContext | bool:
    if config.base_url.startswith("http:"):
        return True
    verify = config.verify
    if verify is None or verify is True:
        # As requests does it, so that a worker and a triggerer trust the same certificates.
        verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    # Reading a hundred certificates takes as long as a poll: in a thread, and once for all feeds.
    return await asyncio.to_thread(_tls_context, verify)


@cache
def _tls_context(verify: bool | str) -> ssl.SSLContext:
    if verify is False:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    bundle = Path(certifi.where() if verify is True else verify)
    if bundle.is_dir():
        return ssl.create_default_context(capath=str(bundle))
    return ssl.create_default_context(cafile=str(bundle))
