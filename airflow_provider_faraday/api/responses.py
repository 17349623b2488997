"""From a status, headers and a body to what Faraday said, or to the error that says why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from airflow_provider_faraday.api.calls import ApiCall
from airflow_provider_faraday.api.config import ClientConfig, origin
from airflow_provider_faraday.api.errors import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayConnectionError,
    FaradayNotFoundError,
    FaradayResponseError,
)
from airflow_provider_faraday.api.readiness import DatasetState

T = TypeVar("T")

MAX_REQUESTS = 1000
"""Pages and redirects that one call may lead through: an end to a list that never ends."""

MAX_BODY_BYTES = 512 * 1024 * 1024
"""The largest body that is read, decompressed: about 150,000 datasets."""

_EXCERPT = 200
_REDACTED = 65536
# RFC 8288: <reference> and parameters, whose values may be quoted.
_VALUE = r""""(?:[^"\\]|\\.)*"|[^",;\s]+"""
_LINK = re.compile(rf"<([^>]*)>((?:\s*;\s*[^=;,\s]+(?:\s*=\s*(?:{_VALUE}))?)*)")
_PARAMETER = re.compile(rf";\s*([^=;,\s]+)\s*=\s*({_VALUE})")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_ERROR_CLASSES: dict[int, type[FaradayApiError]] = {
    401: FaradayAuthenticationError,
    404: FaradayNotFoundError,
}

_ADVICE = {
    400: "Check the task's arguments",
    401: "Put a new key in the password of Airflow connection '{conn_id}'",
    403: "Check what the key of Airflow connection '{conn_id}' may do, and the proxy in between, if any",
    404: "Check the id, and that the account of Airflow connection '{conn_id}' is the one that has it",
    407: "Check the extra 'proxy' of Airflow connection '{conn_id}'",
    429: "Too many requests: poll less often or from fewer tasks",
}
_ADVICE_SERVER = "This is on Faraday's side: try again later, and tell Faraday's support if it stays"
_ADVICE_OTHER = "Check that the host of Airflow connection '{conn_id}' is Faraday's API"


@dataclass(frozen=True, slots=True)
class Request:
    """What a transport sends: a method and an absolute URL, on behalf of a call."""

    call: ApiCall
    url: str

    @property
    def asked(self) -> str:
        return f"{self.call.method} {self.call.path}"

    @property
    def fields(self) -> dict[str, Any]:
        return {"method": self.call.method, "path": self.call.path}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a transport received, whole.

    :param headers: looked up without regard to case.
    :param body: decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One answer's items, and the URL of the answer that continues it."""

    items: list[T] = field(default_factory=list)
    next_url: str | None = None


Decode = Callable[[Answer], list[T]]


def pages(call: ApiCall, config: ClientConfig) -> Generator[Request, Page[T], list[T]]:
    """Lead a transport through a call: yield each request, be sent its page, return all items.

    :raises FaradayResponseError: where the answers lead in a circle or on without end.
    """
    request = Request(call, call.url(config.base_url))
    items: list[T] = []
    seen: set[str] = set()
    while True:
        seen.add(request.url)
        page = yield request
        items += page.items
        if page.next_url is None:
            return items
        request = Request(call, page.next_url)
        if request.url in seen or len(seen) >= MAX_REQUESTS:
            what = "leads back to a page already read" if request.url in seen else "does not end"
            raise FaradayResponseError(
                f"Faraday's answer to {request.asked} {what}, after {len(seen)} requests. "
                "Nothing of it was used; tell Faraday's support.",
                **request.fields,
            )


def read_page(
    request: Request, answer: Answer, config: ClientConfig, decode: Decode[T], now: datetime
) -> Page[T]:
    """Read one answer.

    :param decode: what makes items of a good answer.
    :param now: the time, for a ``Retry-After`` that is a date; the answer's own ``Date`` goes before it.
    :raises FaradayApiError: for every answer that is not a good one.
    """
    if answer.status in _REDIRECTS and "Location" in answer.headers and request.call.method == "GET":
        return Page(next_url=_same_origin(request, answer.headers["Location"], config, "redirects"))
    if not 200 <= answer.status < 300:
        raise _error(request, answer, config, now)
    try:
        items = decode(answer)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as failure:
        raise _unreadable(request, answer, config, str(failure)) from None
    return Page(items, _next_url(request, answer, config))


def dataset_list(answer: Answer) -> list[dict[str, Any]]:
    """Decode a list of datasets, each with every field as Faraday sent it."""
    items = _DICTS.decode(_json(answer))
    for number, item in enumerate(items):
        _check_id(item, f"$[{number}]")
    return items


def dataset_states(answer: Answer) -> list[DatasetState]:
    """Decode a list of datasets into the few fields that readiness needs, and nothing else."""
    return _STATES.decode(_json(answer))


def one_dataset(answer: Answer) -> list[dict[str, Any]]:
    """Decode a dataset, as a list of one."""
    item = _DICT.decode(_json(answer))
    _check_id(item, "$")
    return [item]


def account(answer: Answer) -> list[None]:
    """Check that an answer is an account, and keep nothing of it."""
    _check_id(_DICT.decode(_json(answer)), "$")
    return []


def answered_at(answer: Answer) -> list[datetime | None]:
    """Take any good answer, whatever its body, and give its ``Date``, in UTC, as a list of one.

    That is the server's clock, in whole seconds; None where there is none that can be read.
    """
    return [_http_date(answer.headers.get("Date", ""))]


def unreachable(
    request: Request, config: ClientConfig, failure: BaseException, *, request_sent: bool
) -> FaradayConnectionError:
    """Give the error for a request that got no whole answer.

    :param failure: what the HTTP library said.
    :param request_sent: whether Faraday may have taken the request.
    """
    server = urlsplit(config.base_url)
    said = config.redact(" ".join(str(failure).split()) or type(failure).__name__)
    return FaradayConnectionError(
        f"No whole answer to {request.asked} came from {server.scheme}://{server.netloc}: "
        f"{_shorten(said)}. Check the network, and the host, 'proxy' and 'verify' of Airflow "
        f"connection '{config.conn_id}'.",
        request_sent=request_sent,
        **request.fields,
    )


def given_up(request: Request, what: str) -> FaradayConnectionError:
    """Give the error for an answer that was given up while it was read."""
    return FaradayConnectionError(
        f"The answer to {request.asked} was given up: {what}. Raise the extra 'timeout' of the Airflow "
        "connection if this is to be expected.",
        **request.fields,
    )


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Give the seconds that a ``Retry-After`` header asks for, 0 or more; None without a readable one."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    until = _http_date(text)
    if until is None:
        return None
    return max(0.0, (until - (_http_date(headers.get("Date", "")) or now)).total_seconds())


_DICTS: msgspec.json.Decoder[list[dict[str, Any]]] = msgspec.json.Decoder(list[dict[str, Any]])
_DICT: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_STATES: msgspec.json.Decoder[list[DatasetState]] = msgspec.json.Decoder(list[DatasetState])


def _json(answer: Answer) -> bytes:
    return answer.body.removeprefix(b"\xef\xbb\xbf")


def _check_id(item: dict[str, Any], where: str) -> None:
    if not isinstance(item.get("id"), str) or not item["id"]:
        raise msgspec.ValidationError(f"Object has no id - at `{where}`")


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _next_url(request: Request, answer: Answer, config: ClientConfig) -> str | None:
    for reference, parameters in _LINK.findall(answer.headers.get("Link", "")):
        for name, value in _PARAMETER.findall(parameters):
            if name.lower() == "rel" and "next" in value.strip("\"'").lower().split():
                return _same_origin(request, reference, config, "names a next page")
    return None


def _same_origin(request: Request, reference: str, config: ClientConfig, what: str) -> str:
    try:
        url = quote(urljoin(request.url, reference.strip()), safe="%/:=&?~#+!$,;'@()*[]")
        stays = origin(url) == origin(config.base_url) and "@" not in urlsplit(url).netloc
    except ValueError:
        stays = False
    if not stays:
        raise FaradayResponseError(
            f"Faraday's answer to {request.asked} {what} at {_shorten(config.redact(reference))}, which is "
            f"not on {config.base_url}. It was not followed, so that the key stays with Faraday; "
            f"correct the host of Airflow connection '{config.conn_id}' if the API has moved.",
            **request.fields,
        )
    return urlsplit(url)._replace(fragment="").geturl()


def _error(request: Request, answer: Answer, config: ClientConfig, now: datetime) -> FaradayApiError:
    status = answer.status
    said = _error_body(answer, config)
    code, error_id, note = (_text(said.get(key)) for key in ("error", "id", "note"))
    label = _shorten(code or _phrase(status))
    listed = said.get("validationErrors")
    invalid = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    wait = retry_after(answer.headers, now)

    reason = note or _excerpt(request, answer, config)
    details = "; ".join(
        " ".join(filter(None, (_text(e.get("path")), _text(e.get("message")), _text(e.get("suggestion")))))
        for e in invalid
    )
    advice = _ADVICE.get(status) or (_ADVICE_SERVER if status >= 500 else _ADVICE_OTHER)
    sentences = [
        f"Faraday answered {status} {label} to {request.asked}: {_shorten(reason)}",
        _shorten(details),
        f"It asks to wait {wait:.0f} seconds before the next request" if wait else "",
        advice.format(conn_id=config.conn_id)
        + (f" (Faraday error id {_shorten(error_id)})" if error_id else ""),
    ]
    return _ERROR_CLASSES.get(status, FaradayApiError)(
        " ".join(f"{sentence.rstrip('. ')}." for sentence in sentences if sentence),
        status_code=status,
        error_code=code,
        error_id=error_id,
        note=note,
        validation_errors=invalid,
        retry_after=wait,
        **request.fields,
    )


def _error_body(answer: Answer, config: ClientConfig) -> dict[str, Any]:
    try:
        said = _redacted(msgspec.json.decode(_json(answer)), config)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _redacted(value: Any, config: ClientConfig) -> Any:
    match value:
        case str():
            return config.redact(value)
        case list():
            return [_redacted(item, config) for item in value]
        case dict():
            return {_redacted(key, config): _redacted(item, config) for key, item in value.items()}
    return value


def _unreadable(request: Request, answer: Answer, config: ClientConfig, why: str) -> FaradayResponseError:
    try:
        msgspec.json.decode(_json(answer))
        broken = False
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        broken = True
    return FaradayResponseError(
        f"Faraday's answer to {request.asked} (status {answer.status}) cannot be read, {why}: "
        f"{_excerpt(request, answer, config)}. {_ADVICE_OTHER.format(conn_id=config.conn_id)}.",
        broken=broken,
        status_code=answer.status,
        **request.fields,
    )


def _excerpt(request: Request, answer: Answer, config: ClientConfig) -> str:
    if not answer.body:
        return "an empty body"
    if request.call.private:
        return f"{len(answer.body)} bytes, not shown"
    # Redacted before it is cut: a cut through the key would leave a part that nothing recognizes.
    text = config.redact(answer.body[:_REDACTED].decode(errors="replace"))
    if len(answer.body) > _REDACTED:
        text = text[: -6 * len(config.api_key)]
    kind = _shorten(config.redact(answer.headers.get("Content-Type", "no content type").split(";")[0]))
    return f"{len(answer.body)} bytes of {kind}, {_shorten(' '.join(text.split()))!r}"


def _shorten(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(unknown status)"
