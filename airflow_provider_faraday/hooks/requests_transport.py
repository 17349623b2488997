"""Sends Faraday calls with requests, for workers."""

from __future__ import annotations

import http.client
import io
import ssl
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import tenacity
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util.response import assert_header_parsing

from airflow_provider_faraday.api import responses, retries
from airflow_provider_faraday.api.calls import ApiCall
from airflow_provider_faraday.api.config import BODY_TIMEOUTS, ClientConfig, origin
from airflow_provider_faraday.api.errors import FaradayConfigurationError
from airflow_provider_faraday.hooks.proxies import environment_proxy
from airflow_provider_faraday.hooks.user_agent import user_agent

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator

T = TypeVar("T")

_CHUNK_BYTES = 256 * 1024

# Failures that surely come before a request is sent: resolving, connecting, checking the certificate.
_BEFORE_SENDING = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    ssl.SSLCertVerificationError,
)


class FaradaySession(requests.Session):
    """A ``requests.Session`` set up for Faraday: its key, timeouts, proxy and certificates.

    The key goes to the configured origin alone, on redirects as well.
    """

    def __init__(self, config: ClientConfig) -> None:
        super().__init__()
        self.headers.update({"User-Agent": user_agent(), "Accept": "application/json"})
        self.auth = _BearerAuth(config)
        self.mount("https://", _Adapter())
        self.mount("http://", _Adapter())
        self._timeout = (config.connect_seconds, config.read_seconds)
        self._proxy = config.proxy
        self._verify = config.verify

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self._timeout
        return super().send(request, **kwargs)

    def resolve_redirects(self, *args: Any, yield_requests: bool = False, **kwargs: Any) -> Any:
        # requests reads the body and Location even where it does not follow them, and fails on a bad one.
        return iter(()) if yield_requests else super().resolve_redirects(*args, **kwargs)

    def should_strip_auth(self, old_url: str, new_url: str) -> bool:
        return origin(old_url) != origin(new_url)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        # requests lets the environment win over a session's own proxy and certificates.
        if self._proxy and not proxies:
            proxies = {"http": self._proxy, "https": self._proxy}
        if verify is None:
            verify = self._verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


class _BearerAuth(AuthBase):
    def __init__(self, config: ClientConfig) -> None:
        self._config = config

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if origin(str(request.url)) == origin(self._config.base_url):
            request.headers["Authorization"] = f"Bearer {self._config.api_key}"
        return request


class _Adapter(HTTPAdapter):
    """Has answers read by :class:`_Answer`."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if pool.ConnectionCls.response_class is not _Answer:
            pool.ConnectionCls = type("Connection", (pool.ConnectionCls,), {"response_class": _Answer})
        return pool


class _Answer(http.client.HTTPResponse):
    """An answer that ends in time, and whose head is good and final."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = io.BufferedReader(_EndingStream(sock, self.fp.detach()))

    def begin(self) -> None:
        super().begin()
        # Early hints and the like come before the answer; http.client passes over 100 alone.
        while 102 <= self.status < 200:
            self.headers = None  # type: ignore[assignment]
            super().begin()
        try:
            # urllib3 would log such a line as it is, and go on without the headers below it.
            assert_header_parsing(self.msg)
        except urllib3.exceptions.HeaderParsingError:
            raise http.client.HTTPException("its head has a line that is no header") from None


class _EndingStream(io.RawIOBase):
    """What arrives at a socket, for as long as a whole answer may take, however steadily it trickles in."""

    def __init__(self, sock: socket.socket, stream: io.RawIOBase) -> None:
        self._sock = sock
        self._stream = stream
        self._silence = sock.gettimeout()
        self._ends_at = time.monotonic() + BODY_TIMEOUTS * (self._silence or 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._silence is not None:
            left = self._ends_at - time.monotonic()
            if left <= 0:
                raise TimeoutError("The answer took too long")
            self._sock.settimeout(min(self._silence, left))
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class RequestsTransport:
    """Calls Faraday over one session, with the retries of :mod:`airflow_provider_faraday.api.retries`."""

    def __init__(self, config: ClientConfig) -> None:
        self.session = FaradaySession(config)
        # The environment's proxy, too, may have a password that no error may show.
        self.config = replace(config, proxy=config.proxy or environment_proxy(config.base_url))

    def close(self) -> None:
        self.session.close()

    def fetch(self, call: ApiCall, decode: responses.Decode[T]) -> list[T]:
        """Make a call and give the items of all its pages.

        :raises FaradayApiError: where it fails for good, or still fails when the attempts are spent.
        """
        steps: Generator[responses.Request, responses.Page[T], list[T]] = responses.pages(call, self.config)
        retrying = tenacity.Retrying(**retries.policy(self.config.max_attempts))
        request = next(steps)
        while True:
            page = retrying(self._attempt, request, decode)
            try:
                request = steps.send(page)
            except StopIteration as finished:
                items: list[T] = finished.value
                return items

    def _attempt(self, request: responses.Request, decode: responses.Decode[T]) -> responses.Page[T]:
        answer = self._send(request)
        return responses.read_page(request, answer, self.config, decode, datetime.now(UTC))

    def _send(self, request: responses.Request) -> responses.Answer:
        # The error is raised outside the except block: requests' own exception holds the request's headers.
        started = time.monotonic()
        try:
            with self.session.request(
                request.call.method, request.url, stream=True, allow_redirects=False
            ) as response:
                body = self._read(request, response)
                return responses.Answer(response.status_code, response.headers, body)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            failure: Exception = FaradayConfigurationError(
                f"Airflow connection '{self.config.conn_id}' cannot be used: "
                f"{self.config.redact(str(error))}. Check its host and its extra 'proxy'."
            )
        except (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
            cause = _root(error)
            sent = not isinstance(cause, _BEFORE_SENDING)
            seconds = self.config.body_seconds
            if sent and time.monotonic() - started > seconds:
                failure = responses.given_up(request, f"it took longer than {seconds:.0f} seconds")
            else:
                failure = responses.unreachable(request, self.config, cause, request_sent=sent)
        raise failure

    def _read(self, request: responses.Request, response: requests.Response) -> bytes:
        body = bytearray()
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > responses.MAX_BODY_BYTES:
                raise responses.given_up(request, f"it is larger than {responses.MAX_BODY_BYTES:,} bytes")
        return bytes(body)


def _root(error: BaseException) -> BaseException:
    """Give what requests and urllib3 wrapped: its sentence is short, and its class says when it happened."""
    while not isinstance(error, _BEFORE_SENDING):
        inner = getattr(error, "original_error", None) or getattr(error, "reason", None)
        inner = inner or next((part for part in error.args if isinstance(part, BaseException)), None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error
