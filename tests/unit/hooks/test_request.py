"""FaradayHook.request and request_list: any endpoint of Faraday, and nothing but Faraday."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import requests

from airflow_provider_faraday.exceptions import FaradayInputError, FaradayResponseError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from raw_server import RawServer, after_body, answer
from support.clients import ID, KEY

pytestmark = pytest.mark.usefixtures("no_backoff")

SetConnection = Callable[..., FaradayHook]


def test_returns_the_response_of_any_endpoint(connect: SetConnection) -> None:
    with RawServer([answer(body=[{"id": ID}])]) as server:
        response = connect(server.url).request("get", "scopes", params={"limit": 5, "q": ["a b", "ö"]})
        assert isinstance(response, requests.Response)
        assert response.json() == [{"id": ID}]
        assert response.text == json.dumps([{"id": ID}])
        assert server.received[0].method == "GET"
        assert server.targets == ["/v1/scopes?limit=5&q=a+b&q=%C3%B6"]
        assert server.received[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("method", "arguments", "content_type", "body"),
    [
        ("POST", {"json": {}}, "application/json", b"{}"),
        ("PATCH", {"json": {}}, "application/merge-patch+json", b"{}"),
        ("PATCH", {"data": "ö"}, "application/merge-patch+json", "ö".encode()),
        ("PATCH", {"json": {}, "headers": {"content-type": "a/b"}}, "a/b", b"{}"),
        ("POST", {"data": b"x", "headers": {"Content-Type": "a/b"}}, "a/b", b"x"),
    ],
)
def test_sends_a_payload_with_its_content_type(
    connect: SetConnection, method: str, arguments: Any, content_type: str, body: bytes
) -> None:
    bodies: list[bytes] = []
    steps = [after_body(answer(429), into=bodies), after_body(answer(body={}), into=bodies)]
    with RawServer(steps) as server:
        connect(server.url).request(method, "/datasets/x", **arguments)
    assert bodies == [body, body]
    assert [each.headers["content-type"] for each in server.received] == [content_type] * 2
    assert server.received[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "arguments",
    [
        {"headers": {"X": "a\nHost: evil.example"}},
        {"headers": {"X": "\u20ac"}},
        {"headers": {"\xe9": "x"}},
        {"json": {1, 2}},
        {"json": {}, "data": "x"},
        {"data": io.BytesIO(b"x")},
        {"params": 5},
        {"method": "GET /x"},
        {"path": "https://api.faraday.ai/v1/scopes"},
        {"path": "/%2e%2e/secret"},
        {"path": "/scopes#fragment"},
        {"path": "/\n"},
    ],
)
def test_arguments_that_are_not_valid_are_rejected_before_anything_is_sent(
    connect: SetConnection, arguments: Any
) -> None:
    with RawServer([answer(body=[])]) as server:
        with pytest.raises(FaradayInputError, match=r"headers|data|cannot be sent|an HTTP method|base URL"):
            connect(server.url).request(**{"method": "POST", "path": "/scopes"} | arguments)
        assert not server.received


def test_the_key_goes_to_faraday_whatever_the_path(connect: SetConnection) -> None:
    with RawServer([answer(body=[])]) as server:
        other = {"AUTHORIZATION": "Bearer other"}
        connect(server.url).request("GET", "/@evil.example\\x:y?a=//b", headers=other)
        assert [each.headers["authorization"] for each in server.received] == [f"Bearer {KEY}"]


def test_a_list_has_the_items_of_all_pages(connect: SetConnection) -> None:
    link = {"Link": '</v1/logs?limit=1&offset=1>; rel="next", </v1/logs>; rel="first"'}
    pages = [answer(body=[{"a": 1}], headers=link), answer(503), answer(body=[{"a": 2}])]
    with RawServer(pages) as server:
        assert connect(server.url).request_list("logs", params={"limit": 1}) == [{"a": 1}, {"a": 2}]
        assert server.targets == ["/v1/logs?limit=1", *["/v1/logs?limit=1&offset=1"] * 2]


def test_an_error_does_not_quote_a_body_that_may_hold_secrets(connect: SetConnection) -> None:
    with RawServer([answer(body=b'[{"options": {"password": "letmein"}, "secret": "letmein"}')]) as server:
        with pytest.raises(FaradayResponseError) as caught:
            connect(server.url).request_list("/webhook_endpoints")
    assert "letmein" not in str(caught.value)
