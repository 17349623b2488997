"""UploadFileOperator: what it sends, when it skips a file, and what it returns."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_faraday.api import uploads
from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.hooks import files
from raw_server import Step, answer, reset
from support.clients import KEY
from support.uploads import CONTENT, MD5, PATH, Uploads, entry, methods

pytestmark = pytest.mark.usefixtures("no_backoff")


def dated(time: str) -> Step:
    return answer(200, headers={"Date": f"Wed, 25 Nov 2026 {time} GMT"})


# What is sent and returned


def test_a_file_is_sent_with_its_length_and_compared_with_faradays_copy(upload: Any, source: Path) -> None:
    faraday = Uploads()
    result, server = upload(faraday, str(source))

    assert result == {
        "path": PATH,
        "bytes": len(CONTENT),
        "md5": MD5,
        "skipped": False,
        "uploaded_at": "2026-11-25T03:00:00.500000+00:00",
        "updated_after": {},
    }
    assert faraday.bodies == [CONTENT]
    assert methods(server) == ["GET", "POST", "GET"]
    headers = server.received[2].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-length"] == str(len(CONTENT))
    assert headers["content-type"] == "application/octet-stream"
    assert "transfer-encoding" not in headers


@pytest.mark.parametrize("form", [str, lambda path: f"file://{path}", ObjectStoragePath, Path])
def test_a_path_can_have_any_form(upload: Any, source: Path, form: Any) -> None:
    result, server = upload(Uploads(), form(source), filename="renamed.CSV")
    assert result["path"] == "web_orders/renamed.CSV"
    assert "/v1/uploads/web_orders/renamed.CSV" in server.targets


def test_a_file_comes_from_an_object_store_through_an_airflow_connection(upload: Any, bucket: Any) -> None:
    bucket.pipe_file("exports/web_orders.csv", CONTENT)
    faraday = Uploads()
    result, _ = upload(faraday, "bucket://store@exports/web_orders.csv")
    assert (result["path"], result["md5"]) == (PATH, MD5)
    assert faraday.bodies == [CONTENT]


def test_an_empty_file_is_sent_only_if_that_is_allowed(upload: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    error, server = upload(Uploads(), tmp_path / "empty.csv")
    assert isinstance(error, FaradayInputError)
    assert server.received == []

    result, server = upload(Uploads(), tmp_path / "empty.csv", allow_empty=True)
    assert (result["bytes"], result["md5"]) == (0, hashlib.md5(b"").hexdigest())
    assert server.received[2].headers["content-length"] == "0"


@pytest.mark.parametrize(
    ("then", "list_date", "expected"),
    [
        pytest.param(dated("03:10:00"), None, "03:10:01", id="response"),
        pytest.param(reset, "Wed, 25 Nov 2026 03:20:00 GMT", "03:20:01", id="lost response"),
    ],
)
def test_uploaded_at_is_not_earlier_than_the_end_of_the_upload(
    upload: Any, source: Path, then: Step, list_date: str | None, expected: str
) -> None:
    faraday = Uploads(listed=[entry(body=b"old")], date=list_date)
    faraday.posts = [faraday.store(then, created_at="2026-11-25T03:00:00.500Z")]
    result, _ = upload(faraday, source)
    assert result["uploaded_at"] == f"2026-11-25T{expected}+00:00"


def test_without_any_time_of_faraday_the_workers_clock_is_used_with_a_warning(
    upload: Any, source: Path, task_log: list[str]
) -> None:
    faraday = Uploads()
    faraday.posts = [faraday.store(created_at="")]
    before = datetime.now(UTC)
    result, _ = upload(faraday, source)
    assert datetime.fromisoformat(result["uploaded_at"]) >= before
    assert any("WARNING" in line and "the worker's clock" in line for line in task_log)


# Skipping


def test_the_newest_file_is_not_sent_again(upload: Any, source: Path) -> None:
    listed = [
        entry("web_orders/older.csv", b"x", "2026-11-23T00:00:00.000Z"),
        entry(),
        entry("web_orders_2/newer.csv", b"x", "2026-11-25T00:00:00.000Z"),
    ]
    result, server = upload(Uploads(listed=listed), source)
    assert methods(server) == ["GET"]
    assert result == {
        "path": PATH,
        "bytes": len(CONTENT),
        "md5": MD5,
        "skipped": True,
        "uploaded_at": "2026-11-24T03:00:00+00:00",
        "updated_after": {},
    }


@pytest.mark.parametrize(
    ("listed", "hashed"),
    [
        ([entry(), entry("web_orders/newer.csv", b"x", "2026-11-25T00:00:00.000Z")], False),
        ([entry(), entry("web_orders/as_new.csv", b"x")], False),
        ([entry(), entry("web_orders/timeless.csv", b"x", "")], False),
        ([entry(body=CONTENT[:-1] + b"x")], True),
        ([entry(body=CONTENT + b"x")], False),
        ([entry("another/web_orders.csv")], False),
        ([entry() | {"md5_hash": "d41d8cd9-5"}], True),
        ([entry(created_at="")], False),
    ],
)
def test_a_file_that_is_not_the_newest_or_differs_is_sent(
    upload: Any, source: Path, listed: Any, hashed: bool, task_log: list[str]
) -> None:
    result, server = upload(Uploads(listed=listed), source)
    assert result["skipped"] is False
    assert methods(server).count("POST") == 1
    assert any("Compared" in line for line in task_log) is hashed


# Arguments


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (None, "path must be the path of a file"),
        ("{tmp_path}/missing.csv", "does not exist"),
        ("{tmp_path}/folder.csv", "is not a file"),
        # Its own name is checked if no other is given.
        ("{tmp_path}/orders.parquet", "filename must be"),
        ("nosuch://bucket/x.csv", "apache-airflow-providers-"),
    ],
)
def test_a_path_that_cannot_be_uploaded_is_an_input_error(
    upload: Any, tmp_path: Path, path: str | None, says: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "orders.parquet").touch()
    error, server = upload(Uploads(), path and path.format(tmp_path=tmp_path))
    assert isinstance(error, FaradayInputError)
    assert says in str(error)
    assert server.received == []


def test_a_file_above_the_documented_size_is_sent_with_a_warning(
    upload: Any, source: Path, task_log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "DOCUMENTED_BYTES", len(CONTENT) - 1)
    result, _ = upload(Uploads(), source)
    assert result["skipped"] is False
    assert [line for line in task_log if "documents 5 GB" in line and str(source) in line]


# Airflow


def test_progress_is_logged(
    upload: Any, source: Path, task_log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOG_EVERY_SECONDS", 0)
    upload(Uploads(), source)
    lines = [line for line in task_log if line.startswith("INFO Sent ")]
    assert len(lines) > 3
    assert lines[-1].startswith("INFO Sent 3.4 MB of 3.4 MB (")
