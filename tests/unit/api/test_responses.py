"""Responses: what they decode to, where they continue, and the errors they make."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import CIMultiDict

from airflow_provider_faraday.api import endpoints, responses, states
from airflow_provider_faraday.api.endpoints import Endpoint
from airflow_provider_faraday.api.errors import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayNotFoundError,
    FaradayResponseError,
)
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.api.responses import Exchange, Response
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.client.environment import next_link

BASE_URL = "https://api.faraday.ai/v1"
GET = Endpoint("GET", "/datasets")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def exchange(endpoint: Endpoint = GET, decode: Any = responses.decode_resources) -> Exchange[Any]:
    config = ClientConfig(conn_id="faraday_default", api_key="key")
    return Exchange(config.request(endpoint), decode)


def receive(call: Exchange[Any], body: Any = b"[]", status: int = 200, **headers: str) -> Exchange[Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    response = Response(status, fields, content, next_link=next_link(fields.get("Link", "")))
    call.receive(response)
    return call


def read(*arguments: Any, decode: Any = responses.decode_resources, **named: Any) -> Any:
    """Return the value of a response."""
    return receive(exchange(decode=decode), *arguments, **named).fetched.value


def failure(*arguments: Any, endpoint: Endpoint = GET, **named: Any) -> FaradayApiError:
    with pytest.raises(FaradayApiError) as caught:
        receive(exchange(endpoint), *arguments, **named)
    return caught.value


def next_url(*arguments: Any, **named: Any) -> str | None:
    following = receive(exchange(), *arguments, **named).next_request
    return following and following.url


def test_decodes_resources_with_all_fields() -> None:
    resources = [{"id": "a", "unknown": [1.5, None]}]
    assert read(resources) == resources


def test_decodes_a_byte_order_mark() -> None:
    assert read(b'\xef\xbb\xbf[{"id": "a"}]') == [{"id": "a"}]


def test_decodes_states_with_the_count_of_their_type() -> None:
    decode = states.decode_states(RESOURCE_TYPES["datasets"])
    (state,) = read([{"id": "a", "status": "ready", "row_count": 5, "sample": {}}], decode=decode)
    assert (state.id, state.status, state.count) == ("a", "ready", 5)


def test_decodes_a_single_resource() -> None:
    assert read({"id": "a"}, decode=responses.decode_resource) == {"id": "a"}


def test_returns_nothing_of_an_account() -> None:
    account = {"id": "a", "api_key": "secret"}
    assert read(account, decode=responses.decode_account) is None


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Sun, 06 Nov 1994 08:49:37 -0100", datetime(1994, 11, 6, 9, 49, 37, tzinfo=UTC)),
        ("soon", None),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None),
    ],
)
def test_returns_the_date_of_the_response(date: str, expected: datetime | None) -> None:
    call = receive(exchange(decode=responses.decode_nothing), b"any", Date=date)
    assert call.fetched.sent_at == expected


@pytest.mark.parametrize("body", [b"", b"<html>", b"[", b"[] []", b'[{"id": "\xff"}]'])
def test_a_body_that_is_not_json_is_transient(body: bytes) -> None:
    error = failure(body)
    assert isinstance(error, FaradayResponseError)
    assert error.broken
    assert "not valid JSON" in str(error)


@pytest.mark.parametrize("body", [{}, None, 5, ["a"], [{"id": ""}], [{"id": 7}], [{"name": "x"}]])
def test_json_in_an_unexpected_format_is_permanent(body: Any) -> None:
    error = failure(body)
    assert isinstance(error, FaradayResponseError)
    assert not error.broken
    assert "unexpected format" in str(error)


def test_an_error_has_the_fields_of_faradays_body() -> None:
    invalid = [{"path": "ids", "message": "too many", "suggestion": "request fewer"}]
    body = {"error": "BAD_REQUEST", "id": "e1", "note": "Bad.", "validationErrors": [*invalid, 5]}
    error = failure(body, 400)
    assert str(error) == (
        "Faraday returned 400 BAD_REQUEST: Bad. ids too many request fewer.\n"
        "Check the arguments of the task. (GET /datasets, Faraday error id e1)"
    )
    assert (error.status_code, error.error_code, error.error_id) == (400, "BAD_REQUEST", "e1")
    assert (error.note, error.validation_errors) == ("Bad.", invalid)
    assert (error.method, error.path) == ("GET", "/datasets")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, FaradayAuthenticationError), (404, FaradayNotFoundError), (403, FaradayApiError)],
)
def test_the_status_decides_the_class(status: int, kind: type[FaradayApiError]) -> None:
    assert type(failure({"error": "X"}, status)) is kind


def test_an_error_quotes_a_body_without_faradays_fields() -> None:
    error = failure(b"<h1>Down</h1>", 502, Content_Type="text/html; charset=utf-8")
    assert "502 Bad Gateway: 13 bytes of text/html, '<h1>Down</h1>'." in str(error)


def test_an_error_does_not_quote_a_private_body() -> None:
    assert "secret" not in str(failure(b"secret", 500, endpoint=endpoints.current_account()))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("20", 20),
        ("Fri, 02 Jan 2026 03:04:35 GMT", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
    ],
)
def test_reads_retry_after(value: str, seconds: float | None) -> None:
    assert failure(status=429, Retry_After=value).retry_after == seconds


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ('</v1/datasets?offset=1>; rel="next"', f"{BASE_URL}/datasets?offset=1"),
        ("<?offset=1>; rel=next", f"{BASE_URL}/datasets?offset=1"),
        ('<https://docs.example/>; rel="help", <?a=b,c>; rel="last Next"', f"{BASE_URL}/datasets?a=b,c"),
        ('<https://elsewhere.example/>; rel="prev"', None),
        ("next; <; rel=prev, ,>;;", None),
        ("", None),
    ],
)
def test_continues_at_the_next_link(link: str, url: str | None) -> None:
    assert next_url(Link=link) == url


def test_follows_a_link_to_a_hundred_ids() -> None:
    ids = "&".join(f"ids={n:036}" for n in range(100))
    link = ", ".join(
        f'</v1/datasets?{ids}&page={rel}>; rel="{rel}"' for rel in ("first", "prev", "next", "last")
    )
    assert str(next_url(Link=link)).endswith("page=next")


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/v1",
        "//evil.example/v1",
        "http://api.faraday.ai/v1",
        "https://api.faraday.ai:8443/v1",
        "https://user@api.faraday.ai/v1",
        "http://[bad/",
        "ftp:x",
        "/\ud800",
    ],
)
def test_rejects_another_origin(target: str) -> None:
    error = failure(Link=f"<{target}>; rel=next")
    assert isinstance(error, FaradayResponseError)
    assert "It was not requested" in str(error)


def test_collects_all_pages() -> None:
    call = receive(exchange(), [{"id": "a"}], Link="<?page=2>; rel=next")
    receive(call, [{"id": "b"}], Date="Sun, 06 Nov 1994 08:49:37 GMT")
    assert call.next_request is None
    assert call.fetched == ([{"id": "a"}, {"id": "b"}], datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC))


def test_repeats_a_request_after_an_error() -> None:
    call = receive(exchange(), [{"id": "a"}], Link="<?page=2>; rel=next")
    with pytest.raises(FaradayApiError):
        receive(call, status=503)
    assert receive(call, [{"id": "b"}]).fetched.value == [{"id": "a"}, {"id": "b"}]


def test_pages_must_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_PAGES", 2)
    call = receive(exchange(), Link="<?page=2>; rel=next")
    with pytest.raises(FaradayResponseError, match="do not end after 2 requests"):
        receive(call, Link="<?page=3>; rel=next")
