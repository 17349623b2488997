"""Downloading what a target has delivered."""

from __future__ import annotations

import csv
import gzip
import io
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.downloads import TargetFile
from support.ids import TARGET, UNKNOWN, WAREHOUSE_TARGET

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Client

PATH = f"/targets/{TARGET}/download.csv"


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_the_file_has_as_many_rows_as_the_target_counts(client: Client, sandbox: Sandbox) -> None:
    sandbox.advance(60)

    response = client.get(PATH)

    assert response.headers["Content-Type"].startswith("text/csv")
    assert response.headers["Content-Length"] == str(len(response.content))
    people = rows(response.content)
    assert len(people) == client.get(f"/targets/{TARGET}").json()["count"] == 18230
    assert len({person["email"] for person in people}) == 18230
    assert all(0 < float(person["probability"]) < 1 for person in people)
    assert client.get(PATH).content == response.content
    sandbox.set_resource("targets", TARGET, options={"type": "hosted_csv", "gzip": True})
    gzipped = client.get(PATH)
    assert "Content-Encoding" not in gzipped.headers
    assert gzip.decompress(gzipped.content) == response.content


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_the_length_is_known_in_advance(count: int) -> None:
    file = TargetFile(count)

    content = b"".join(file.chunks())

    assert file.length == len(content)
    assert len(rows(content)) == count
    assert gzip.decompress(b"".join(file.gzipped_chunks())) == content


def test_a_target_that_was_never_built_is_a_conflict(client: Client, sandbox: Sandbox) -> None:
    for redirect in (False, True):
        sandbox.set(download_redirect=redirect)
        response = client.get(PATH)
        assert (response.status_code, response.json()["error"]) == (409, "CONFLICT")
    assert client.get(f"/targets/{UNKNOWN}/download.csv").status_code == 404


def test_downloads_can_be_redirected_to_another_origin(client: Client, sandbox: Sandbox) -> None:
    sandbox.advance(60)
    plain = client.get(PATH).content
    assert (
        client.control("PATCH", "/settings", {"download_redirect": True}).json()["download_redirect"] is True
    )

    redirect = client.get(PATH, allow_redirects=False)
    location = redirect.headers["Location"]
    assert redirect.status_code == 302
    assert urlsplit(location).port == sandbox.download_port != sandbox.port
    sandbox.clear_requests()
    # requests itself does not send the header to another port.
    assert client.get(PATH).content == plain

    assert requests.get(location, headers={"Authorization": "Bearer x"}, timeout=10).status_code == 400
    assert requests.get(location[:-1], timeout=10).status_code == 403
    path = urlsplit(location).path
    assert [(each["path"], each["status"]) for each in sandbox.requests()] == [
        ("/v1" + PATH, 302),
        (path, 200),
        (path, 400),
        (path, 403),
    ]
    other = client.get(f"/targets/{WAREHOUSE_TARGET}/download.csv", allow_redirects=False).headers["Location"]
    stolen = path + "?" + urlsplit(other).query
    assert requests.get(f"http://127.0.0.1:{sandbox.download_port}{stolen}", timeout=10).status_code == 403


def test_the_other_port_serves_nothing_else(sandbox: Sandbox) -> None:
    origin = f"http://127.0.0.1:{sandbox.download_port}"
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}

    for path in ("/v1/datasets", "/sandbox/settings", "/"):
        assert requests.get(origin + path, headers=headers, timeout=10).status_code == 404


def test_redirects_are_an_initial_setting_that_a_reset_restores() -> None:
    sandbox = Sandbox(download_redirect=True)
    sandbox.set(download_redirect=False)
    sandbox.reset()

    assert sandbox.settings()["download_redirect"] is True
