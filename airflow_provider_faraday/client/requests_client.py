"""Sends requests with requests, in workers."""

from __future__ import annotations

import http.client
import logging
import ssl
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import tenacity
import urllib3

from airflow_provider_faraday.api import errors, responses, retries
from airflow_provider_faraday.api.endpoints import Endpoint, origin
from airflow_provider_faraday.api.errors import (
    TRY_LATER,
    FaradayAuthenticationError,
    FaradayError,
    FaradayInputError,
    FaradayResponseError,
    Request,
)
from airflow_provider_faraday.api.responses import Decode, Exchange, Fetched, Response
from airflow_provider_faraday.client.config import ClientConfig, log_new_fields
from airflow_provider_faraday.client.environment import next_link, user_agent

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from datetime import datetime

log = logging.getLogger(__name__)

T = TypeVar("T")

# Small enough for the caches of the CPU, in which a chunk of a file is then written and hashed.
_CHUNK_BYTES = 512 * 1024

_FILE_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity"}

# Failures that certainly come before a request is sent: resolving, connecting, verifying the certificate.
_BEFORE_SENDING = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    ssl.SSLCertVerificationError,
)
_NETWORK_ERRORS = (OSError, ValueError, urllib3.exceptions.HTTPError, http.client.HTTPException)


def _shows_no_secret(record: logging.LogRecord) -> bool:
    """Drop what urllib3 logs of queries, such as signatures, and of headers that may echo the API key."""
    of_headers = str(record.msg).startswith("Failed to parse headers")
    return not (of_headers or (record.levelno == logging.DEBUG and "?" in record.getMessage()))


for _module in ("connection", "connectionpool"):
    logging.getLogger(f"urllib3.{_module}").addFilter(_shows_no_secret)


class _SourceError(Exception):
    """The body of a request could not be read. Not an OSError, which would mean the network."""


class _Body:
    """An iterable of a known size as the body of a request."""

    def __init__(self, chunks: Iterable[bytes], size: int) -> None:
        self._chunks = chunks
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except Exception as error:
            raise _SourceError from error


class FaradaySession(requests.Session):
    """A ``requests.Session`` with Faraday's API key, timeouts, proxy and certificates.

    It sends the key to the configured origin only, redirects included.
    """

    def __init__(self, config: ClientConfig) -> None:
        super().__init__()
        self.headers.update({"User-Agent": user_agent(), "Accept": "application/json"})
        self.config = config
        self.auth = self._authenticate

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = (self.config.connect_seconds, self.config.read_seconds)
        return super().send(request, **kwargs)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        # Called for each redirect. The method of requests would add credentials from ~/.netrc.
        before, after = origin(response.url), None
        with suppress(ValueError):
            after = origin(str(prepared_request.url))
        if after is None:
            # Not in an except block: the ValueError quotes a part of the URL.
            raise FaradayResponseError("Faraday redirected to an invalid URL.", remedy=TRY_LATER)
        if (before[0], after[0]) == ("https", "http") and not self.config.allow_http:
            raise FaradayResponseError(
                "Faraday redirected to plain http. The redirect was not followed.",
                remedy='If you trust the network, set the extra "allow_http" of the Airflow connection.',
            )
        if before != after:
            prepared_request.headers.pop("Authorization", None)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        # The environment would override a session's own proxies and verify, but not those of a request.
        if self.config.proxy and not proxies:
            proxies = {"http": self.config.proxy, "https": self.config.proxy}
        if verify is None:
            verify = self.config.verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def _authenticate(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if origin(str(request.url)) == origin(self.config.base_url):
            request.headers["Authorization"] = f"Bearer {self.config.api_key}"
        return request


class RequestsClient:
    """Sends requests to Faraday in one session, with the retry policy of both clients.

    :param look_up: returns the configuration. Called at the first request, and again after a 401: if the
        configuration differs, the request is sent once more.
    """

    def __init__(self, look_up: Callable[[], ClientConfig]) -> None:
        self._look_up = look_up
        self._session: FaradaySession | None = None

    @property
    def session(self) -> FaradaySession:
        """The session for the current configuration."""
        if self._session is None:
            self._session = FaradaySession(self._look_up())
        return self._session

    def fetch(
        self,
        endpoint: Endpoint,
        decode: Decode[T],
        *,
        params: Any = None,
        json: Any = None,
        data: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        attempts: int | None = None,
        enough: int | None = None,
        timeout: float | None = None,
    ) -> Fetched[T]:
        """Request an endpoint, with all pages.

        :param params: query parameters in addition to the endpoint's, as in requests.
        :param json: payload.
        :param data: payload that is not JSON.
        :param headers: headers in addition to the session's.
        :param attempts: how often a request is sent; by default as the Airflow connection says.
        :param enough: how many items of a list are enough; None for all pages.
        :param timeout: seconds to connect, and between two parts of a response; the same default.
        :raises FaradayInputError: if the arguments cannot be encoded.
        :raises FaradayApiError: if it fails permanently, or still fails on the last attempt.
        """

        def call() -> Fetched[T]:
            exchange = Exchange(self.session.config.request(endpoint), decode, enough=enough)
            payload = {"params": params, "json": json, "data": data, "headers": headers, "timeout": timeout}
            while exchange.next_request:
                self._retry(lambda: self._send_next(exchange, **payload), attempts, retries.may_resend)
                # The link to the next page contains them.
                payload["params"] = None
            return exchange.fetched

        return self._with_current_key(call)

    def retry(self, attempt: Callable[[], T]) -> T:
        """Return what a function returns, which is called again after transient errors and a changed key."""
        return self._with_current_key(lambda: self._retry(attempt, None, retries.is_transient))

    def send_file(self, endpoint: Endpoint, size: int, chunks: Generator[bytes]) -> datetime | None:
        """Send a file once. Return the ``Date`` of the response, if it has one.

        :param size: bytes of the file.
        :raises FaradayApiError: if it fails. An error of ``chunks`` is raised as it is.
        """
        exchange = Exchange(self.session.config.request(endpoint), responses.decode_nothing)
        # urllib3 applies the timeout for connecting to sending, too, but a busy server may be silent for
        # longer than connecting may take. (It can be reached: the list of uploads was just requested.)
        seconds = self.session.config.read_seconds
        with closing(chunks):
            # requests sends a body of length 0 in chunks, so without a Content-Length, unless it is bytes.
            body = _Body(chunks, size) if size else b"".join(chunks)
            self._send_next(exchange, data=body, timeout=(seconds, seconds))
        return exchange.fetched.sent_at

    @contextmanager
    def open_file(self, endpoint: Endpoint) -> Iterator[tuple[Iterator[bytes], int | None]]:
        """Request a file once, and follow redirects to any server.

        Yields an iterator of the bytes as sent, which raises if the response is not complete, and their
        number, if it is known.

        :raises FaradayApiError: if it fails, or if the response is not a file.
        """
        request = self.session.config.request(endpoint)
        with self._send(request, headers=_FILE_HEADERS, is_file=True) as sent:
            request = _redirected(request, sent.url)
            if not responses.is_file(_response(sent, b"")):
                body = self._guard(request, lambda: sent.content) if request.is_faraday else b""
                raise responses.file_error(request, _response(sent, body))
            yield self._chunks(request, sent), sent.raw.length_remaining

    def _with_current_key(self, call: Callable[[], T]) -> T:
        """Return what a call returns, which is repeated after a 401 if the configuration has changed."""
        try:
            return call()
        except FaradayAuthenticationError:
            if not self._has_changed():
                raise
        return call()

    def _has_changed(self) -> bool:
        """Look the configuration up again. If it has changed, use it from now on."""
        rejected = self.session.config
        try:
            config = self._look_up()
        except Exception as error:  # whatever a secrets backend or Airflow's API raises
            log.warning("%s", errors.lookup_error(rejected.conn_id, error))
            return False
        if config == rejected:
            return False
        log_new_fields(rejected.conn_id)
        self.session.close()
        self._session = FaradaySession(config)
        return True

    def _retry(
        self,
        attempt: Callable[[], T],
        attempts: int | None,
        is_retried: Callable[[BaseException], bool],
    ) -> T:
        policy = retries.policy(attempts or self.session.config.max_attempts, resend=is_retried)
        try:
            return tenacity.Retrying(**policy)(attempt)
        except FaradayError as error:
            # Without the frames of tenacity.
            raise error.with_traceback(None) from None

    def _send_next(self, exchange: Exchange[Any], **payload: Any) -> None:
        """Send the next request of an exchange once."""
        assert exchange.next_request
        sent = self._send(exchange.next_request, **payload)
        exchange.receive(_response(sent, sent.content))

    def _send(
        self,
        request: Request,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: Any = None,
        is_file: bool = False,
        **payload: Any,
    ) -> requests.Response:
        """Send a request once.

        :param is_file: whether to follow redirects, and not to read the body.
        """
        session = self.session
        merged = {"Content-Type": request.content_type} | dict(headers or {})
        try:
            prepared = session.prepare_request(
                requests.Request(request.method, request.url, headers=merged, **payload)
            )
            # The HTTP library would fail only when it sends them, as if Faraday could not be reached.
            for name, value in merged.items():
                str(name).encode("ascii")
                str(value).encode("latin-1")
        except (ValueError, TypeError, AttributeError, requests.exceptions.InvalidJSONError) as error:
            what = f"{request.method} {request.path}"
            raise FaradayInputError(
                f"The arguments of {what} cannot be sent: {request.redact(str(error))}"
            ) from None
        settings = session.merge_environment_settings(prepared.url, {}, is_file, None, None)
        send = partial(session.send, prepared, allow_redirects=is_file, timeout=timeout, **settings)
        return self._guard(request, send)

    def _chunks(self, request: Request, response: requests.Response) -> Iterator[bytes]:
        # Full chunks: with TLS, only 16 KiB arrive at a time.
        read = partial(response.raw.read, _CHUNK_BYTES, decode_content=False)
        while chunk := self._guard(request, read):
            yield chunk

    def _guard(self, request: Request, call: Callable[[], T]) -> T:
        """Call requests or urllib3, and raise our errors instead of theirs."""
        try:
            return call()
        except _SourceError as error:
            failure: BaseException = error.__cause__ or error
        except _NETWORK_ERRORS as error:
            if isinstance(error, requests.RequestException) and error.request is not None:
                request = _redirected(request, str(error.request.url))
            cause = _root(error)
            sent = not isinstance(cause, _BEFORE_SENDING)
            failure = errors.transport_error(request, _plain(cause), request_sent=sent)
        # Outside of the except block: exceptions of requests and urllib3 hold the request's headers.
        raise failure


def _response(sent: requests.Response, body: bytes) -> Response:
    link = next_link(sent.headers.get("Link", ""))
    return Response(sent.status_code, sent.headers, body, link, sent)


def _redirected(request: Request, url: str) -> Request:
    """Return a request with the URL that it was redirected to."""
    return request._replace(url=url, is_faraday=origin(url) == origin(request.url))


def _root(error: BaseException) -> BaseException:
    """Return what requests and urllib3 wrapped: its message is short, and its class says when it happened."""
    while not isinstance(error, _BEFORE_SENDING):
        wrapped = (getattr(error, "reason", None), *error.args)
        inner = next((part for part in wrapped if isinstance(part, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


def _plain(cause: BaseException) -> BaseException:
    """Return the standard library's exception for one of urllib3's, which quote their own classes."""
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return cause.__cause__ or cause
    if isinstance(cause, requests.RequestException):
        # They quote URLs, which may be signed.
        return OSError(type(cause).__name__)
    return TimeoutError("timed out") if isinstance(cause, urllib3.exceptions.TimeoutError) else cause
