"""Responses that tests break on purpose."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox
    from tests.unit.sandbox.conftest import Client


def test_a_fault_replaces_the_status_body_and_headers_of_the_next_responses(
    client: Client, sandbox: Sandbox
) -> None:
    sandbox.fail_next(2, status=503, headers={"Retry-After": "7"})
    sandbox.fail_next(body="<h1>Bad gateway</h1>", headers={"Content-Type": "text/html"})
    sandbox.fail_next(headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})

    failed, again, html, dated = (client.get("/datasets") for _ in range(4))

    assert (failed.status_code, again.status_code) == (503, 503)
    assert failed.headers["Retry-After"] == "7"
    assert failed.json()["error"] == "INTERNAL_SERVER_ERROR"
    assert (html.status_code, html.text) == (200, "<h1>Bad gateway</h1>")
    assert html.headers["Content-Type"] == "text/html"
    assert (dated.headers["Date"], len(dated.json())) == ("Thu, 01 Jan 2026 00:00:00 GMT", 7)


@pytest.mark.parametrize("processed", [True, False])
@pytest.mark.parametrize("fault", [{"broken": "dropped"}, {"status": 504}])
def test_a_request_is_processed_despite_a_fault_only_if_told_to(
    client: Client, sandbox: Sandbox, fault: dict[str, Any], processed: bool
) -> None:
    sandbox.fail_next(**fault, processed=processed)

    try:
        assert client.post("/uploads/web_orders/monday.csv", data=b"id\n").status_code == 504
    except requests.ConnectionError:
        assert fault == {"broken": "dropped"}

    assert len(sandbox.uploads()) == processed


def test_a_delay_only_delays(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(delay=0.3)
    start = time.monotonic()

    assert client.get("/datasets").status_code == 200
    assert time.monotonic() - start >= 0.3


def test_a_request_gets_the_oldest_matching_fault(client: Client, sandbox: Sandbox) -> None:
    client.control("POST", "/faults", {"path": "/scopes$", "method": "get", "status": 502})
    sandbox.fail_next(status=503)
    sandbox.fail_next(method="DELETE", status=500)
    sandbox.fail_next(5, status=504)

    assert client.control("GET", "/datasets").status_code == 200
    assert [client.get("/datasets").status_code for _ in range(2)] == [503, 504]
    assert client.get("/scopes").status_code == 502
    assert [fault["status"] for fault in client.control("GET", "/faults").json()] == [500, 504]
    assert client.control("DELETE", "/faults").status_code == 204
    assert client.get("/datasets").status_code == 200


@pytest.mark.parametrize(
    "broken", ["invalid_json", "not_utf8", "html", "empty", "wrong_length", "truncated", "dropped"]
)
def test_a_broken_response_is_not_json(client: Client, sandbox: Sandbox, broken: str) -> None:
    sandbox.fail_next(broken=broken)

    # Only the last two are errors of the connection.
    error = requests.RequestException if broken in ("truncated", "dropped") else ValueError
    with pytest.raises(error):
        json.loads(client.get("/datasets").content)
    assert sandbox.requests()[0]["fault"] is True
    assert client.get("/datasets").status_code == 200
