"""Uploading files, and what the datasets that read them make of it."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox
from support.ids import WEB_ORDERS

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Client

CSV = b"order_id,email,total_cents\n1,ada@example.com,995\n2,grace@example.com,450\n"
PATH = "/uploads/web_orders/monday.csv"


def test_an_upload_can_be_read_replaced_and_deleted(client: Client, sandbox: Sandbox) -> None:
    client.post(PATH, data=b"old")
    client.post("/uploads/web_orders/another.csv", data=b"")
    client.post(PATH, data=CSV)

    assert client.get(PATH).content == CSV
    assert [each["subpath"] for each in sandbox.uploads()] == [
        "web_orders/another.csv",
        "web_orders/monday.csv",
    ]
    deleted = client.session.delete(sandbox.url + PATH, timeout=10)
    assert (deleted.status_code, client.get(PATH).status_code) == (204, 404)
    assert len(client.get("/uploads").json()) == 1


def test_an_upload_rebuilds_what_reads_its_directory_and_everything_downstream(
    client: Client, sandbox: Sandbox
) -> None:
    sandbox.advance(60)
    before = {each["id"]: each["last_updated_output_at"] for each in sandbox.summaries()}

    client.post(PATH, data=CSV)

    sandbox.advance(120)
    rebuilt = {
        each["name"] for each in sandbox.summaries() if each["last_updated_output_at"] != before[each["id"]]
    }
    assert rebuilt == {
        "web_orders",
        "web orders",
        "Web buyers",
        "Will buy in 30 days",
        "Likely buyers",
        "Likely buyers CSV",
        "Likely buyers to Snowflake",
    }


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.csv", b'id,note\n1,"two\nlines"\n2,"a ""quoted""\nword"\n', 2),
        ("a.csv.GZ", gzip.compress(CSV, mtime=0), 2),
        ("a.csv.bz2", bz2.compress(CSV), 2),
    ],
)
def test_rows_are_counted(client: Client, sandbox: Sandbox, name: str, content: bytes, rows: int) -> None:
    client.post(f"/uploads/web_orders/{name}", data=content)
    sandbox.advance(60)

    assert sandbox.dataset(WEB_ORDERS)["row_count"] == rows


@pytest.mark.parametrize(("latest_only", "rows"), [(False, 3), (True, 1)])
def test_all_files_are_merged_or_the_latest_replaces_the_others(
    client: Client, sandbox: Sandbox, latest_only: bool, rows: int
) -> None:
    options = {
        "type": "hosted_csv",
        "upload_directory": "web_orders",
        "replace_all_with_latest_file": latest_only,
    }
    sandbox.set_dataset(WEB_ORDERS, options=options)
    client.post(PATH, data=CSV)
    client.post("/uploads/web_orders/tuesday.csv", data=b"id\n3\n")
    client.post("/uploads/elsewhere/tuesday.csv", data=CSV)
    sandbox.advance(60)

    assert sandbox.dataset(WEB_ORDERS)["row_count"] == rows


def test_a_client_that_is_still_sending_sees_the_error(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(status=503)

    assert client.post(PATH, data=iter([bytes(1_000_000)] * 20)).status_code == 503


def test_the_files_are_removed_at_a_reset_and_at_the_end() -> None:
    with Sandbox() as sandbox:
        headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        files: list[Path] = []
        for _ in range(2):
            sandbox.reset()
            requests.post(sandbox.url + PATH, data=CSV, headers=headers, timeout=10).raise_for_status()
            files.append(sandbox.files.get("web_orders", "monday.csv").file)
        assert [file.exists() for file in files] == [False, True]

        # What looks like an outage to clients loses nothing.
        sandbox.stop()
        sandbox.start()
        assert files[1].read_bytes() == CSV

    assert not files[1].parent.exists()
