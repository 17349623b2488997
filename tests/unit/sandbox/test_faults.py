"""Responses that tests break on purpose."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from support.ids import ORDERS

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox
    from tests.unit.sandbox.conftest import Client


def test_faults_break_the_next_responses_only(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(2, status=503, headers={"Retry-After": "7"})

    responses = [client.get("/scopes") for _ in range(3)]

    assert [response.status_code for response in responses] == [503, 503, 200]
    assert responses[0].headers["Retry-After"] == "7"
    assert responses[0].json()["error"] == "INTERNAL_SERVER_ERROR"


def test_a_fault_can_have_any_body_and_headers(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(status=502, body="<h1>Bad gateway</h1>", headers={"Content-Type": "text/html"})
    sandbox.fail_next(body={"not": "a list"})
    sandbox.fail_next(headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})

    html = client.get("/datasets")
    assert (html.status_code, html.text, html.headers["Content-Type"]) == (
        502, "<h1>Bad gateway</h1>", "text/html",
    )  # fmt: skip
    assert client.get("/datasets").json() == {"not": "a list"}
    dated = client.get("/datasets")
    assert (dated.headers["Date"], len(dated.json())) == ("Thu, 01 Jan 2026 00:00:00 GMT", 7)


@pytest.mark.parametrize(("processed", "updates"), [(True, 1), (False, 0)])
@pytest.mark.parametrize("fault", [{"broken": "dropped"}, {"status": 504}])
def test_a_request_is_processed_despite_a_fault_only_if_told_to(
    client: Client, sandbox: Sandbox, fault: dict[str, Any], processed: bool, updates: int
) -> None:
    sandbox.advance(10)
    sandbox.set_dataset(ORDERS, sandbox={"lag": 600})
    sandbox.fail_next(**fault, processed=processed)

    try:
        assert client.post(f"/datasets/{ORDERS}/force_update").status_code == 504
    except requests.ConnectionError:
        assert fault == {"broken": "dropped"}

    upcoming = [each["status"] for each in sandbox.datasets()[1]["upcoming"]]
    assert upcoming.count("starting") == updates


def test_a_delay_only_delays(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(delay=0.3)
    start = time.monotonic()

    assert client.get("/datasets").status_code == 200
    assert time.monotonic() - start >= 0.3


def test_a_request_gets_the_oldest_matching_fault(client: Client, sandbox: Sandbox) -> None:
    client.control("POST", "/faults", {"path": "/scopes$", "method": "get", "status": 502})
    sandbox.fail_next(status=503)
    sandbox.fail_next(5, status=504)

    assert client.control("GET", "/datasets").status_code == 200
    assert [client.get("/datasets").status_code for _ in range(2)] == [503, 504]
    assert client.get("/scopes").status_code == 502
    assert client.control("GET", "/faults").json() == [{"times": 4, "status": 504}]
    assert client.control("DELETE", "/faults").status_code == 204
    assert client.get("/datasets").status_code == 200


@pytest.mark.parametrize("broken", ["invalid_json", "html", "empty", "wrong_length", "not_utf8"])
def test_a_broken_body_arrives_but_is_not_json(client: Client, sandbox: Sandbox, broken: str) -> None:
    sandbox.fail_next(broken=broken)

    response = client.get("/datasets")

    assert response.status_code == 200
    with pytest.raises(ValueError):  # noqa: PT011, PT012
        response.content.decode()
        response.json()
    assert client.get("/datasets").status_code == 200


@pytest.mark.parametrize("broken", ["truncated", "dropped"])
def test_a_response_can_be_cut_or_dropped(client: Client, sandbox: Sandbox, broken: str) -> None:
    sandbox.fail_next(broken=broken)

    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        client.get("/datasets")
    assert sandbox.requests()[0]["fault"] is True
    assert client.get("/datasets").status_code == 200
