"""The page at ``/``, as the server sends it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import requests

from support.ids import TARGET

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox
    from tests.unit.sandbox.conftest import Client


def test_is_html_without_key_that_can_load_nothing_from_elsewhere(sandbox: Sandbox) -> None:
    response = requests.get(f"{sandbox.origin}/", timeout=10)

    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert sandbox.api_key not in response.text
    policy = dict(
        each.strip().split(" ", 1) for each in response.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)
    assert not re.search(r"\w+://|[\w-]+\.\w+", str({**policy, "script-src": "", "style-src": ""}))
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", response.text)


def test_is_served_while_the_api_fails_and_leaves_no_trace(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(status=503)

    page = requests.get(f"{sandbox.origin}/", timeout=10)

    assert page.status_code == 200
    # Otherwise, browsers request /favicon.ico, and take the next fault.
    assert '<link rel="icon" href="data:,">' in page.text
    assert sandbox.requests() == []
    assert client.get("/datasets").status_code == 503


def test_lists_the_last_requests_only(client: Client) -> None:
    for path in ("/datasets", "/scopes", "/targets"):
        client.get(path)

    last = client.control("GET", "/requests?last=2").json()

    assert [each["path"] for each in last] == ["/v1/scopes", "/v1/targets"]
    assert len(client.control("GET", "/requests").json()) == 3
    assert len(client.control("GET", "/requests?path=/v1/scopes").json()) == 1
    assert client.control("GET", "/requests?last=0").status_code == 400


FOREIGN_HEADERS = [
    {"Origin": "https://elsewhere.example"},
    {"Origin": "null"},
    # A host name of another site that resolves to this machine (DNS rebinding).
    {"Host": "elsewhere.example:8123"},
    {"Host": "elsewhere.example", "Origin": "http://elsewhere.example"},
]


@pytest.mark.parametrize("headers", FOREIGN_HEADERS)
def test_web_pages_of_other_sites_cannot_control_the_sandbox(
    sandbox: Sandbox, headers: dict[str, str]
) -> None:
    sandbox.fail_next(status=503)
    response = requests.post(f"{sandbox.origin}/sandbox/reset", headers=headers, timeout=10)
    assert response.status_code == 403
    assert sandbox.pending_faults()
    own = requests.post(f"{sandbox.origin}/sandbox/reset", headers={"Origin": sandbox.origin}, timeout=10)
    assert own.status_code == 204


@pytest.mark.parametrize("headers", FOREIGN_HEADERS)
def test_web_pages_of_other_sites_cannot_read_any_path(sandbox: Sandbox, headers: dict[str, str]) -> None:
    for url in (
        f"{sandbox.origin}/",
        f"{sandbox.origin}/sandbox",
        f"{sandbox.url}/nowhere",
        f"http://127.0.0.1:{sandbox.download_port}/downloads/{TARGET}.csv",
    ):
        for method in ("GET", "OPTIONS"):
            response = requests.request(method, url, headers=headers, timeout=10)
            assert response.status_code == 403
            assert not [name for name in response.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("name", ["localhost", "127.1.2.3", "[::1]"])
def test_any_name_of_this_machine_is_accepted(client: Client, name: str) -> None:
    assert client.get("/datasets", headers={"Host": f"{name}:8123"}).status_code == 200
