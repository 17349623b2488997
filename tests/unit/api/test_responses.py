"""Responses: what they decode to, where they continue, and the errors they make."""

from __future__ import annotations

import json
import pickle
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


def test_decodes_states_with_the_count_of_their_type() -> None:
    decode = states.decode_states(RESOURCE_TYPES["datasets"])
    body = b'[{"id": "a", "status": "ready", "row_count": 5, "sample": {}}]'
    (state,) = read(body, decode=decode)
    assert (state.id, state.status, state.count) == ("a", "ready", 5)


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"504 Gateway Time-out", b'{"a": "b', b'[{"id": "\xff"}]', b'[{"a":' + b"[" * 100_000],
)
def test_a_body_that_is_not_json_is_transient(body: bytes) -> None:
    error = failure(body)
    assert isinstance(error, FaradayResponseError)
    assert error.broken
    assert "not valid JSON" in str(error)


@pytest.mark.parametrize("body", [{}, None, ["Jane"], [{"id": ""}], [{"id": 7}], [{"name": "Jane"}]])
def test_json_in_an_unexpected_format_is_permanent_and_not_quoted(body: Any) -> None:
    error = failure(body)
    assert isinstance(error, FaradayResponseError)
    assert not error.broken
    assert "unexpected format" in str(error)
    assert "Jane" not in str(error)


def test_an_error_has_the_fields_of_faradays_body() -> None:
    invalid = [{"path": "ids", "message": "too many", "suggestion": "request fewer", "context": {"n": 1}}]
    body = {"error": "BAD_REQUEST", "id": "e1", "note": "Bad..", "validationErrors": [*invalid, 5]}
    error = failure(body, 400)
    assert str(error) == (
        "Faraday returned 400 BAD_REQUEST: Bad. ids too many request fewer.\n"
        "Check the arguments of the task. (GET /datasets, Faraday error id e1)"
    )
    assert (error.status_code, error.error_code, error.error_id) == (400, "BAD_REQUEST", "e1")
    assert (error.note, error.validation_errors) == ("Bad..", invalid)
    # Too large to be parsed in an event loop.
    assert failure({**body, "padding": " " * 65_536}, 400).error_code is None
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, FaradayAuthenticationError), (404, FaradayNotFoundError), (403, FaradayApiError)],
)
def test_the_status_decides_the_class(status: int, kind: type[FaradayApiError]) -> None:
    assert type(failure({"error": "X"}, status)) is kind


def test_a_key_that_faraday_cannot_parse_is_an_authentication_error() -> None:
    error = failure({"error": "INVALID_AUTHORIZATION"}, 400)
    assert isinstance(error, FaradayAuthenticationError)
    assert "Set a new key" in str(error)


def test_an_error_quotes_a_body_without_faradays_fields_unless_it_is_private() -> None:
    error = failure(b"<h1>Down</h1>", 502, Content_Type="text/html; charset=utf-8")
    assert "502 Bad Gateway: 13 bytes of text/html, '<h1>Down</h1>'." in str(error)
    assert "secret" not in str(failure(b"secret", 500, endpoint=endpoints.current_account()))
    assert "999 (unknown status): an empty body" in str(failure(b"", 999))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"\xff\xfe\x00",
        ["x"],
        {"error": 5, "id": "i" * 5000, "note": {}, "validationErrors": 5},
        {"error": "X\n\x1b[31m", "id": [], "note": "a\nb\ud800" * 1000, "validationErrors": [{"path": {}}]},
    ],
)
def test_an_error_has_two_short_lines_whatever_came_back(body: Any) -> None:
    lines = str(failure(body, 403, Content_Type="t/\xe9")).split("\n")
    assert lines[0].startswith("Faraday returned 403 ")
    assert lines[1].startswith("Check that the Airflow connection 'faraday_default'")
    assert all(line.isprintable() and len(line.encode()) < 500 for line in lines)


@pytest.mark.parametrize(
    ("value", "seconds"), [("20", 20), ("1.5", None), ("²", None), ("Fri, 02 Jan 2026 03:04:35 GMT", None)]
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
    ],
)
def test_continues_at_the_next_link(link: str, url: str | None) -> None:
    following = receive(exchange(), Link=link).next_request
    assert (following and following.url) == url


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example/v1",
        "http://api.faraday.ai/v1",
        "https://api.faraday.ai:8443/v1",
        "https://user@api.faraday.ai/v1",
        "http://[bad/",
        "/\ud800",
    ],
)
def test_rejects_another_origin(target: str) -> None:
    error = failure(Link=f"<{target}>; rel=next")
    assert isinstance(error, FaradayResponseError)
    assert "It was not requested" in str(error)


def test_collects_all_pages_and_repeats_a_request_after_an_error() -> None:
    call = receive(exchange(), [{"id": "a"}], Link="<?page=2>; rel=next")
    with pytest.raises(FaradayApiError):
        receive(call, status=503)
    receive(call, [{"id": "b"}], Date="Sun, 06 Nov 1994 08:49:37 GMT")
    assert call.next_request is None
    assert call.fetched == ([{"id": "a"}, {"id": "b"}], datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC))


def test_pages_must_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_PAGES", 2)
    call = receive(exchange(), Link="<?page=2>; rel=next")
    with pytest.raises(FaradayResponseError, match="do not end after 2 requests"):
        receive(call, Link="<?page=3>; rel=next")
