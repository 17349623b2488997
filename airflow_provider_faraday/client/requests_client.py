"""Sends requests with requests, in workers."""

from __future__ import annotations

import http.client
import io
import logging
import ssl
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import tenacity
import urllib3

from airflow_provider_faraday.api import errors, responses, retries
from airflow_provider_faraday.api.endpoints import MERGE_PATCH, Endpoint, origin
from airflow_provider_faraday.api.errors import (
    FaradayAuthenticationError,
    FaradayError,
    FaradayInputError,
    Request,
)
from airflow_provider_faraday.api.responses import Decode, Exchange, Fetched, Response
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.client.environment import next_link, user_agent, with_environment_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

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
_NETWORK_ERRORS = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException)


# Whether the request in progress has a signed URL.
_url_is_secret: ContextVar[bool] = ContextVar("_url_is_secret", default=False)


def _shows_no_secret(record: logging.LogRecord) -> bool:
    """Drop what urllib3 logs of signed URLs, and of header lines in which a server may echo the API key."""
    of_headers = str(record.msg).startswith("Failed to parse headers")
    return not (of_headers or (_url_is_secret.get() and record.levelno == logging.DEBUG))


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
        self._proxy = config.proxy
        # The proxy of the environment may have a password, too, that no error may show.
        self.config = with_environment_proxy(config)
        self.auth = self._authenticate

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = (self.config.connect_seconds, self.config.read_seconds)
        return super().send(request, **kwargs)

    def resolve_redirects(self, *args: Any, yield_requests: bool = False, **kwargs: Any) -> Any:
        # With allow_redirects=False, requests would read the whole body here, and fail on a bad Location.
        return iter(()) if yield_requests else super().resolve_redirects(*args, **kwargs)

    def should_strip_auth(self, old_url: str, new_url: str) -> bool:
        return origin(old_url) != origin(new_url)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        # The environment would override a session's own proxies and verify, but not those of a request.
        if self._proxy and not proxies:
            proxies = {"http": self._proxy, "https": self._proxy}
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

    def close(self) -> None:
        """Close the TCP connections."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def fetch(
        self,
        endpoint: Endpoint,
        decode: Decode[T],
        *,
        json: Any = None,
        attempts: int | None = None,
        enough: int | None = None,
        timeout: float | None = None,
    ) -> Fetched[T]:
        """Request an endpoint, with redirects and all pages.

        :param json: payload.
        :param enough: how many items of a list are enough; None for all pages.
        :param attempts: how often a request is sent; by default as the Airflow connection says.
        :param timeout: seconds to connect, and between two parts of a response; the same default.
        :raises FaradayApiError: if it fails permanently, or still fails on the last attempt.
        """

        def call() -> Fetched[T]:
            exchange = Exchange(self.session.config.request(endpoint), decode, enough=enough)
            self._complete(exchange, attempts, json=json, timeout=timeout)
            return exchange.fetched

        return self._with_current_key(call)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Any = None,
        json: Any = None,
        data: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send any request and return the 2xx response, read completely.

        :param path: begins with ``/`` and is below the base URL.
        :raises FaradayInputError: if the arguments cannot be encoded.
        :raises FaradayApiError: see :meth:`fetch`.
        """

        def call() -> requests.Response:
            request = self._any_request(method, path, params=params, json=json, data=data, headers=headers)
            exchange = Exchange(request, responses.decode_nothing)
            return self._complete(exchange, json=json, data=data, headers=headers)

        return self._with_current_key(call)

    def request_list(self, path: str, params: Any = None) -> list[dict[str, Any]]:
        """Get any list of objects, with redirects and all pages.

        :param path: begins with ``/`` and is below the base URL.
        :raises FaradayInputError: if the parameters cannot be encoded.
        :raises FaradayApiError: see :meth:`fetch`.
        """

        def call() -> list[dict[str, Any]]:
            # The items may hold secrets, like those of /webhook_endpoints.
            request = self._any_request("GET", path, params=params)._replace(private=True)
            exchange = Exchange(request, responses.decode_objects)
            self._complete(exchange)
            return exchange.fetched.value

        return self._with_current_key(call)

    def upload(
        self,
        endpoint: Endpoint,
        size: int,
        open_chunks: Callable[[], AbstractContextManager[Iterable[bytes]]],
        has_arrived: Callable[[], bool],
    ) -> datetime | None:
        """Send a file and return the ``Date`` of the response, or None if it has none or was lost.

        :param size: bytes of the file.
        :param open_chunks: opens the file from the beginning, for each attempt.
        :param has_arrived: called before each attempt; True if Faraday has stored what an earlier one sent.
        :raises FaradayApiError: see :meth:`fetch`. An error of ``open_chunks`` is raised as it is.
        """

        def attempt() -> datetime | None:
            if has_arrived():
                return None
            request = self.session.config.request(endpoint)
            exchange = Exchange(request, responses.decode_nothing)
            # urllib3 applies the timeout for connecting to sending, too, but a busy server may be silent for
            # longer than connecting may take. (It can be reached: the list of uploads was just requested.)
            seconds = self.session.config.read_seconds
            with open_chunks() as chunks:
                sent = self._send(
                    request,
                    data=_Body(chunks, size) if size else b"".join(chunks),
                    timeout=(seconds, seconds),
                )
            exchange.receive(_received(sent), datetime.now(UTC))
            return exchange.fetched.sent_at

        # Unlike other POSTs, it can be sent again after any transient failure.
        return self._with_current_key(lambda: self._retry(attempt, resend=retries.is_transient))

    def download(self, endpoint: Endpoint, save: Callable[[Iterator[bytes], int | None], T]) -> T:
        """Request a file, follow redirects to any server, and return what ``save`` returns.

        :param save: called for each attempt, with the bytes of the file as sent, from the beginning, and
            their number, if it is known. The iterator raises if the response is not complete.
        :raises FaradayApiError: see :meth:`fetch`. An error of ``save`` is raised as it is.
        """
        return self._with_current_key(lambda: self._retry(lambda: self._download(endpoint, save)))

    def _download(self, endpoint: Endpoint, save: Callable[[Iterator[bytes], int | None], T]) -> T:
        config = self.session.config
        request = config.request(endpoint)
        for _ in range(responses.MAX_REDIRECTS):
            with self._begin(request, headers=_FILE_HEADERS) as response:
                head = Response(response.status_code, response.headers, b"")
                redirect = responses.redirect(request, head, allow_http=config.allow_http)
                if redirect is None:
                    if responses.is_file(head):
                        chunks = self._chunks(request, response, decode_content=False)
                        return save(chunks, response.raw.length_remaining)
                    body = self._read(request, response) if request.is_faraday else b""
                    raise responses.file_error(request, replace(head, body=body), datetime.now(UTC))
            request = redirect
        raise responses.redirects_error(request)

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
        conn_id = self.session.config.conn_id
        try:
            session = FaradaySession(self._look_up())
        except Exception as error:  # whatever a secrets backend or Airflow's API raises
            log.warning("%s", errors.lookup_error(conn_id, error))
            return False
        if session.config == self.session.config:
            return False
        log.info(
            "The Airflow connection '%s' has a new API key or other new fields. Using them.",
            conn_id,
        )
        self.close()
        self._session = session
        return True

    def _any_request(self, method: str, path: str, **arguments: Any) -> Request:
        """Return a request with the query in its URL. Check that all arguments can be encoded."""
        endpoint = Endpoint(method, path, content_type=MERGE_PATCH if method == "PATCH" else None)
        request = self.session.config.request(endpoint)
        try:
            prepared = requests.Request(method, request.url, **arguments).prepare()
            # As the standard library does when it sends them.
            for name, value in prepared.headers.items():
                name.encode("ascii")
                str(value).encode("latin-1")
        except (ValueError, TypeError, AttributeError, requests.exceptions.InvalidJSONError) as error:
            reason = request.redact(str(error))
            raise FaradayInputError(f"The arguments of {method} {path} cannot be sent: {reason}") from None
        return request._replace(url=str(prepared.url), path=path.partition("?")[0])

    def _complete(
        self, exchange: Exchange[Any], attempts: int | None = None, **arguments: Any
    ) -> requests.Response:
        """Send the requests of an exchange, and return the last response."""

        def attempt() -> requests.Response:
            sent = self._send(request, **arguments)
            exchange.receive(_received(sent), datetime.now(UTC))
            return sent

        while exchange.next_request:
            request = exchange.next_request
            sent = self._retry(attempt, attempts)
        return sent

    def _retry(
        self,
        attempt: Callable[[], T],
        attempts: int | None = None,
        resend: Callable[[BaseException], bool] = retries.may_resend,
    ) -> T:
        policy = retries.policy(attempts or self.session.config.max_attempts, resend=resend)
        try:
            return tenacity.Retrying(**policy)(attempt)
        except FaradayError as error:
            # Without the frames of tenacity.
            raise error.with_traceback(None) from None

    def _send(
        self, request: Request, headers: Mapping[str, str] | None = None, **arguments: Any
    ) -> requests.Response:
        merged = {"Content-Type": request.content_type} | dict(headers or {})
        with self._begin(request, headers=merged, **arguments) as response:
            body = self._read(request, response)
        # For `content` and `json()`: requests itself would read without a limit.
        response.raw = io.BytesIO(body)
        return response

    def _begin(self, request: Request, **arguments: Any) -> requests.Response:
        """Send a request and return the response, whose body has not been read."""
        send = partial(
            self.session.request,
            request.method,
            request.url,
            stream=True,
            allow_redirects=False,
            **arguments,
        )
        secret = _url_is_secret.set(not request.is_faraday)
        try:
            return self._guard(request, send)
        finally:
            _url_is_secret.reset(secret)

    def _read(self, request: Request, response: requests.Response) -> bytes:
        body = bytearray()
        for chunk in self._chunks(request, response, decode_content=True):
            body += chunk
            if len(body) > responses.MAX_BODY_BYTES:
                raise responses.too_large_error(request)
        return bytes(body)

    def _chunks(
        self, request: Request, response: requests.Response, *, decode_content: bool
    ) -> Iterator[bytes]:
        # Full chunks: with TLS, only 16 KiB arrive at a time.
        read = partial(response.raw.read, _CHUNK_BYTES, decode_content=decode_content)
        while chunk := self._guard(request, read):
            yield chunk

    def _guard(self, request: Request, call: Callable[[], T]) -> T:
        """Call requests or urllib3, and raise our errors instead of theirs."""
        try:
            return call()
        except _SourceError as error:
            failure: BaseException = error.__cause__ or error
        except _NETWORK_ERRORS as error:
            cause = _root(error)
            sent = not isinstance(cause, _BEFORE_SENDING)
            failure = errors.transport_error(request, _plain(cause), request_sent=sent)
        # Outside of the except block: exceptions of requests and urllib3 hold the request's headers.
        raise failure


def _received(sent: requests.Response) -> Response:
    link = next_link(sent.headers.get("Link", ""))
    return Response(sent.status_code, sent.headers, sent.content, link)


def _root(error: BaseException) -> BaseException:
    """Return what requests and urllib3 wrapped: its message is short, and its class says when it happened."""
    while not isinstance(error, _BEFORE_SENDING):
        wrapped = (getattr(error, "original_error", None), getattr(error, "reason", None), *error.args)
        inner = next((part for part in wrapped if isinstance(part, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


def _plain(cause: BaseException) -> BaseException:
    """Return the standard library's exception for one of urllib3's, which quote their own classes."""
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return cause.__cause__ or cause
    return TimeoutError("timed out") if isinstance(cause, urllib3.exceptions.TimeoutError) else cause
