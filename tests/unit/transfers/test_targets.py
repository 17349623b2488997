"""DownloadTargetOperator: what arrives at the destination, what never does, and where the key is not sent."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import ssl
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_faraday.assets.resources import resource_asset
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayInputError,
    FaradayNotFoundError,
    FaradayResponseError,
    FaradayTransportError,
    ResourcesFailedError,
)
from airflow_provider_faraday.hooks import files
from airflow_provider_faraday.transfers.targets import DownloadTargetOperator
from raw_server import RawServer, Received, Step, answer, raw, reset, stall
from support.clients import KEY
from support.events import Events
from support.ids import TARGET

pytestmark = pytest.mark.usefixtures("no_backoff")

CONTENT = b"id,will_buy\n" + b"a1b2,0.93\n" * 300_000
MD5 = hashlib.md5(CONTENT).hexdigest()
DOWNLOAD = f"/v1/targets/{TARGET}/download.csv"
SECRET = "X-Signature=s1gned"
BUILT = "2026-11-25T03:00:00.000Z"
GOOD = answer(body=CONTENT, headers={"Content-Type": "text/csv"})


def target(**fields: Any) -> dict[str, Any]:
    return {
        "id": TARGET,
        "name": "Likely buyers CSV",
        "resource_type": "targets",
        "status": "ready",
        "count": 300_000,
        "last_updated_output_at": BUILT,
    } | fields


class Target:
    """Faraday's side: the target, and a step for each download; the last one is repeated."""

    def __init__(self, *downloads: Step, targets: list[dict[str, Any]] | None = None) -> None:
        self._downloads = list(downloads) or [GOOD]
        self._targets = targets or [target()]

    def __call__(self, request: Received) -> Step:
        if request.target.endswith("download.csv"):
            return self._next(self._downloads)
        return answer(body=self._next(self._targets))

    @staticmethod
    def _next(queue: list[Any]) -> Any:
        return queue.pop(0) if len(queue) > 1 else queue[0]


def head(*lines: str) -> bytes:
    return "\r\n".join(("HTTP/1.1 200 OK", "Connection: close", *lines, "", "")).encode()


def moved(location: str, status: int = 302) -> Step:
    return answer(status, headers={"Location": location})


def downloads(server: RawServer) -> int:
    return server.targets.count(DOWNLOAD)


def download(path: Any, context: Any = None, **arguments: Any) -> dict[str, Any]:
    operator = DownloadTargetOperator(task_id="download", **{"target_id": TARGET} | arguments, path=path)
    return operator.execute(context or {})


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    path = tmp_path / "out" / "predictions.csv"
    path.parent.mkdir()
    path.write_bytes(b"yesterday")
    return path


Outcome = tuple[Any, RawServer]


@pytest.fixture
def play(connect: Callable[..., None]) -> Callable[..., Outcome]:
    """Return a function that downloads from a server, and returns the result or the error, and the server."""

    def run(script: Any, path: Any, extra: dict[str, Any] | None = None, **arguments: Any) -> Outcome:
        with RawServer(script) as server:
            connect(server.url, **extra or {})
            try:
                return download(path, **arguments), server
            except Exception as error:
                return error, server

    return run


def assert_untouched(destination: Path) -> None:
    assert destination.read_bytes() == b"yesterday"
    assert list(destination.parent.iterdir()) == [destination]


# What arrives


def test_the_file_replaces_the_one_at_the_destination(play: Any, destination: Path) -> None:
    result, server = play(Target(), str(destination))
    assert result == {
        "path": str(destination),
        "bytes": len(CONTENT),
        "md5": MD5,
        "count": 300_000,
        "last_updated_output_at": BUILT,
    }
    assert destination.read_bytes() == CONTENT
    assert list(destination.parent.iterdir()) == [destination]
    assert server.targets == [f"/v1/targets/{TARGET}", DOWNLOAD, f"/v1/targets/{TARGET}"]
    assert server.received[1].headers["authorization"] == f"Bearer {KEY}"
    assert server.received[1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("form", [str, lambda path: f"file://{path}", ObjectStoragePath, Path])
def test_a_path_can_have_any_form_and_its_local_directory_is_created(
    play: Any, tmp_path: Path, form: Any
) -> None:
    path = tmp_path / "2026-11-25" / "predictions[1]*.csv"
    result, _ = play(Target(), form(path))
    assert path.read_bytes() == CONTENT
    assert result["path"].endswith("predictions[1]*.csv")


def test_the_file_goes_to_an_object_store_through_an_airflow_connection(play: Any, bucket: Any) -> None:
    bucket.pipe_file("exports/p[1].csv", b"yesterday")
    result, _ = play(Target(), "bucket://store@exports/p[1].csv")
    assert result["path"].startswith("bucket://store@")
    assert bucket.cat_file("exports/p[1].csv") == CONTENT
    assert list(bucket.store) == ["/exports/p[1].csv"]


@pytest.mark.parametrize("encoding", [{}, {"Content-Encoding": "gzip"}])
def test_compressed_bytes_are_stored_as_sent(play: Any, destination: Path, encoding: dict[str, str]) -> None:
    compressed = gzip.compress(CONTENT)
    step = answer(body=compressed, headers={"Content-Type": "application/gzip"} | encoding)
    result, _ = play(Target(step), destination)
    assert destination.read_bytes() == compressed
    assert result["md5"] == hashlib.md5(compressed).hexdigest()


def chunked(body: bytes, *, end: bytes = b"0\r\n\r\n") -> bytes:
    return head("Transfer-Encoding: chunked") + b"%x\r\n%b\r\n" % (len(body), body) + end


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(raw(chunked(CONTENT)), id="chunked"),
        pytest.param(raw(head() + CONTENT), id="until the connection is closed"),
    ],
)
def test_a_file_of_unknown_length_arrives(play: Any, destination: Path, step: Step) -> None:
    result, _ = play(Target(step), destination)
    assert result["bytes"] == len(CONTENT)
    assert destination.read_bytes() == CONTENT


def test_many_chunks_take_longer_than_the_timeout(play: Any, destination: Path) -> None:
    def slowly(connection: Any, request: Received) -> None:
        connection.sendall(head(f"Content-Length: {len(CONTENT)}"))
        for begin in range(0, len(CONTENT), len(CONTENT) // 10):
            threading.Event().wait(0.3)
            connection.sendall(CONTENT[begin : begin + len(CONTENT) // 10])
        connection.close()

    result, _ = play(Target(slowly), destination, extra={"timeout": 2, "max_attempts": 1})
    assert result["md5"] == MD5


def test_what_arrives_faster_than_it_is_hashed_does_not_fill_the_memory(
    play: Any, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, blocks = bytes(1_000_000), 64

    def quickly(connection: Any, request: Received) -> None:
        connection.sendall(head(f"Content-Length: {len(block) * blocks}"))
        for _ in range(blocks):
            connection.sendall(block)
        connection.close()

    class SlowHash:
        def __init__(self, **arguments: Any) -> None:
            self._hash = hashlib.new("md5")
            self.hexdigest = self._hash.hexdigest

        def update(self, chunk: bytes) -> None:
            threading.Event().wait(0.005)
            self._hash.update(chunk)

    monkeypatch.setattr(files, "hashlib", SimpleNamespace(md5=SlowHash))
    tracemalloc.start()
    try:
        result, _ = play(Target(quickly), destination)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result["md5"] == hashlib.md5(block * blocks).hexdigest()
    assert peak < 16_000_000


# What never arrives


FAILURES = {
    "no response": reset,
    "cut": answer(body=CONTENT[:2_000_000], length=len(CONTENT)),
    "cut in the first bytes": answer(body=CONTENT[:10], length=len(CONTENT)),
    "chunked, cut in a chunk": raw(head("Transfer-Encoding: chunked") + b"2dc6cc\r\n" + CONTENT[:2_000_000]),
    "chunked, without an end": raw(chunked(CONTENT, end=b"")),
    "stalled": stall(60, head(f"Content-Length: {len(CONTENT)}") + CONTENT[:2_000_000]),
    "500": answer(500, b"no"),
    "503": answer(503, b"no", headers={"Retry-After": "0"}),
    "429": answer(429, b"no"),
    "a web page": answer(body=b"<h1>Sign in</h1>", headers={"Content-Type": "text/html"}),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_transient_failure_is_retried_from_the_beginning(
    play: Any, destination: Path, failure: Step
) -> None:
    result, server = play(Target(failure, failure, GOOD), destination, extra={"timeout": 1})
    assert result["md5"] == MD5
    assert destination.read_bytes() == CONTENT
    assert list(destination.parent.iterdir()) == [destination]
    assert downloads(server) == 3


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failure_never_touches_the_destination_and_leaves_nothing(
    play: Any, destination: Path, failure: Step
) -> None:
    error, server = play(Target(failure), destination, extra={"timeout": 1, "max_attempts": 2})
    assert isinstance(error, FaradayApiError)
    assert error.attempts == 2
    assert downloads(server) == 2
    assert_untouched(destination)


def test_a_failure_never_touches_an_object_that_a_bucket_has(play: Any, bucket: Any) -> None:
    bucket.pipe_file("exports/p.csv", b"yesterday")
    error, _ = play(Target(FAILURES["cut"]), "bucket://store@exports/p.csv", extra={"max_attempts": 2})
    assert isinstance(error, FaradayTransportError)
    assert bucket.cat_file("exports/p.csv") == b"yesterday"
    assert list(bucket.store) == ["/exports/p.csv"]


@pytest.mark.parametrize(
    ("step", "error_class", "says"),
    [
        (answer(401, {"error": "EXPIRED_API_KEY"}), FaradayAuthenticationError, "Set a new key"),
        (answer(404, {"error": "NOT_FOUND"}), FaradayNotFoundError, "Check the id"),
        (answer(409, {"error": "CONFLICT", "note": "Not built."}), FaradayApiError, "Not built."),
        (answer(204), FaradayApiError, "204 No Content"),
        (answer(206, CONTENT[:10]), FaradayApiError, "206 Partial Content"),
        (answer(304), FaradayApiError, "304 Not Modified"),
    ],
)
def test_a_permanent_failure_is_not_retried(
    play: Any, destination: Path, step: Step, error_class: Any, says: str
) -> None:
    error, server = play(Target(step), destination)
    assert type(error) is error_class
    assert says in str(error)
    assert downloads(server) == 1
    assert_untouched(destination)


def test_a_killed_task_leaves_the_destination(
    play: Any, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*arguments: object) -> None:
        raise Killed

    monkeypatch.setattr(files, "LOG_EVERY_SECONDS", 0)
    monkeypatch.setattr(files._Meter, "_log_progress", kill)
    with pytest.raises(Killed):
        play(Target(), destination)
    assert_untouched(destination)


# Redirects


@pytest.fixture
def elsewhere() -> Any:
    """Return a started server on another origin, to which the API key must not be sent."""
    with RawServer(lambda request: GOOD) as server:
        yield server


def signed(server: RawServer) -> str:
    return f"http://127.0.0.1:{server.port}/bucket/out.csv?{SECRET}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_followed_without_the_key(
    play: Any, destination: Path, elsewhere: RawServer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        result, _ = play(Target(moved(signed(elsewhere), status)), destination)
    assert result["md5"] == MD5
    (request,) = elsewhere.received
    assert request.method == "GET"
    assert request.target == f"/bucket/out.csv?{SECRET}"
    assert KEY not in json.dumps(request.headers)
    assert SECRET not in caplog.text
    assert KEY not in caplog.text


def test_a_redirect_on_the_same_host_is_followed_with_the_key(play: Any, destination: Path) -> None:
    def script(request: Received) -> Step:
        if request.target == DOWNLOAD:
            return moved("/v1/files/out.csv")
        return GOOD if request.target == "/v1/files/out.csv" else answer(body=target())

    result, server = play(script, destination)
    assert result["md5"] == MD5
    assert server.received[2].headers["authorization"] == f"Bearer {KEY}"


def test_a_failure_behind_a_redirect_begins_again_with_a_new_signed_url(play: Any, destination: Path) -> None:
    with RawServer([FAILURES["cut"], GOOD]) as storage:
        urls = [moved(f"{signed(storage)}-1"), moved(f"{signed(storage)}-2")]
        result, server = play(Target(*urls), destination)
        assert storage.targets == [f"/bucket/out.csv?{SECRET}-1", f"/bucket/out.csv?{SECRET}-2"]
    assert result["md5"] == MD5
    assert downloads(server) == 2


@pytest.mark.parametrize(
    ("step", "says", "attempts"),
    [
        (answer(403, f"<Error>{SECRET}</Error>".encode()), "returned 403 Forbidden", 1),
        (answer(401, b"no"), "returned 401 Unauthorized", 1),
        (answer(404, b"no"), "returned 404 Not Found", 1),
        (answer(503, b"no"), "returned 503 Service Unavailable", 2),
        (answer(body=f"<p>{SECRET}</p>".encode(), headers={"Content-Type": "text/html"}), "a web page", 1),
        (raw(f"HTTP/1.1 {SECRET}\r\n\r\n".encode()), "BadStatusLine", 2),
        (reset, "No complete response from 127.0.0.1", 2),
    ],
)
def test_an_error_of_another_host_names_it_and_hides_the_signed_url(
    play: Any,
    destination: Path,
    step: Step,
    says: str,
    attempts: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RawServer([step]) as storage, caplog.at_level(logging.DEBUG):
        error, server = play(Target(moved(signed(storage))), destination, extra={"max_attempts": 2})
    assert isinstance(error, FaradayApiError)
    # A new key would not help: it was not sent.
    assert not isinstance(error, FaradayAuthenticationError)
    assert says in str(error)
    assert "127.0.0.1" in str(error)
    assert error.attempts == attempts == downloads(server)
    assert SECRET not in f"{error}{error!r}{vars(error)}{caplog.text}"
    assert_untouched(destination)


@pytest.mark.parametrize("content_type", ["Text/HTML; charset=utf-8", "application/xhtml+xml"])
def test_a_page_is_not_taken_for_the_file(play: Any, destination: Path, content_type: str) -> None:
    page = answer(body=b"<h1>Sign in</h1>", headers={"Content-Type": content_type})
    error, _ = play(Target(page), destination, extra={"max_attempts": 1})
    assert isinstance(error, FaradayResponseError)
    assert_untouched(destination)


@pytest.mark.parametrize(
    "location",
    [
        "http://[bad/",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1:9/x",
    ],
)
def test_a_redirect_to_what_is_not_a_url_of_a_server_is_not_followed(
    play: Any, destination: Path, location: str
) -> None:
    error, _ = play(Target(moved(location + "?" + SECRET)), destination, extra={"max_attempts": 1})
    assert isinstance(error, FaradayTransportError)
    assert SECRET not in str(error)
    assert "user:pw" not in str(error)


def test_a_host_that_no_library_accepts_is_an_error_without_the_signed_url(
    play: Any, destination: Path
) -> None:
    error, _ = play(
        Target(moved(f"http://{'a' * 70}.test/x?{SECRET}")), destination, extra={"max_attempts": 1}
    )
    assert isinstance(error, FaradayApiError)
    assert SECRET not in str(error)


def test_redirects_without_end_are_an_error(play: Any, destination: Path) -> None:
    error, _ = play(Target(moved(DOWNLOAD)), destination, extra={"max_attempts": 1})
    assert isinstance(error, FaradayTransportError)
    assert "TooManyRedirects" in str(error)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_redirect_from_https_to_http_needs_allow_http(
    connect: Any,
    destination: Path,
    self_signed: ssl.SSLContext,
    tmp_path: Path,
    elsewhere: RawServer,
    allowed: bool,
) -> None:
    with RawServer(Target(moved(signed(elsewhere))), tls=self_signed) as server:
        connect(server.url, verify=str(tmp_path / "server.pem"), **({"allow_http": True} if allowed else {}))
        if allowed:
            assert download(destination)["md5"] == MD5
        else:
            with pytest.raises(FaradayResponseError, match="redirected to plain http"):
                download(destination)
            assert elsewhere.received == []


def test_the_other_host_is_verified_with_the_same_certificates(
    connect: Any, destination: Path, self_signed: ssl.SSLContext, tmp_path: Path
) -> None:
    with (
        RawServer([GOOD], tls=self_signed) as storage,
        RawServer(Target(moved(f"https://127.0.0.1:{storage.port}/x"))) as server,
    ):
        connect(server.url, verify=str(tmp_path / "server.pem"))
        assert download(destination)["md5"] == MD5
        connect(server.url, max_attempts=1)
        with pytest.raises(FaradayTransportError, match="certificate verify failed"):
            download(destination)


# The target


@pytest.mark.parametrize(
    ("fields", "error_class", "says"),
    [
        ({"archived_at": "2026-11-01T00:00:00Z"}, FaradayInputError, "is archived"),
        (
            {"status": "error", "status_error": "No\nspace"},
            ResourcesFailedError,
            "target 'Likely buyers CSV' failed: No space",
        ),
        ({"status": "new", "last_updated_output_at": None}, FaradayInputError, "has never been built"),
    ],
)
def test_a_target_without_output_is_not_downloaded(
    play: Any, destination: Path, fields: dict[str, Any], error_class: Any, says: str
) -> None:
    error, server = play(Target(targets=[target(**fields)]), destination)
    assert type(error) is error_class
    assert says in str(error)
    assert downloads(server) == 0
    assert_untouched(destination)


@pytest.mark.parametrize("fields", [{"status": "running"}, {"last_updated_output_at": None}])
def test_a_target_that_may_have_output_is_downloaded(
    play: Any, destination: Path, fields: dict[str, Any]
) -> None:
    result, _ = play(Target(targets=[target(**fields)]), destination)
    assert result["md5"] == MD5


def test_a_target_that_is_rebuilt_meanwhile_is_downloaded_again(play: Any, destination: Path) -> None:
    new = target(last_updated_output_at="2026-11-25T04:00:00.000Z", count=7)
    faraday = Target(answer(body=b"old"), GOOD, targets=[target(), new])
    result, server = play(faraday, destination)
    assert downloads(server) == 2
    assert result["md5"] == MD5
    assert (result["count"], result["last_updated_output_at"]) == (7, new["last_updated_output_at"])


def test_a_target_that_is_rebuilt_again_and_again_is_an_error(play: Any, destination: Path) -> None:
    states = [target(last_updated_output_at=f"2026-11-25T0{hour}:00:00.000Z") for hour in range(5)]
    error, server = play(Target(targets=states), destination, extra={"max_attempts": 2})
    assert isinstance(error, FaradayResponseError)
    assert downloads(server) == 2
    assert_untouched(destination)


def test_the_outlet_of_the_target_carries_the_build(play: Any, destination: Path) -> None:
    outlet = resource_asset("targets", TARGET)
    events = Events()
    play(Target(), destination, context={"outlet_events": events}, outlets=[outlet])
    extra = events.extras[outlet.uri]
    assert (extra["id"], extra["count"], extra["last_updated_output_at"]) == (TARGET, 300_000, BUILT)


# Arguments


@pytest.mark.parametrize("path", [None, "", "None", 7, "bucket://store@exports/", "{tmp_path}"])
def test_a_path_that_is_not_that_of_a_file_is_an_input_error(
    play: Any, bucket: Any, tmp_path: Path, path: Any
) -> None:
    error, server = play(Target(), path and str(path).format(tmp_path=tmp_path) if path != 7 else 7)
    assert isinstance(error, FaradayInputError)
    assert "path must be the path of a file" in str(error)
    assert server.received == []


def test_a_target_id_is_checked_when_the_dag_is_parsed_and_when_it_runs(destination: Path) -> None:
    with pytest.raises(FaradayInputError, match="target_id must be the UUID"):
        DownloadTargetOperator(task_id="download", target_id="[]", path="x.csv")
    operator = DownloadTargetOperator(task_id="download", target_id="{{ x }}", path=str(destination))
    operator.target_id = "[]"
    with pytest.raises(FaradayInputError, match="target_id must be the UUID"):
        operator.execute({})


def test_progress_is_logged(
    play: Any, destination: Path, task_log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOG_EVERY_SECONDS", 0)
    play(Target(), destination)
    lines = [line for line in task_log if line.startswith("INFO Received ")]
    assert len(lines) > 2
    assert lines[-1].startswith("INFO Received 3.0 MB of 3.0 MB (")


def test_arguments_are_templated_and_outputs_are_separate_xcoms() -> None:
    assert set(DownloadTargetOperator.template_fields) == {"target_id", "path", "faraday_conn_id"}
    assert DownloadTargetOperator(task_id="download", target_id="{{ x }}", path="{{ y }}").multiple_outputs
