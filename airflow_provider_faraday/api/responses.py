"""Turn HTTP responses into resources or errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http.client import responses as phrases
from typing import Any, Generic, NamedTuple, TypeVar
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

MAX_PAGES = 1000
"""Maximum number of pages per call."""

_ERROR_CLASSES: dict[int, type[FaradayApiError]] = {
    401: FaradayAuthenticationError,
    404: FaradayNotFoundError,
}
_PAGES = ("text/html", "application/xhtml")
# Larger bodies are not quoted: redacting them takes too long.
_MAX_QUOTED_BYTES = 65_536
_NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response.

    :param headers: case-insensitive.
    :param body: decompressed.
    :param next_link: the target of ``rel="next"`` in the ``Link`` header.
    :param raw: the response of the HTTP library.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    next_link: str | None = None
    raw: Any = None


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
    """The requests of one call, one for each page. It sends nothing itself.

    A client sends :attr:`next_request` and passes the response to :meth:`receive`, until there is no next
    request. After an error, the same request may be sent again.

    :param enough: how many items of a list are enough; None for all pages.
    """

    def __init__(self, request: Request, decode: Decode[T], *, enough: int | None = None) -> None:
        self.next_request: Request | None = request
        self._decode = decode
        self._enough = enough
        self._value: Any = None
        self._pages = 0
        self._date = ""

    def receive(self, response: Response) -> None:
        """Take the response to the next request.

        :raises FaradayApiError: if it has no value.
        """
        request = self.next_request
        assert request is not None
        if not 200 <= response.status < 300:
            raise _status_error(request, response)
        try:
            page: Any = self._decode(response)
        except _NOT_JSON as error:
            raise _format_error(request, response, error) from None
        self._value = page if self._value is None else [*self._value, *page]
        self._pages += 1
        self._date = response.headers.get("Date", "")
        has_more = isinstance(page, list) and (self._enough is None or len(self._value) < self._enough)
        link = response.next_link if has_more else None
        self.next_request = self._next_page(link, request) if link else None

    @property
    def fetched(self) -> Fetched[T]:
        """The result, when there is no next request."""
        return Fetched(self._value, http_date(self._date))

    def _next_page(self, link: str, request: Request) -> Request:
        """Return the request for the next page. Only the same origin may receive the API key."""
        if self._pages >= MAX_PAGES:
            message = f"Faraday's pages do not end after {MAX_PAGES} requests."
            raise api_error(FaradayResponseError, request, message, "Contact Faraday's support.")
        try:
            url = quote(urljoin(request.url, link.strip()), safe="%/:=&?~#+!$,;'@()*[]")
            is_safe = origin(url) == origin(request.url) and "@" not in urlsplit(url).netloc
        except ValueError:
            is_safe = False
        if is_safe:
            return request._replace(url=url)
        message = (
            f"Faraday's next page is {shortened(request.redact(link))}, which is not on "
            f"{'{}://{}'.format(*urlsplit(request.url))}. It was not requested, to keep the API key from "
            "other servers."
        )
        raise api_error(FaradayResponseError, request, message)


def is_file(response: Response) -> bool:
    """Return whether the body of a response is the requested file."""
    return response.status == 200 and not _is_page(response)


def _is_page(response: Response) -> bool:
    """Return whether a response is a web page: some proxies respond with 200 and say what is wrong."""
    return response.headers.get("Content-Type", "").lower().startswith(_PAGES)


def is_json_document(body: bytes) -> bool:
    """Return whether a body is a JSON object or array, such as an error of a proxy."""
    return _is_json(body) and body.lstrip()[:1] in (b"{", b"[")


def file_error(request: Request, response: Response) -> FaradayApiError:
    """Return the error for a response that is not the requested file.

    That of another server is not quoted, because it may contain the signed URL.
    """
    status = response.status
    if not request.is_faraday:
        what = "a web page" if status == 200 else _phrase(status)
        message = f"Faraday redirected to {origin(request.url)[1]}, which returned {status} {what}."
        wait = _retry_after(response.headers)
        return api_error(FaradayApiError, request, message, TRY_LATER, status_code=status, retry_after=wait)
    if status == 200:
        message = f"Faraday returned a web page instead of a file: {_excerpt(request, response)}."
        return api_error(FaradayResponseError, request, message, broken=True, status_code=200)
    return _status_error(request, response)


def decode_resources(response: Response) -> list[dict[str, Any]]:
    """Decode a list of resources, with all fields that Faraday sent."""
    items = _DICTS.decode(response.body)
    for number, item in enumerate(items):
        _check_id(item, f"$[{number}]")
    return items


def decode_resource(response: Response) -> dict[str, Any]:
    """Decode a resource, with all fields that Faraday sent."""
    item = _DICT.decode(response.body)
    _check_id(item, "$")
    return item


def decode_objects(response: Response) -> list[dict[str, Any]]:
    """Decode a list of objects that are not resources, such as uploads, with all fields that Faraday sent."""
    return _DICTS.decode(response.body)


def decode_nothing(response: Response) -> None:
    """Accept any 2xx response, unless it is a web page."""
    if response.body and _is_page(response):
        raise msgspec.DecodeError("it is a web page")


_DICTS: msgspec.json.Decoder[list[dict[str, Any]]] = msgspec.json.Decoder(list[dict[str, Any]])
_DICT: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


def _check_id(item: dict[str, Any], where: str) -> None:
    if not isinstance(item.get("id"), str) or not item["id"]:
        raise msgspec.ValidationError(f"Object has no id - at `{where}`")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the ``Retry-After`` in seconds; None if there is none, or if it is a date."""
    text = headers.get("Retry-After", "").strip()
    return float(text[:12]) if text.isascii() and text.isdigit() else None


def _status_error(request: Request, response: Response) -> FaradayApiError:
    body = _error_body(request, response)
    code, error_id, note = (_text(body.get(key)) for key in ("error", "id", "note"))
    listed = body.get("validationErrors")
    invalid = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    details = "; ".join(
        " ".join(str(item[key]) for key in ("path", "message", "suggestion") if item.get(key))
        for item in invalid
    )
    wait = _retry_after(response.headers)
    kind = _ERROR_CLASSES.get(response.status, FaradayApiError)
    if code == "INVALID_AUTHORIZATION":
        # Its status is 400.
        kind = FaradayAuthenticationError
    label = shortened(code or _phrase(response.status))
    message = f"Faraday returned {response.status} {label}: "
    message += shortened(note or _excerpt(request, response)).rstrip(". ") + "."
    if details:
        message += f" {shortened(one_line(details))}."
    if wait:
        message += f" Retry after {wait:.0f} seconds."
    return api_error(
        kind,
        request,
        message,
        status_code=response.status,
        error_code=code,
        error_id=error_id and shortened(error_id),
        note=note,
        validation_errors=invalid,
        retry_after=wait,
    )


def _phrase(status: int) -> str:
    return phrases.get(status, "(unknown status)")


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except _NOT_JSON:
        return False
    return True


def _error_body(request: Request, response: Response) -> dict[str, Any]:
    if len(response.body) > _MAX_QUOTED_BYTES:
        return {}
    try:
        # Encoded again, since the body may hold a secret in any form that JSON has.
        text = msgspec.json.encode(msgspec.json.decode(response.body)).decode()
        body = msgspec.json.decode(request.redact(text))
    except _NOT_JSON:
        return {}
    return body if isinstance(body, dict) else {}


def _format_error(request: Request, response: Response, error: Exception) -> FaradayResponseError:
    # Not by the class of the error: the text "504 Gateway Time-out" begins like a number.
    broken = not _is_json(response.body)
    what = "is not valid JSON" if broken else "has an unexpected format"
    message = f"Faraday returned {response.status}, but the response {what}: {error}."
    if broken:
        # Valid JSON may have rows of customers' data.
        message += f" Received {_excerpt(request, response)}."
    return api_error(FaradayResponseError, request, message, broken=broken, status_code=response.status)


def _excerpt(request: Request, response: Response) -> str:
    size = len(response.body)
    if not size:
        return "an empty body"
    if request.private or size > _MAX_QUOTED_BYTES:
        return f"{size} bytes, not shown"
    text = request.redact(response.body.decode(errors="replace"))
    kind = request.redact(response.headers.get("Content-Type", "no content type").split(";")[0])
    return f"{size} bytes of {shortened(kind)}, {shortened(' '.join(text.split()))!r}"


def _text(value: object) -> str | None:
    return one_line(value) if isinstance(value, str) and value else None
