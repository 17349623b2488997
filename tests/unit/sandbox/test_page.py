"""The page at ``/``, as the server sends it, and who can request anything."""

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
    policy = response.headers["Content-Security-Policy"]
    for directive in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"):
        assert directive in policy
    assert "unsafe" not in policy
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", response.text)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        # A host name of another site that resolves to this machine (DNS rebinding).
        {"Host": "elsewhere.example", "Origin": "http://elsewhere.example"},
    ],
)
def test_web_pages_of_other_sites_can_neither_read_nor_control_anything(
    sandbox: Sandbox, headers: dict[str, str]
) -> None:
    sandbox.fail_next(status=503)
    for method, url in (
        ("POST", f"{sandbox.origin}/sandbox/reset"),
        ("GET", f"{sandbox.origin}/"),
        ("OPTIONS", f"{sandbox.url}/datasets"),
        ("GET", f"http://127.0.0.1:{sandbox.download_port}/downloads/{TARGET}.csv"),
    ):
        response = requests.request(method, url, headers=headers, timeout=10)
        assert response.status_code == 403
        assert not [name for name in response.headers if name.lower().startswith("access-control-")]
    assert sandbox.pending_faults()


@pytest.mark.parametrize("name", ["localhost", "[::1]"])
def test_any_name_of_this_machine_is_accepted(client: Client, name: str) -> None:
    assert client.get("/datasets", headers={"Host": f"{name}:8123"}).status_code == 200
