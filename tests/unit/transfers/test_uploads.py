"""UploadFileOperator: what it sends, when it sends again or not at all, and what it returns."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_faraday.api import endpoints, uploads
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.client.requests_client import RequestsClient
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayInputError,
    FaradayResponseError,
    FaradayTransportError,
)
from airflow_provider_faraday.hooks import files
from airflow_provider_faraday.transfers.uploads import UploadFileOperator
from raw_server import RawServer, Received, Step, after_body, answer, raw, reset, stall
from support.clients import KEY

pytestmark = pytest.mark.usefixtures("no_backoff")

CONTENT = b"email,total\n" + b"a@example.com,12\n" * 200_000
MD5 = hashlib.md5(CONTENT).hexdigest()
OK = answer(200)
DATASETS = "/v1/datasets"


class Uploads:
    """Faraday's side: the list of uploads, and what to do with each POST; by default, store the file.

    :param date: the ``Date`` of ``GET /uploads``; by default, it has none.
    :ivar list: what ``GET /uploads`` returns.
    :ivar bodies: the bodies of all POSTs, as far as they were received.
    """

    def __init__(
        self, *posts: Step, listed: list[dict[str, Any]] | None = None, date: str | None = None
    ) -> None:
        self.list = listed or []
        self._headers = {"Date": date} if date else {}
        self.bodies: list[bytes] = []
        self._posts = list(posts)

    def __call__(self, request: Received) -> Step:
        if request.target == DATASETS:
            return answer(body=[])
        if request.method == "GET":
            return answer(body=self.list, headers=self._headers)
        return self._posts.pop(0) if self._posts else self.store()

    def store(
        self, then: Step = OK, md5: str | None = None, created_at: str = "2026-11-25T03:00:00.500Z"
    ) -> Step:
        """Store the file, then respond."""

        def step(connection: Any, request: Received) -> None:
            path = request.target.removeprefix("/v1/uploads/")
            body = self.bodies[-1]
            self.list[:] = [each for each in self.list if each["subpath"] != path]
            self.list.append(entry(path, body, created_at) | ({"md5_hash": md5} if md5 else {}))
            then(connection, request)

        return after_body(step, into=self.bodies)


def entry(path: str, body: bytes = CONTENT, created_at: str = "2026-11-24T03:00:00.000Z") -> dict[str, Any]:
    return {
        "subpath": path,
        "file_size": len(body),
        "md5_hash": hashlib.md5(body).hexdigest(),
        "created_at": created_at,
    }


def methods(server: RawServer) -> list[str]:
    """Return the methods of the requests about uploads."""
    return [request.method for request in server.received if request.target != DATASETS]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "web_orders.csv"
    path.write_bytes(CONTENT)
    return path


def upload(path: Any, **arguments: Any) -> dict[str, Any]:
    operator = UploadFileOperator(task_id="upload", path=path, **{"directory": "web_orders"} | arguments)
    return operator.execute({})


@pytest.fixture
def play(connect: Callable[..., None]) -> Callable[..., tuple[dict[str, Any] | Exception, RawServer]]:
    """Return a function that uploads to a server, and returns the result or the error, and the server."""

    def run(script: Any, path: Any, extra: dict[str, Any] | None = None, **arguments: Any) -> Any:
        with RawServer(script) as server:
            connect(server.url, **extra or {})
            try:
                return upload(path, **arguments), server
            except Exception as error:
                return error, server

    return run


# What is sent and returned


def test_a_file_is_sent_with_its_length_and_compared_with_faradays_copy(play: Any, source: Path) -> None:
    faraday = Uploads()
    result, server = play(faraday, str(source))

    assert result == {
        "path": "web_orders/web_orders.csv",
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
def test_a_path_can_have_any_form(play: Any, source: Path, form: Any) -> None:
    result, server = play(Uploads(), form(source), filename="renamed.CSV")
    assert result["path"] == "web_orders/renamed.CSV"
    assert "/v1/uploads/web_orders/renamed.CSV" in server.targets


def test_a_file_comes_from_an_object_store_through_an_airflow_connection(play: Any, bucket: Any) -> None:
    bucket.pipe_file("exports/web_orders.csv", CONTENT)
    faraday = Uploads()
    result, _ = play(faraday, "bucket://store@exports/web_orders.csv")
    assert (result["path"], result["md5"]) == ("web_orders/web_orders.csv", MD5)
    assert faraday.bodies == [CONTENT]


def test_an_empty_file_is_sent_only_if_that_is_allowed(play: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    error, server = play(Uploads(), tmp_path / "empty.csv")
    assert isinstance(error, FaradayInputError)
    assert server.received == []

    result, server = play(Uploads(), tmp_path / "empty.csv", allow_empty=True)
    assert (result["bytes"], result["md5"]) == (0, hashlib.md5(b"").hexdigest())
    assert server.received[2].headers["content-length"] == "0"


# uploaded_at


@pytest.mark.parametrize(
    ("created_at", "expected"),
    [
        ("2026-11-25T03:00:00.123Z", "2026-11-25T03:00:00.123000+00:00"),
        ("2026-11-25T05:00:00.000+02:00", "2026-11-25T03:00:00+00:00"),
        ("2026-11-25T02:59:59.999Z", "2026-11-25T02:59:59.999000+00:00"),
        # Without fractions, builds that finished within the same second must not count.
        ("2026-11-25T03:00:00Z", "2026-11-25T03:00:01+00:00"),
        # Not usable: from the Date of the response, which has no fractions.
        ("soon", "2026-11-25T03:00:01+00:00"),
    ],
)
def test_uploaded_at_is_faradays_time_and_excludes_earlier_builds(
    play: Any, source: Path, created_at: str, expected: str
) -> None:
    faraday = Uploads()
    faraday._posts = [
        faraday.store(answer(200, headers={"Date": "Wed, 25 Nov 2026 03:00:00 GMT"}), created_at=created_at)
    ]
    result, _ = play(faraday, source)
    assert result["uploaded_at"] == expected


def test_uploaded_at_is_not_earlier_than_the_end_of_the_upload(play: Any, source: Path) -> None:
    """Object stores stamp large files when their upload begins."""
    faraday = Uploads()
    date = {"Date": "Wed, 25 Nov 2026 03:10:00 GMT"}
    faraday._posts = [faraday.store(answer(200, headers=date), created_at="2026-11-25T03:00:00.500Z")]
    result, _ = play(faraday, source)
    assert result["uploaded_at"] == "2026-11-25T03:10:01+00:00"


@pytest.mark.parametrize("then", [reset, OK], ids=["lost response", "response without a date"])
def test_without_the_date_of_a_response_that_of_the_list_says_when_the_upload_had_ended(
    play: Any, source: Path, then: Step
) -> None:
    faraday = Uploads(date="Wed, 25 Nov 2026 03:20:00 GMT")
    faraday._posts = [faraday.store(then, created_at="2026-11-25T03:00:00.500Z")]
    result, _ = play(faraday, source)
    assert result["uploaded_at"] == "2026-11-25T03:20:01+00:00"


def test_without_any_time_of_faraday_the_workers_clock_is_used_with_a_warning(
    play: Any, source: Path, task_log: list[str]
) -> None:
    faraday = Uploads()
    faraday._posts = [faraday.store(created_at="")]
    before = datetime.now(UTC)
    result, _ = play(faraday, source)
    assert datetime.fromisoformat(result["uploaded_at"]) >= before
    assert any("WARNING" in line and "the worker's clock" in line for line in task_log)


# Skipping


def test_the_newest_file_is_not_sent_again(play: Any, source: Path) -> None:
    listed = [
        entry("web_orders/older.csv", b"x", "2026-11-23T00:00:00.000Z"),
        entry("web_orders/web_orders.csv"),
        entry("web_orders_2/newer.csv", b"x", "2026-11-25T00:00:00.000Z"),
    ]
    result, server = play(Uploads(listed=listed), source)
    assert methods(server) == ["GET"]
    assert result == {
        "path": "web_orders/web_orders.csv",
        "bytes": len(CONTENT),
        "md5": MD5,
        "skipped": True,
        "uploaded_at": "2026-11-24T03:00:00+00:00",
        "updated_after": {},
    }


@pytest.mark.parametrize(
    "listed",
    [
        [entry("web_orders/web_orders.csv"), entry("web_orders/newer.csv", b"x", "2026-11-25T00:00:00.000Z")],
        [entry("web_orders/web_orders.csv"), entry("web_orders/as_new.csv", b"x")],
        [entry("web_orders/web_orders.csv"), entry("web_orders/timeless.csv", b"x", "")],
        [entry("web_orders/web_orders.csv", CONTENT[:-1] + b"x")],
        [entry("web_orders/web_orders.csv", CONTENT + b"x")],
        [entry("web_orders/other_name.csv")],
        [entry("another/web_orders.csv")],
        [entry("web_orders/web_orders.csv") | {"md5_hash": "d41d8cd9-5"}],
        [entry("web_orders/web_orders.csv", created_at="")],
    ],
)
def test_a_file_that_is_not_the_newest_or_differs_is_sent(play: Any, source: Path, listed: Any) -> None:
    result, server = play(Uploads(listed=listed), source)
    assert result["skipped"] is False
    assert methods(server).count("POST") == 1


def test_the_file_is_hashed_first_only_if_the_newest_has_its_size(
    play: Any, source: Path, task_log: list[str]
) -> None:
    play(Uploads(listed=[entry("web_orders/web_orders.csv", b"x")]), source)
    assert not any("Compared" in line for line in task_log)
    play(Uploads(listed=[entry("web_orders/web_orders.csv", CONTENT[:-1] + b"x")]), source)
    assert any("Compared" in line for line in task_log)


# Names and sizes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"directory": "../etc"}, "directory must be"),
        ({"directory": "web orders"}, "directory must be"),
        ({"directory": "-x"}, "directory must be"),
        ({"directory": "x\n"}, "directory must be"),
        ({"directory": ""}, "directory must be"),
        ({"directory": "None"}, "directory must be"),
        ({"filename": "orders.xlsx"}, "csv, txt, gpg, pgp, gz, bz2"),
        ({"filename": "../orders.csv"}, "filename must be"),
        ({"filename": "orders.csv\n"}, "filename must be"),
        ({"filename": ".csv"}, "filename must be"),
        ({"filename": "a/b.csv"}, "filename must be"),
    ],
)
def test_a_name_that_faraday_would_reject_is_an_error_when_the_dag_is_parsed_and_when_it_runs(
    play: Any, source: Path, arguments: dict[str, str], says: str
) -> None:
    with pytest.raises(FaradayInputError, match=says):
        UploadFileOperator(task_id="upload", path="x.csv", **{"directory": "d"} | arguments)

    operator = UploadFileOperator(task_id="upload", path=str(source), directory="{{ x }}", filename="{{ x }}")
    operator.directory, operator.filename = {"directory": "d", "filename": "f.csv", **arguments}.values()
    with pytest.raises(FaradayInputError, match=says):
        operator.execute({})


@pytest.mark.parametrize("name", ["a.csv", "_.txt", "0-1.2.CSV.Gz", "x.gpg", "x.PGP", "x.bz2"])
def test_every_documented_name_is_accepted(play: Any, source: Path, name: str) -> None:
    result, _ = play(Uploads(), source, filename=name)
    assert result["path"] == f"web_orders/{name}"


def test_the_name_of_the_file_is_checked_if_no_other_is_given(play: Any, tmp_path: Path) -> None:
    (tmp_path / "orders.parquet").touch()
    error, server = play(Uploads(), tmp_path / "orders.parquet")
    assert isinstance(error, FaradayInputError)
    assert server.received == []


@pytest.mark.parametrize("path", [None, "", 7, ["a.csv"]])
def test_a_path_that_is_none_is_an_input_error(play: Any, path: Any) -> None:
    error, server = play(Uploads(), path)
    assert isinstance(error, FaradayInputError)
    assert "path must be the path of a file" in str(error)
    assert server.received == []


def test_a_missing_file_a_directory_and_an_unknown_file_system_are_input_errors(
    play: Any, tmp_path: Path
) -> None:
    (tmp_path / "folder.csv").mkdir()
    for path, says in (
        (tmp_path / "missing.csv", "does not exist"),
        (tmp_path / "folder.csv", "is not a file"),
        ("nosuch://bucket/x.csv", "apache-airflow-providers-"),
    ):
        error, server = play(Uploads(), path)
        assert isinstance(error, FaradayInputError)
        assert says in str(error)
        assert server.received == []


def test_a_file_above_the_documented_size_is_sent_with_a_warning(
    play: Any, source: Path, task_log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "DOCUMENTED_BYTES", len(CONTENT) - 1)
    result, server = play(Uploads(), source)
    assert result["bytes"] == len(CONTENT)
    assert "POST" in methods(server)
    assert [line for line in task_log if "documents 5 GB" in line and str(source) in line]


# Failures


def test_a_response_that_is_lost_after_the_file_was_stored_is_a_success(
    play: Any, source: Path, task_log: list[str]
) -> None:
    faraday = Uploads()
    faraday._posts = [faraday.store(then=reset)]
    result, server = play(faraday, source)
    assert (result["skipped"], result["md5"]) == (False, MD5)
    assert methods(server) == ["GET", "POST", "GET", "GET"]
    assert any("although its response was lost" in line for line in task_log)


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(after_body(reset), id="no response"),
        pytest.param(after_body(answer(500)), id="500"),
        pytest.param(after_body(answer(503, headers={"Retry-After": "0"})), id="503"),
        pytest.param(after_body(answer(429)), id="429"),
        pytest.param(after_body(reset, up_to=1_000_000), id="cut in the middle of the body"),
        pytest.param(after_body(raw(b""), up_to=1_000_000), id="closed in the middle of the body"),
    ],
)
def test_a_file_that_was_not_stored_is_sent_again_from_the_beginning(
    play: Any, source: Path, lost: Step
) -> None:
    faraday = Uploads(lost, lost)
    result, server = play(faraday, source)
    assert result["md5"] == MD5
    assert faraday.bodies == [CONTENT]
    assert methods(server).count("POST") == 3


def test_an_equal_older_copy_does_not_count_as_the_lost_upload(play: Any, source: Path) -> None:
    listed = [
        entry("web_orders/web_orders.csv"),
        entry("web_orders/newer.csv", b"x", "2026-11-24T23:00:00.000Z"),
    ]
    faraday = Uploads(after_body(reset), listed=listed)
    result, server = play(faraday, source)
    assert methods(server).count("POST") == 2
    assert result["uploaded_at"] == "2026-11-25T03:00:00.500000+00:00"


def test_another_file_of_the_name_does_not_count_as_the_lost_upload(play: Any, source: Path) -> None:
    faraday = Uploads(after_body(reset), listed=[entry("web_orders/web_orders.csv", b"old")])
    result, server = play(faraday, source)
    assert methods(server).count("POST") == 2
    assert result["md5"] == MD5


def test_attempts_are_limited(play: Any, source: Path) -> None:
    faraday = Uploads(*[after_body(reset)] * 9)
    error, server = play(faraday, source, extra={"max_attempts": 3})
    assert isinstance(error, FaradayTransportError)
    assert error.attempts == 3
    assert methods(server).count("POST") == 3


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Return a file that is far larger than what sockets buffer."""
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(64_000_000)
    return path


def test_a_server_that_stops_reading_times_out(play: Any, large: Path) -> None:
    faraday = Uploads(stall(60))
    error, server = play(faraday, large, extra={"timeout": 0.5, "max_attempts": 1})
    assert isinstance(error, FaradayTransportError)
    assert methods(server) == ["GET", "POST"]


def test_a_server_may_be_silent_for_longer_than_connecting_may_take(large: Path) -> None:
    def late(connection: Any, request: Received) -> None:
        threading.Event().wait(2)
        after_body(OK)(connection, request)

    with RawServer([late]) as server:
        timeouts = {"connect_seconds": 0.5, "read_seconds": 60}
        config = ClientConfig(conn_id="x", api_key=KEY, base_url=server.url, max_attempts=1, **timeouts)
        size = large.stat().st_size
        endpoint = endpoints.upload("web_orders", "large.csv")

        @contextmanager
        def chunks() -> Iterator[list[bytes]]:
            yield [bytes(size)]

        RequestsClient(lambda: config).upload(endpoint, size, chunks, lambda: False)


def test_the_timeout_does_not_limit_the_whole_transfer(play: Any, large: Path) -> None:
    def slowly(then: Step) -> Step:
        def step(connection: Any, request: Received) -> None:
            for _ in range(10):
                threading.Event().wait(0.3)
                after_body(lambda *_: None, up_to=2_000_000)(connection, replace(request, early=b""))
            left = int(request.headers["content-length"]) - 20_000_000 - len(request.early)
            after_body(then, up_to=left)(connection, replace(request, early=b""))

        return step

    faraday = Uploads(slowly(OK))
    error, server = play(faraday, large, extra={"timeout": 2, "max_attempts": 1})
    # Received within the timeouts, but not stored.
    assert isinstance(error, FaradayResponseError)
    assert methods(server)[:3] == ["GET", "POST", "GET"]


@pytest.mark.parametrize(
    ("step", "error_class", "says"),
    [
        (
            after_body(answer(400, {"error": "BAD_REQUEST", "note": "Bad."})),
            FaradayApiError,
            "400 BAD_REQUEST",
        ),
        (answer(413, b"too large", length=9), FaradayApiError, "413"),
        (after_body(answer(307, headers={"Location": "/v1/elsewhere"})), FaradayApiError, "307"),
        (after_body(answer(303, headers={"Location": "http://127.0.0.1:9/"})), FaradayApiError, "303"),
    ],
)
def test_a_refusal_or_a_redirect_is_an_error_and_not_followed(
    play: Any, source: Path, step: Step, error_class: Any, says: str
) -> None:
    error, server = play(Uploads(step), source)
    assert isinstance(error, error_class)
    assert says in str(error)
    assert methods(server) == ["GET", "POST"]


def test_a_key_that_is_rotated_meanwhile_is_used_for_the_whole_file(
    connect: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rejected(connection: Any, request: Received) -> None:
        fields = json.loads(os.environ["AIRFLOW_CONN_FARADAY_DEFAULT"])
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(fields | {"password": "new"}))
        answer(401, {"error": "EXPIRED_API_KEY"})(connection, request)

    faraday = Uploads(after_body(rejected))
    with RawServer(faraday) as server:
        connect(server.url)
        assert upload(source)["md5"] == MD5
        sent = [(r.method, r.headers["authorization"]) for r in server.received if r.target != DATASETS]
    assert sent == [
        ("GET", f"Bearer {KEY}"),
        ("POST", f"Bearer {KEY}"),
        # Has it arrived?
        ("GET", "Bearer new"),
        ("POST", "Bearer new"),
        ("GET", "Bearer new"),
    ]
    assert faraday.bodies == [CONTENT]


def test_a_key_that_is_rotated_after_a_lost_response_does_not_send_the_file_again(
    connect: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [KEY]

    def lose(connection: Any, request: Received) -> None:
        keys[0] = "new"
        fields = json.loads(os.environ["AIRFLOW_CONN_FARADAY_DEFAULT"])
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(fields | {"password": "new"}))
        reset(connection, request)

    faraday = Uploads()
    faraday._posts = [faraday.store(lose)]

    def script(request: Received) -> Step:
        if request.headers["authorization"] != f"Bearer {keys[0]}":
            return answer(401, {"error": "EXPIRED_API_KEY"})
        return faraday(request)

    with RawServer(script) as server:
        connect(server.url)
        assert upload(source)["md5"] == MD5
        assert methods(server).count("POST") == 1


@pytest.fixture
def good(source: Path) -> Uploads:
    """Return Faraday's side with a copy of an earlier version of the file."""
    return Uploads(listed=[entry("web_orders/web_orders.csv", b"good")])


# A multiple of what is read at a time, and far more than sockets buffer.
LARGE = (b"a@example.com,12\n" * 1_500_000)[: 24 * 2**20]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: path.write_bytes(LARGE.replace(b"a@", b"b@")), id="rewritten"),
        pytest.param(lambda path: path.open("ab").write(b"x"), id="appended"),
        pytest.param(lambda path: os.truncate(path, len(LARGE) - 1), id="truncated"),
        pytest.param(lambda path: os.replace(shutil.copy(path, f"{path}.new"), path), id="replaced"),
    ],
)
def test_a_file_that_changes_during_the_upload_never_replaces_faradays_copy(
    play: Any, source: Path, good: Uploads, change: Callable[[Path], Any]
) -> None:
    source.write_bytes(LARGE)
    before = list(good.list)

    def change_then_store(connection: Any, request: Received) -> None:
        # The rest of the body is read, and sent, only after the file has changed.
        change(source)
        good.store()(connection, request)

    good._posts = [change_then_store]
    error, server = play(good, source)
    assert isinstance(error, FaradayInputError)
    assert "changed while it was read" in str(error)
    assert methods(server) == ["GET", "POST"]
    assert (good.bodies, good.list) == ([], before)


def test_an_object_that_changes_during_the_upload_never_replaces_faradays_copy(
    play: Any, bucket: Any, good: Uploads
) -> None:
    bucket.pipe_file("exports/web_orders.csv", LARGE)

    def change_then_store(connection: Any, request: Received) -> None:
        bucket.pipe_file("exports/web_orders.csv", LARGE.replace(b"a@", b"b@"))
        good.store()(connection, request)

    good._posts = [change_then_store]
    error, _ = play(good, "bucket://store@exports/web_orders.csv")
    assert isinstance(error, FaradayInputError)
    assert good.bodies == []


def test_a_rejected_key_is_an_authentication_error_before_the_file_is_sent(play: Any, source: Path) -> None:
    error, server = play([answer(401, {"error": "EXPIRED_API_KEY"})], source)
    assert isinstance(error, FaradayAuthenticationError)
    assert methods(server) == ["GET"]


def test_a_copy_that_differs_is_an_error(play: Any, source: Path) -> None:
    faraday = Uploads()
    faraday._posts = [faraday.store(md5="0" * 32)]
    error, server = play(faraday, source)
    assert isinstance(error, FaradayResponseError)
    assert f"MD5 {MD5}" in str(error)
    assert "MD5 " + "0" * 32 in str(error)
    assert methods(server).count("POST") == 1


def test_a_file_that_does_not_appear_in_the_list_is_an_error(play: Any, source: Path) -> None:
    error, _ = play(Uploads(after_body(OK)), source)
    assert isinstance(error, FaradayResponseError)
    assert "its list of uploads does not have it" in str(error)


def test_an_md5_in_base64_is_compared(play: Any, source: Path) -> None:
    faraday = Uploads()
    faraday._posts = [faraday.store(md5=b64encode(bytes.fromhex(MD5)).decode())]
    assert play(faraday, source)[0]["md5"] == MD5


@pytest.mark.parametrize("change", [b"more", b"x" * 1_000_000, None])
def test_a_file_that_changes_while_it_is_read_is_an_error(
    play: Any, source: Path, change: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Changing(files._Source):
        def __init__(self, path: Any, log: Any) -> None:
            super().__init__(path, log)
            source.write_bytes(CONTENT + change if change else CONTENT[:-1])

    monkeypatch.setattr(files, "_Source", Changing)
    beyond: list[bytes] = []

    def read_on(connection: Any, request: Received) -> None:
        while more := connection.recv(65536):
            beyond.append(more)

    error, _ = play(Uploads(after_body(read_on)), source)
    assert isinstance(error, FaradayInputError)
    assert "changed while it was read" in str(error)
    # A server could take it for another request.
    assert beyond == []


def test_an_error_of_the_file_system_is_not_taken_for_one_of_the_network(
    play: Any, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.pipe_file("exports/web_orders.csv", CONTENT)
    opened = bucket._open

    class Broken:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *exception: Any) -> None:
            self.file.close()

        def read(self, size: int) -> bytes:
            data = self.file.read(size)
            if self.file.tell() > 1_000_000:
                raise ConnectionResetError("the bucket is gone")
            return bytes(data)

    monkeypatch.setattr(bucket, "_open", lambda *args, **kwargs: Broken(opened(*args, **kwargs)))
    error, server = play(Uploads(*[after_body(OK)] * 9), "bucket://store@exports/web_orders.csv")
    assert isinstance(error, ConnectionResetError)
    assert methods(server) == ["GET", "POST"]


# Airflow


def test_progress_is_logged(
    play: Any, source: Path, task_log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOG_EVERY_SECONDS", 0)
    play(Uploads(), source)
    lines = [line for line in task_log if line.startswith("INFO Sent ")]
    assert len(lines) > 3
    assert lines[-1].startswith("INFO Sent 3.4 MB of 3.4 MB (")


def test_the_key_is_not_logged(play: Any, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        play(Uploads(after_body(reset)), source)
    assert KEY not in caplog.text


def test_arguments_are_templated_and_outputs_are_separate_xcoms() -> None:
    assert set(UploadFileOperator.template_fields) == {"path", "directory", "filename", "faraday_conn_id"}
    operator = UploadFileOperator(task_id="upload", path="{{ x }}", directory="{{ y }}")
    assert operator.multiple_outputs
