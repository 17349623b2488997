"""Downloading what a target has delivered."""

from __future__ import annotations

import csv
import gzip
import io
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from airflow_provider_faraday.sandbox import Sandbox
from support.ids import TARGET, WAREHOUSE_TARGET

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Client

PATH = f"/targets/{TARGET}/download.csv"


def test_the_file_has_as_many_rows_as_the_target_counts(client: Client, sandbox: Sandbox) -> None:
    assert client.get(PATH).status_code == 409
    sandbox.advance(60)

    response = client.get(PATH)

    assert response.headers["Content-Length"] == str(len(response.content))
    people = list(csv.DictReader(io.StringIO(response.text)))
    assert len(people) == client.get(f"/targets/{TARGET}").json()["count"] == 18230
    assert len({person["email"] for person in people}) == 18230
    assert all(0 < float(person["probability"]) < 1 for person in people)
    sandbox.set_resource("targets", TARGET, options={"type": "hosted_csv", "gzip": True})
    gzipped = client.get(PATH)
    assert "Content-Encoding" not in gzipped.headers
    assert gzip.decompress(gzipped.content) == response.content


def test_downloads_can_be_redirected_from_the_start() -> None:
    assert Sandbox(download_redirect=True).settings()["download_redirect"] is True


def test_downloads_can_be_redirected_to_another_origin(client: Client, sandbox: Sandbox) -> None:
    sandbox.advance(60)
    plain = client.get(PATH).content
    client.control("PATCH", "/settings", {"download_redirect": True})

    location = client.get(PATH, allow_redirects=False).headers["Location"]
    assert urlsplit(location).port == sandbox.download_port != sandbox.port
    sandbox.clear_requests()
    # requests itself does not send the header to another port.
    assert client.get(PATH).content == plain

    assert requests.get(location, headers={"Authorization": "Bearer x"}, timeout=10).status_code == 400
    other = client.get(f"/targets/{WAREHOUSE_TARGET}/download.csv", allow_redirects=False).headers["Location"]
    stolen = urlsplit(location)._replace(query=urlsplit(other).query).geturl()
    assert requests.get(stolen, timeout=10).status_code == 403
    assert [each["status"] for each in sandbox.requests(urlsplit(location).path)] == [200, 400, 403]
