"""Sends requests with requests, in workers."""

from __future__ import annotations

import http.client
import io
import logging
import ssl
import time
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import tenacity
import urllib3
from urllib3.util.response import assert_header_parsing

from airflow_provider_faraday.api import responses, retries
from airflow_provider_faraday.api.endpoints import Endpoint, origin
from airflow_provider_faraday.api.errors import FaradayError, FaradayInputError
from airflow_provider_faraday.client import errors
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.client.environment import next_link, user_agent, with_environment_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager

T = TypeVar("T")

_CHUNK_BYTES = 256 * 1024
# Small enough for the caches of the CPU, in which the chunk is then written and hashed.
_FILE_CHUNK_BYTES = 512 * 1024

# Failures that certainly come before a request is sent: resolving, connecting, verifying the certificate.
_BEFORE_SENDING = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    ssl.SSLCertVerificationError,
)
_NETWORK_ERRORS = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException)


# Whether the request in progress has a signed URL.
_url_is_secret: ContextVar[bool] = ContextVar("_url_is_secret", default=False)


class _WithoutSecrets(logging.Filter):
    """Drops what urllib3 logs of signed URLs, and of header lines that it cannot parse, in which a server may
    echo the API key."""

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("Failed to parse headers"):
            record.msg, record.args, record.exc_info = "Failed to parse headers", (), None
        return not (_url_is_secret.get() and record.levelno == logging.DEBUG)


for _module in ("connection", "connectionpool"):
    logging.getLogger(f"urllib3.{_module}").addFilter(_WithoutSecrets())


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
        self._config = config
        self.auth = self._authenticate

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = (self._config.connect_seconds, self._config.read_seconds)
        return super().send(request, **kwargs)

    def resolve_redirects(self, *args: Any, yield_requests: bool = False, **kwargs: Any) -> Any:
        # With allow_redirects=False, requests would read the whole body here, and fail on a bad Location.
        return iter(()) if yield_requests else super().resolve_redirects(*args, **kwargs)

    def should_strip_auth(self, old_url: str, new_url: str) -> bool:
        return origin(old_url) != origin(new_url)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        # The environment would override a session's own proxies and verify, but not those of a request.
        if self._config.proxy and not proxies:
            proxies = {"http": self._config.proxy, "https": self._config.proxy}
        if verify is None:
            verify = self._config.verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def _authenticate(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if origin(str(request.url)) == origin(self._config.base_url):
            request.headers["Authorization"] = f"Bearer {self._config.api_key}"
        return request


class RequestsClient:
    """Sends requests to Faraday in one session, with the retry policy of both clients."""

    def __init__(self, config: ClientConfig) -> None:
        # The proxy of the environment may have a password, too, that no error may show.
        self.config = with_environment_proxy(config)
        self.session = FaradaySession(config)

    def close(self) -> None:
        """Close the TCP connections."""
        self.session.close()

    def fetch(
        self, endpoint: Endpoint, decode: responses.Decode[T], json: Any = None, **policy: Any
    ) -> list[T]:
        """Request an endpoint and return the items of all pages.

        :param json: payload.
        :param policy: overrides of the retry policy.
        :raises FaradayApiError: if it fails permanently, or still fails on the last attempt.
        """

        def attempt(request: responses.Request) -> responses.Page[T]:
            sent = self._send(request, json=json)
            link = partial(next_link, sent.headers.get("Link", ""))
            return responses.read_page(request, self._received(sent, link), decode, datetime.now(UTC))

        return self._run(self._first(endpoint), attempt, **policy)

    def request(self, method: str, path: str, params: Any = None, json: Any = None) -> requests.Response:
        """Send any request and return the 2xx response, read completely.

        :param path: begins with ``/`` and is below the base URL.
        :raises FaradayInputError: if the arguments cannot be encoded.
        :raises FaradayApiError: see :meth:`fetch`.
        """
        url = f"{self.config.base_url}{path}"
        try:
            prepared = self.session.prepare_request(requests.Request(method, url, params=params, json=json))
        except (ValueError, TypeError, requests.exceptions.InvalidJSONError) as error:
            message = f"The arguments of {method} {path} cannot be sent: {error}"
        else:
            first = responses.Request(Endpoint(method, path.partition("?")[0]), str(prepared.url))

            def attempt(request: responses.Request) -> responses.Page[requests.Response]:
                sent = self._send(request, json=json)
                return responses.read_page(request, self._received(sent), lambda _: [sent], datetime.now(UTC))

            return self._run(first, attempt)[0]
        raise FaradayInputError(message)

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
        headers = {"Content-Type": "application/octet-stream"}
        # urllib3 applies the timeout for connecting to sending, too, but a busy server may be silent for
        # longer than connecting may take. (It can be reached: the list of uploads has just been requested.)
        timeout = (self.config.read_seconds, self.config.read_seconds)

        def attempt(request: responses.Request) -> responses.Page[datetime | None]:
            if has_arrived():
                return responses.Page([None])
            with open_chunks() as chunks:
                body = _Body(chunks, size) if size else b"".join(chunks)
                sent = self._send(request, data=body, headers=headers, timeout=timeout)
            return responses.read_page(
                request, self._received(sent), responses.response_time, datetime.now(UTC)
            )

        # Unlike other POSTs, it can be sent again after any transient failure.
        resend = tenacity.retry_if_exception(retries.is_transient)
        return self._run(self._first(endpoint), attempt, retry=resend)[0]

    def download(self, endpoint: Endpoint, save: Callable[[Iterator[bytes], int | None], T]) -> T:
        """Request a file, follow redirects to any server, and return what ``save`` returns.

        :param save: called for each attempt, with the bytes of the file as sent, from the beginning, and
            their number, if it is known. The iterator raises if the response is not complete.
        :raises FaradayApiError: see :meth:`fetch`. An error of ``save`` is raised as it is.
        """

        def attempt(request: responses.Request) -> responses.Page[T]:
            return responses.Page([self._download(request, save)])

        return self._run(self._first(endpoint), attempt)[0]

    def _download(self, request: responses.Request, save: Callable[[Iterator[bytes], int | None], T]) -> T:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        for _ in range(responses.MAX_REDIRECTS):
            with self._begin(request, headers=headers) as response:
                head = responses.Response(response.status_code, response.headers, b"", self.config.redact)
                redirect = responses.redirect(request, head, allow_http=self.config.allow_http)
                if redirect is None:
                    if responses.is_file(head):
                        # Full chunks: with TLS, only 16 KiB arrive at a time.
                        read = partial(response.raw.read, _FILE_CHUNK_BYTES, decode_content=False)
                        return save(self._chunks(request, read), response.raw.length_remaining)
                    if not self._is_faraday(request):
                        raise responses.elsewhere_error(request, head, datetime.now(UTC))
                    head = replace(head, body=self._read(request, response))
                    raise responses.file_error(request, head, datetime.now(UTC))
            request = redirect
        raise responses.too_many_redirects(request)

    def _is_faraday(self, request: responses.Request) -> bool:
        return origin(request.url) == origin(self.config.base_url)

    def _first(self, endpoint: Endpoint) -> responses.Request:
        return responses.Request(endpoint, endpoint.url(self.config.base_url))

    def _run(
        self,
        first: responses.Request,
        attempt: Callable[[responses.Request], responses.Page[T]],
        **policy: Any,
    ) -> list[T]:
        retrying = tenacity.Retrying(**{**retries.policy(self.config.max_attempts), **policy})
        steps: Generator[responses.Request, responses.Page[T], list[T]] = responses.pages(first)
        try:
            request = next(steps)
            while True:
                request = steps.send(retrying(attempt, request))
        except StopIteration as finished:
            items: list[T] = finished.value
            return items
        except FaradayError as error:
            failure = errors.final(error, self.config, retrying.statistics)
        # Raised here, so that the traceback shows no frames of libraries.
        raise failure.with_traceback(None)

    def _received(
        self, sent: requests.Response, link: Callable[[], str | None] = lambda: None
    ) -> responses.Response:
        return responses.Response(sent.status_code, sent.headers, sent.content, self.config.redact, link)

    def _send(self, request: responses.Request, **arguments: Any) -> requests.Response:
        with self._begin(request, **arguments) as response:
            body = self._read(request, response)
        # The body was read in a way that requests has no method for.
        response.raw = io.BytesIO(body)
        return response

    def _begin(self, request: responses.Request, **arguments: Any) -> requests.Response:
        """Send a request and return the response, whose body has not been read."""
        # Errors are raised outside of the except block: those of requests hold the request's headers.
        secret = _url_is_secret.set(not self._is_faraday(request))
        try:
            response = self.session.request(
                request.endpoint.method, request.url, stream=True, allow_redirects=False, **arguments
            )
            try:
                self._check_head(response)
            except BaseException:
                response.close()
                raise
            return response
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            failure: BaseException = errors.bad_url(request, self.config, error)
        except _SourceError as error:
            failure = error.__cause__ or error
        except _NETWORK_ERRORS as error:
            failure = self._failure(request, error)
        finally:
            _url_is_secret.reset(secret)
        raise failure

    def _failure(self, request: responses.Request, error: BaseException) -> FaradayError:
        cause = _root(error)
        sent = not isinstance(cause, _BEFORE_SENDING)
        return errors.transport_error(request, self.config, _plain(cause), request_sent=sent)

    def _check_head(self, response: requests.Response) -> None:
        if 102 <= response.status_code < 200:
            # The final response still follows, and must not be taken for that of the next request.
            self.session.close()
            raise http.client.HTTPException(f"unsupported interim response {response.status_code}")
        message = getattr(getattr(response.raw, "_original_response", None), "msg", None)
        if isinstance(message, http.client.HTTPMessage):
            # urllib3 only logs a bad line and drops the headers below it: a Link, and with it half a list.
            assert_header_parsing(message)

    def _read(self, request: responses.Request, response: requests.Response) -> bytes:
        ends_at = time.monotonic() + self.config.response_seconds
        body = bytearray()
        # As it arrives: other methods wait for a full chunk, however slowly it trickles in.
        for chunk in self._chunks(request, partial(response.raw.read1, _CHUNK_BYTES, decode_content=True)):
            body += chunk
            if len(body) > errors.MAX_BODY_BYTES:
                raise errors.too_large(request)
            if time.monotonic() > ends_at:
                raise errors.response_timeout(request, self.config)
        return bytes(body)

    def _chunks(self, request: responses.Request, read: Callable[[], bytes]) -> Iterator[bytes]:
        while True:
            try:
                chunk = read()
            except _NETWORK_ERRORS as error:
                failure = self._failure(request, error)
            else:
                if not chunk:
                    return
                yield chunk
                continue
            raise failure


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
