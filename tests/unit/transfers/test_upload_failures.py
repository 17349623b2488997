"""UploadFileOperator: when it sends a file again, and what replaces Faraday's copy."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_faraday.api import endpoints
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.client.requests_client import RequestsClient
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayInputError,
    FaradayResponseError,
    FaradayTransportError,
)
from raw_server import RawServer, Received, Step, after_body, answer, reset, stall
from support.clients import KEY
from support.uploads import CONTENT, MD5, OK, Uploads, entry, methods

pytestmark = pytest.mark.usefixtures("no_backoff")


def test_a_response_that_is_lost_after_the_file_was_stored_is_a_success(
    upload: Any, source: Path, task_log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    faraday = Uploads()
    faraday.posts = [faraday.store(then=reset)]
    with caplog.at_level(logging.DEBUG):
        result, server = upload(faraday, source)
    assert (result["skipped"], result["md5"]) == (False, MD5)
    assert methods(server) == ["GET", "POST", "GET", "GET"]
    assert any("although its response was lost" in line for line in task_log)
    assert KEY not in caplog.text


LOST = after_body(reset)


@pytest.mark.parametrize(
    ("lost", "listed"),
    [
        pytest.param(LOST, [], id="no response"),
        pytest.param(after_body(answer(503, headers={"Retry-After": "0"})), [], id="503"),
        pytest.param(after_body(reset, up_to=1_000_000), [], id="cut in the middle of the body"),
        pytest.param(
            LOST,
            [entry(), entry("web_orders/newer.csv", b"x", "2026-11-24T23:00:00.000Z")],
            id="an equal older copy",
        ),
        pytest.param(LOST, [entry(body=b"old")], id="another file of the name"),
    ],
)
def test_a_file_that_was_not_stored_is_sent_again_from_the_beginning(
    upload: Any, source: Path, lost: Step, listed: list[dict[str, Any]]
) -> None:
    faraday = Uploads(lost, lost, listed=listed)
    result, server = upload(faraday, source)
    assert (result["md5"], result["uploaded_at"]) == (MD5, "2026-11-25T03:00:00.500000+00:00")
    assert faraday.bodies == [CONTENT]
    assert methods(server).count("POST") == 3


def test_a_server_that_stops_reading_times_out_at_each_attempt(upload: Any, tmp_path: Path) -> None:
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        # Far larger than what sockets buffer.
        file.truncate(64_000_000)
    error, server = upload(Uploads(*[stall(60)] * 9), large, extra={"timeout": 0.5, "max_attempts": 2})
    assert isinstance(error, FaradayTransportError)
    assert error.attempts == 2
    assert methods(server) == ["GET", "POST", "POST"]


def test_a_server_may_be_silent_for_longer_than_connecting_may_take() -> None:
    def late(connection: Any, request: Received) -> None:
        threading.Event().wait(1)
        after_body(OK)(connection, request)

    def chunks() -> Generator[bytes]:
        yield bytes(64_000_000)

    with RawServer([late]) as server:
        timeouts = {"connect_seconds": 0.3, "read_seconds": 60}
        config = ClientConfig(conn_id="x", api_key=KEY, base_url=server.url, max_attempts=1, **timeouts)
        endpoint = endpoints.upload("web_orders", "large.csv")
        RequestsClient(lambda: config).send_file(endpoint, 64_000_000, chunks())


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (after_body(answer(400, {"error": "BAD_REQUEST", "note": "Bad."})), "400 BAD_REQUEST"),
        (answer(413, b"too large", length=9), "413"),
        (after_body(answer(307, headers={"Location": "/v1/elsewhere"})), "307"),
    ],
)
def test_a_refusal_or_a_redirect_is_an_error_and_not_followed(
    upload: Any, source: Path, step: Step, says: str
) -> None:
    error, server = upload(Uploads(step), source)
    assert type(error) is FaradayApiError
    assert says in str(error)
    assert methods(server) == ["GET", "POST"]


@pytest.mark.parametrize(("stored", "posts"), [(False, 2), (True, 1)])
def test_a_key_that_is_rotated_meanwhile_does_not_send_a_stored_file_again(
    upload: Any, source: Path, monkeypatch: pytest.MonkeyPatch, stored: bool, posts: int
) -> None:
    keys = [KEY]

    def rotate_then_reset(connection: Any, request: Received) -> None:
        keys[0] = "new"
        fields = json.loads(os.environ["AIRFLOW_CONN_FARADAY_DEFAULT"])
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(fields | {"password": "new"}))
        reset(connection, request)

    faraday = Uploads()
    faraday.posts = [faraday.store(rotate_then_reset) if stored else after_body(rotate_then_reset)]

    def script(request: Received) -> Step:
        if request.headers["authorization"] != f"Bearer {keys[0]}":
            return answer(401, {"error": "EXPIRED_API_KEY"})
        return faraday(request)

    result, server = upload(script, source)
    assert result["md5"] == MD5
    assert faraday.bodies == [CONTENT]
    assert methods(server).count("POST") == posts


# A multiple of what is read at a time, and far more than sockets buffer.
LARGE = (b"a@example.com,12\n" * 1_500_000)[: 24 * 2**20]


def append(path: ObjectStoragePath) -> None:
    path.write_bytes(LARGE + b"x")


def rewrite(path: ObjectStoragePath) -> None:
    path.write_bytes(LARGE.replace(b"a@", b"b@"))


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("{tmp_path}/web_orders.csv", rewrite),
        ("{tmp_path}/web_orders.csv", append),
        ("bucket://store@exports/web_orders.csv", rewrite),
    ],
)
@pytest.mark.usefixtures("bucket")
def test_a_file_that_changes_during_the_upload_never_replaces_faradays_copy(
    upload: Any, tmp_path: Path, path: str, change: Callable[[ObjectStoragePath], None]
) -> None:
    source = ObjectStoragePath(path.format(tmp_path=tmp_path))
    source.write_bytes(LARGE)
    faraday = Uploads(listed=[entry(body=b"good")])

    def change_then_store(connection: Any, request: Received) -> None:
        # The rest of the body is read, and sent, only after the file has changed.
        change(source)
        faraday.store()(connection, request)

    faraday.posts = [change_then_store]
    error, server = upload(faraday, source)
    assert isinstance(error, FaradayInputError)
    assert "changed while it was read" in str(error)
    assert methods(server) == ["GET", "POST"]
    assert (faraday.bodies, faraday.list) == ([], [entry(body=b"good")])


@pytest.mark.parametrize("md5", ["0" * 32, None])
def test_a_copy_that_differs_or_is_not_listed_is_an_error(upload: Any, source: Path, md5: str | None) -> None:
    faraday = Uploads()
    faraday.posts = [faraday.store(md5=md5) if md5 else after_body(OK)]
    error, server = upload(faraday, source)
    assert isinstance(error, FaradayResponseError)
    assert f"MD5 {MD5}" in str(error)
    assert (f"MD5 {md5}" if md5 else "its list of uploads does not have it") in str(error)
    assert methods(server).count("POST") == 1


def test_a_list_that_is_behind_is_requested_again(upload: Any, source: Path) -> None:
    before = [entry(body=b"old")]
    faraday = Uploads(listed=before)
    lists = [before, before, before]

    def respond(request: Received) -> Step:
        if request.method == "GET" and request.target == "/v1/uploads" and lists:
            return answer(body=lists.pop())
        return faraday(request)

    result, server = upload(respond, source)
    assert result["md5"] == MD5
    assert methods(server) == ["GET", "POST", "GET", "GET", "GET"]


def test_a_file_without_an_md5_is_compared_by_its_size(
    upload: Any, source: Path, task_log: list[str]
) -> None:
    others = [{"subpath": "web_orders/other.csv", "file_size": None, "md5_hash": None, "created_at": None}]
    faraday = Uploads(listed=others)
    # As object stores write it for a file in three parts.
    faraday.posts = [faraday.store(md5=f"{'0' * 32}-3")]
    result, _ = upload(faraday, source)
    assert (result["bytes"], result["skipped"]) == (len(CONTENT), False)
    assert any("size verified" in line for line in task_log)

    faraday.list[-1]["file_size"] = 5
    faraday.posts = [after_body(OK)]
    error, _ = upload(faraday, source)
    assert isinstance(error, FaradayResponseError)


def test_an_error_of_the_file_system_is_not_taken_for_one_of_the_network(
    upload: Any, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.pipe_file("exports/web_orders.csv", CONTENT)

    def fail(file: Any, size: int) -> bytes:
        raise ConnectionResetError("the bucket is gone")

    opened = bucket._open("/exports/web_orders.csv")
    monkeypatch.setattr(type(opened), "read", fail)
    error, server = upload(Uploads(*[after_body(OK)] * 9), "bucket://store@exports/web_orders.csv")
    assert isinstance(error, ConnectionResetError)
    # The server may not notice a request that ends before its body.
    assert methods(server).count("POST") <= 1
