"""Turn HTTP responses into resources or errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http.client import responses as phrases
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar, cast
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from airflow_provider_faraday.api.endpoints import origin
from airflow_provider_faraday.api.errors import (
    TRY_LATER,
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayNotFoundError,
    FaradayResponseError,
    Request,
    api_error,
)
from airflow_provider_faraday.api.text import one_line, shortened
from airflow_provider_faraday.api.times import http_date

T = TypeVar("T")

MAX_REQUESTS = 1000
"""Maximum number of requests per call, for pages and redirects."""

MAX_REDIRECTS = 10
"""Maximum number of requests for a download."""

MAX_BODY_BYTES = 512 * 1024 * 1024
"""The largest response to read, decompressed: about 150,000 datasets."""

_ERROR_CLASSES: dict[int, type[FaradayApiError]] = {
    401: FaradayAuthenticationError,
    404: FaradayNotFoundError,
}
_PAGES = ("text/html", "application/xhtml")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Text is redacted before it is cut: half a key would not be recognized.
_REDACTED = 65536
_LONGEST_SECRET = 4096


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response.

    :param headers: case-insensitive.
    :param body: decompressed.
    :param next_link: the target of ``rel="next"`` in the ``Link`` header.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    next_link: str | None = None


class Fetched(NamedTuple, Generic[T]):
    """The result of a call.

    :param value: what the decoder returned; for lists, the items of all pages.
    :param sent_at: the ``Date`` of the last response, in UTC; None if it has none that is valid.
    """

    value: T
    sent_at: datetime | None


Decode = Callable[[Response], T]
"""Returns the value of a 2xx response: a list for an endpoint that returns lists."""


class Remembering(Generic[T]):
    """A decoder that returns the last value again if the body has the same bytes.

    :ivar body: the last body.
    """

    def __init__(self, decode: Decode[T]) -> None:
        self.body = b""
        self._decode = decode
        self._value: T | None = None

    def __call__(self, response: Response) -> T:
        if self._value is None or self.body != response.body:
            self._value = self._decode(response)
            self.body = response.body
        return self._value


class Exchange(Generic[T]):
    """The requests of one call, with redirects and further pages. It sends nothing itself.

    A client sends :attr:`next_request` and passes the response to :meth:`receive`, until there is no next
    request. After an error, the same request may be sent again.

    :param enough: how many items of a list are enough; None for all pages.
    """

    def __init__(self, request: Request, decode: Decode[T], *, enough: int | None = None) -> None:
        self.next_request: Request | None = request
        self._decode = decode
        self._missing = math.inf if enough is None else enough
        self._seen: set[str] = set()
        self._values: list[T] = []
        self._date = ""

    def receive(self, response: Response, now: datetime) -> None:
        """Take the response to the next request.

        :param now: for a ``Retry-After`` date, if the response has no ``Date``.
        :raises FaradayApiError: if it has no value.
        """
        request = self.next_request
        assert request is not None
        is_get = request.method == "GET"
        location = response.headers.get("Location")
        if is_get and response.status in _REDIRECTS and location is not None:
            self.next_request = self._request_for(location, request)
            return
        if not 200 <= response.status < 300:
            raise _status_error(request, response, now)
        try:
            value = self._decode(response)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise _format_error(request, response, error) from None
        link = None
        if is_get and isinstance(value, list):
            self._missing -= len(value)
            link = response.next_link if self._missing > 0 else None
        self.next_request = None if link is None else self._request_for(link, request)
        self._values.append(value)
        self._date = response.headers.get("Date", "")

    @property
    def fetched(self) -> Fetched[T]:
        """The result, when there is no next request."""
        value = self._values[0]
        if len(self._values) > 1:
            value = cast("T", list(chain.from_iterable(cast("list[list[Any]]", self._values))))
        return Fetched(value, http_date(self._date))

    def _request_for(self, reference: str, request: Request) -> Request:
        url = _same_origin(reference, request)
        self._seen.add(request.url)
        if url in self._seen or len(self._seen) >= MAX_REQUESTS:
            what = "return to an earlier page" if url in self._seen else "do not end"
            message = f"Faraday's pages or redirects {what} after {len(self._seen)} requests."
            raise api_error(FaradayResponseError, request, message, "Contact Faraday's support.")
        return request._replace(url=url)


def redirect(request: Request, response: Response, *, allow_http: bool) -> Request | None:
    """Return the request to which a download is redirected, on any server; None if it is not redirected.

    The query of a signed URL is a secret. No error quotes it.

    :param allow_http: whether a redirect may lead from https to plain http.
    :raises FaradayResponseError: if the redirect must not be followed.
    """
    location = response.headers.get("Location")
    if response.status not in _REDIRECTS or location is None:
        return None
    url = _absolute(location, request)
    scheme, host, _ = origin(url) if url else ("", "", None)
    if scheme not in ("http", "https") or not host:
        problem = "to a URL that is not valid"
    elif scheme == "http" and origin(request.url)[0] == "https" and not allow_http:
        problem = f"from https to plain http on {shortened(request.redact(host))}"
    else:
        stays = request.is_faraday and origin(request.url) == origin(url)
        return request._replace(url=url, is_faraday=stays)
    message = f"Faraday redirected the download {problem}. The redirect was not followed."
    raise api_error(FaradayResponseError, request, message)


def is_file(response: Response) -> bool:
    """Return whether the body of a response is the requested file."""
    # Some proxies respond with 200 and a page that says what is wrong.
    content_type = response.headers.get("Content-Type", "").lower()
    return response.status == 200 and not content_type.startswith(_PAGES)


def is_json_document(body: bytes) -> bool:
    """Return whether a body is a JSON object or array, such as an error of a proxy."""
    try:
        return isinstance(msgspec.json.decode(body), (dict, list))
    except (msgspec.DecodeError, RecursionError):
        return False


def file_error(request: Request, response: Response, now: datetime) -> FaradayApiError:
    """Return the error for a response that is not the requested file.

    That of another server is not quoted, because it may contain the signed URL.
    """
    status = response.status
    if request.is_faraday and status == 200:
        message = f"Faraday returned a web page instead of a file: {_excerpt(request, response)}."
        return api_error(FaradayResponseError, request, message, broken=True, status_code=200)
    if request.is_faraday:
        return _status_error(request, response, now)
    what = "a web page" if status == 200 else _phrase(status)
    return api_error(
        FaradayApiError,
        request,
        f"Faraday redirected to {origin(request.url)[1]}, which returned {status} {what}.",
        TRY_LATER,
        status_code=status,
        retry_after=_retry_after(response.headers, now),
    )


def too_large_error(request: Request) -> FaradayResponseError:
    """Return the error for a response that is larger than :data:`MAX_BODY_BYTES`."""
    message = f"Faraday's response is larger than {MAX_BODY_BYTES:,} bytes."
    return api_error(FaradayResponseError, request, message)


def redirects_error(request: Request) -> FaradayResponseError:
    """Return the error for a download that is redirected again and again."""
    message = f"The redirects of the download do not end after {MAX_REDIRECTS} requests."
    return api_error(FaradayResponseError, request, message, "Contact Faraday's support.")


def decode_resources(response: Response) -> list[dict[str, Any]]:
    """Decode a list of resources, with all fields that Faraday sent."""
    items = _DICTS.decode(json_body(response))
    for number, item in enumerate(items):
        _check_id(item, f"$[{number}]")
    return items


def decode_resource(response: Response) -> dict[str, Any]:
    """Decode a resource, with all fields that Faraday sent."""
    item = _DICT.decode(json_body(response))
    _check_id(item, "$")
    return item


def decode_objects(response: Response) -> list[dict[str, Any]]:
    """Decode a list of objects that are not resources, such as uploads, with all fields that Faraday sent."""
    return _DICTS.decode(json_body(response))


def decode_account(response: Response) -> None:
    """Check that the response is an account. Return nothing: an account may include an API key."""
    decode_resource(response)


def decode_nothing(response: Response) -> None:
    """Accept any 2xx response."""


_DICTS: msgspec.json.Decoder[list[dict[str, Any]]] = msgspec.json.Decoder(list[dict[str, Any]])
_DICT: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


def json_body(response: Response) -> bytes:
    """Return the body without a byte order mark, which decoders of JSON reject."""
    return response.body.removeprefix(b"\xef\xbb\xbf")


def _check_id(item: dict[str, Any], where: str) -> None:
    if not isinstance(item.get("id"), str) or not item["id"]:
        raise msgspec.ValidationError(f"Object has no id - at `{where}`")


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    until = http_date(text)
    if until is None:
        return None
    return max(0.0, (until - (http_date(headers.get("Date", "")) or now)).total_seconds())


def _absolute(reference: str, request: Request) -> str:
    """Return the absolute URL of a reference in a response; empty if it is not valid."""
    try:
        url = urlsplit(quote(urljoin(request.url, reference.strip()), safe="%/:=&?~#+!$,;'@()*[]"))
        _ = url.port
    except ValueError:
        return ""
    return "" if "@" in url.netloc else url._replace(fragment="").geturl()


def _same_origin(reference: str, request: Request) -> str:
    """Return an absolute URL that may be sent the API key."""
    url = _absolute(reference, request)
    if url and origin(url) == origin(request.url):
        return url
    server = "{}://{}".format(*urlsplit(request.url))
    message = (
        f"Faraday's response points to {shortened(request.redact(reference))}, which is not on "
        f"{server}. It was not followed, to keep the API key from other servers."
    )
    raise api_error(FaradayResponseError, request, message)


def _status_error(request: Request, response: Response, now: datetime) -> FaradayApiError:
    body = _error_body(request, response)
    code, error_id, note = (_text(body.get(key)) for key in ("error", "id", "note"))
    listed = body.get("validationErrors")
    invalid = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    details = "; ".join(
        " ".join(filter(None, (_text(e.get(key)) for key in ("path", "message", "suggestion"))))
        for e in invalid
    )
    wait = _retry_after(response.headers, now)
    label = code or _phrase(response.status)
    sentences = [
        f"Faraday returned {response.status} {shortened(label)}: "
        f"{shortened(note or _excerpt(request, response))}",
        shortened(details),
        f"Retry after {wait:.0f} seconds" if wait else "",
    ]
    return api_error(
        _ERROR_CLASSES.get(response.status, FaradayApiError),
        request,
        " ".join(f"{sentence.rstrip('. ')}." for sentence in sentences if sentence),
        status_code=response.status,
        error_code=code,
        error_id=error_id and shortened(error_id),
        note=note,
        validation_errors=invalid,
        retry_after=wait,
    )


def _phrase(status: int) -> str:
    return phrases.get(status, "(unknown status)")


def _error_body(request: Request, response: Response) -> dict[str, Any]:
    try:
        # Encoded again, since the body may hold a secret in any form that JSON has.
        text = msgspec.json.encode(msgspec.json.decode(json_body(response))).decode()
        body = msgspec.json.decode(request.redact(text))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _format_error(request: Request, response: Response, error: Exception) -> FaradayResponseError:
    # A type that does not match is reported before the syntax of what follows.
    broken = True
    with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        msgspec.json.decode(json_body(response))
        broken = False
    what = "is not valid JSON" if broken else "has an unexpected format"
    message = (
        f"Faraday returned {response.status}, but the response {what}: {error}. "
        f"Received {_excerpt(request, response)}."
    )
    return api_error(FaradayResponseError, request, message, broken=broken, status_code=response.status)


def _excerpt(request: Request, response: Response) -> str:
    size = len(response.body)
    if not size:
        return "an empty body"
    if request.private:
        return f"{size} bytes, not shown"
    text = request.redact(response.body[:_REDACTED].decode(errors="replace"))
    if size > _REDACTED:
        text = text[:-_LONGEST_SECRET]
    kind = request.redact(response.headers.get("Content-Type", "no content type").split(";")[0])
    return f"{size} bytes of {shortened(kind)}, {shortened(' '.join(text.split()))!r}"


def _text(value: object) -> str | None:
    return one_line(value) if isinstance(value, str) and value else None
