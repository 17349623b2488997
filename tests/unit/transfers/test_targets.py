"""DownloadTargetOperator: what arrives at the destination, what never does, and where the key is not sent."""

from __future__ import annotations

import gzip
import hashlib
import logging
import ssl
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_faraday.assets.resources import resource_asset
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayInputError,
    FaradayResponseError,
    FaradayTransportError,
    ResourcesFailedError,
)
from airflow_provider_faraday.hooks import files
from raw_server import RawServer, Received, Step, answer, raw, reset, stall
from support.clients import KEY
from support.events import Events
from support.ids import TARGET
from support.targets import DOWNLOAD, Target, target

pytestmark = pytest.mark.usefixtures("no_backoff")

CONTENT = b"id,will_buy\n" + b"a1b2,0.93\n" * 300_000
MD5 = hashlib.md5(CONTENT).hexdigest()
SECRET = "X-Signature=s1gned"
BUILT = "2026-11-25T03:00:00.000Z"
GOOD = answer(body=CONTENT, headers={"Content-Type": "text/csv"})
CUT = answer(body=CONTENT[:2_000_000], length=len(CONTENT))


def head(*lines: str) -> bytes:
    return "\r\n".join(("HTTP/1.1 200 OK", "Connection: close", *lines, "", "")).encode()


def chunked(body: bytes, *, end: bytes = b"0\r\n\r\n") -> bytes:
    return head("Transfer-Encoding: chunked") + b"%x\r\n%b\r\n" % (len(body), body) + end


def moved(location: str, status: int = 302) -> Step:
    return answer(status, headers={"Location": location})


def downloads(server: RawServer) -> int:
    return server.targets.count(DOWNLOAD)


def assert_untouched(destination: Path) -> None:
    assert destination.read_bytes() == b"yesterday"
    assert list(destination.parent.iterdir()) == [destination]


# What arrives


def test_the_file_replaces_the_one_at_the_destination(download: Any, destination: Path) -> None:
    result, server = download(Target(GOOD), str(destination))
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


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(raw(chunked(CONTENT)), CONTENT, id="chunked"),
        pytest.param(raw(head() + CONTENT), CONTENT, id="until the connection is closed"),
        pytest.param(
            answer(body=gzip.compress(CONTENT, mtime=0), headers={"Content-Encoding": "gzip"}),
            gzip.compress(CONTENT, mtime=0),
            id="compressed",
        ),
        *(
            pytest.param(answer(body=body), body, id=repr(body))
            for body in (b"id\n", b"{id}\n{1}\n", b"1\n", b"\x1f\x8b\x08\x00{}")
        ),
    ],
)
def test_bytes_are_stored_as_sent(download: Any, destination: Path, step: Step, expected: bytes) -> None:
    result, _ = download(Target(step), destination)
    assert destination.read_bytes() == expected
    assert (result["bytes"], result["md5"]) == (len(expected), hashlib.md5(expected).hexdigest())


def test_what_arrives_faster_than_it_is_hashed_does_not_fill_the_memory(
    download: Any, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, blocks = bytes(1_000_000), 48

    def quickly(connection: Any, request: Received) -> None:
        connection.sendall(head(f"Content-Length: {len(block) * blocks}"))
        for _ in range(blocks):
            connection.sendall(block)
        connection.close()

    def slow_hash(**arguments: Any) -> Any:
        wait = threading.Event().wait
        return SimpleNamespace(update=lambda chunk: wait(0.005), hexdigest=lambda: "slow")

    monkeypatch.setattr(files, "hashlib", SimpleNamespace(md5=slow_hash))
    tracemalloc.start()
    try:
        result, _ = download(Target(quickly), destination)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result["bytes"] == len(block) * blocks
    assert peak < 16_000_000


# What never arrives


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(reset, id="no response"),
        pytest.param(CUT, id="cut"),
        pytest.param(raw(chunked(CONTENT, end=b"")), id="chunked, without an end"),
        pytest.param(answer(503, b"no", headers={"Retry-After": "0"}), id="503"),
        pytest.param(answer(body=b"<h1>", headers={"Content-Type": "Text/HTML; charset=utf-8"}), id="a page"),
        pytest.param(answer(body={"error": "INTERNAL_SERVER_ERROR"}), id="a JSON document"),
        pytest.param(answer(body=b"\n[1]", headers={"Content-Type": "text/csv"}), id="a JSON list"),
        pytest.param(answer(body=b""), id="empty, although the target has rows"),
    ],
)
def test_a_transient_failure_is_retried_and_leaves_nothing(
    download: Any, destination: Path, failure: Step
) -> None:
    extra = {"max_attempts": 2}
    error, server = download(Target(failure), destination, extra)
    assert isinstance(error, FaradayApiError)
    assert error.attempts == downloads(server) == 2
    assert_untouched(destination)

    result, server = download(Target(failure, GOOD), destination, extra)
    assert (result["md5"], downloads(server)) == (MD5, 2)
    assert destination.read_bytes() == CONTENT
    assert list(destination.parent.iterdir()) == [destination]


def test_a_download_that_stalls_times_out(download: Any, destination: Path) -> None:
    stalled = stall(60, head(f"Content-Length: {len(CONTENT)}") + CONTENT[:2_000_000])
    error, _ = download(Target(stalled), destination, {"timeout": 1, "max_attempts": 1})
    assert isinstance(error, FaradayTransportError)
    assert "timed out" in str(error)
    assert_untouched(destination)


@pytest.mark.parametrize(
    ("step", "error_class", "says"),
    [
        (answer(401, {"error": "EXPIRED_API_KEY"}), FaradayAuthenticationError, "Set a new key"),
        (answer(409, {"error": "CONFLICT", "note": "Not built."}), FaradayApiError, "Not built."),
        (answer(206, CONTENT[:10]), FaradayApiError, "206 Partial Content"),
    ],
)
def test_a_permanent_failure_is_not_retried(
    download: Any, destination: Path, step: Step, error_class: Any, says: str
) -> None:
    error, server = download(Target(step), destination)
    assert type(error) is error_class
    assert says in str(error)
    assert downloads(server) == 1
    assert_untouched(destination)


def test_a_killed_task_leaves_the_destination(
    download: Any, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*arguments: object) -> None:
        raise Killed

    monkeypatch.setattr(files, "LOG_EVERY_SECONDS", 0)
    monkeypatch.setattr(files._Meter, "_log_progress", kill)
    with pytest.raises(Killed):
        download(Target(GOOD), destination)
    assert_untouched(destination)


# Redirects


@pytest.fixture
def elsewhere() -> Any:
    """Return a started server on another origin, to which the API key must not be sent."""
    with RawServer(lambda request: GOOD) as server:
        yield server


def signed(server: RawServer) -> str:
    return f"http://127.0.0.1:{server.port}/bucket/out.csv?{SECRET}"


@pytest.mark.parametrize("status", [302, 308])
def test_a_redirect_to_another_host_is_followed_without_credentials(
    download: Any,
    destination: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: RawServer,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "netrc").write_text("default login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with caplog.at_level(logging.DEBUG):
        result, _ = download(Target(moved(signed(elsewhere), status)), destination)
    assert result["md5"] == MD5
    (request,) = elsewhere.received
    assert (request.method, request.target) == ("GET", f"/bucket/out.csv?{SECRET}")
    assert "authorization" not in request.headers
    assert SECRET not in caplog.text
    assert KEY not in caplog.text


def test_a_redirect_on_the_same_host_is_followed_with_the_key(download: Any, destination: Path) -> None:
    def script(request: Received) -> Step:
        if request.target == DOWNLOAD:
            return moved("/v1/files/out.csv")
        return GOOD if request.target == "/v1/files/out.csv" else answer(body=target())

    result, server = download(script, destination)
    assert result["md5"] == MD5
    assert server.received[2].headers["authorization"] == f"Bearer {KEY}"


def test_a_failure_behind_a_redirect_begins_again_with_a_new_signed_url(
    download: Any, destination: Path
) -> None:
    with RawServer([CUT, GOOD]) as storage:
        urls = [moved(f"{signed(storage)}-1"), moved(f"{signed(storage)}-2")]
        result, server = download(Target(*urls), destination)
        assert storage.targets == [f"/bucket/out.csv?{SECRET}-1", f"/bucket/out.csv?{SECRET}-2"]
    assert result["md5"] == MD5
    assert downloads(server) == 2


@pytest.mark.parametrize(
    ("step", "says", "attempts"),
    [
        (answer(401, f"<Error>{SECRET}</Error>".encode()), "returned 401 Unauthorized", 1),
        (answer(503, b"no"), "returned 503 Service Unavailable", 2),
        (answer(body=f"<p>{SECRET}</p>".encode(), headers={"Content-Type": "text/html"}), "a web page", 1),
        (raw(f"HTTP/1.1 {SECRET}\r\n\r\n".encode()), "BadStatusLine", 2),
        (reset, "No complete response from 127.0.0.1", 2),
    ],
)
def test_an_error_of_another_host_names_it_and_hides_the_signed_url(
    download: Any,
    destination: Path,
    step: Step,
    says: str,
    attempts: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RawServer([step]) as storage, caplog.at_level(logging.DEBUG):
        error, server = download(Target(moved(signed(storage))), destination, {"max_attempts": 2})
    assert isinstance(error, FaradayApiError)
    # A new key would not help: it was not sent.
    assert not isinstance(error, FaradayAuthenticationError)
    assert says in str(error)
    assert "127.0.0.1" in str(error)
    assert error.attempts == attempts == downloads(server)
    assert SECRET not in f"{error}{error!r}{vars(error)}{caplog.text}"
    assert_untouched(destination)


@pytest.mark.parametrize(
    "location",
    [
        "http://[bad/",
        "http://127.0.0.1:s3cret/",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1:9/x",
        f"http://{'a' * 70}.test/x",
        DOWNLOAD,
    ],
)
def test_a_redirect_that_cannot_be_followed_is_an_error_without_the_signed_url(
    download: Any, destination: Path, location: str
) -> None:
    error, _ = download(Target(moved(f"{location}?{SECRET}")), destination, {"max_attempts": 1})
    assert isinstance(error, FaradayApiError)
    assert SECRET not in str(error)
    assert "user:pw" not in str(error)
    assert "s3cret" not in str(error)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_redirect_from_https_to_http_needs_allow_http(
    download: Any,
    destination: Path,
    self_signed: ssl.SSLContext,
    tmp_path: Path,
    elsewhere: RawServer,
    allowed: bool,
) -> None:
    extra = {"verify": str(tmp_path / "server.pem"), **({"allow_http": True} if allowed else {})}
    result, _ = download(Target(moved(signed(elsewhere))), destination, extra, tls=self_signed)
    if allowed:
        assert result["md5"] == MD5
    else:
        assert isinstance(result, FaradayResponseError)
        assert "redirected to plain http" in str(result)
        assert "allow_http" in str(result)
        assert elsewhere.received == []


def test_the_other_host_is_verified_with_the_same_certificates(
    download: Any, destination: Path, self_signed: ssl.SSLContext, tmp_path: Path
) -> None:
    with RawServer([GOOD], tls=self_signed) as storage:
        faraday = Target(moved(f"https://127.0.0.1:{storage.port}/x"))
        result, _ = download(faraday, destination, {"verify": str(tmp_path / "server.pem")})
        assert result["md5"] == MD5
        error, _ = download(faraday, destination, {"max_attempts": 1})
    assert isinstance(error, FaradayTransportError)
    assert "certificate verify failed" in str(error)


# The target


@pytest.mark.parametrize(
    ("fields", "error_class", "says"),
    [
        ({"archived_at": "2026-11-01T00:00:00Z"}, FaradayInputError, "is archived"),
        ({"status": "error", "status_error": "No\nspace"}, ResourcesFailedError, "failed: No space"),
        ({"status": "new", "last_updated_output_at": None}, FaradayInputError, "has never been built"),
    ],
)
def test_a_target_without_output_is_not_downloaded(
    download: Any, destination: Path, fields: dict[str, Any], error_class: Any, says: str
) -> None:
    error, server = download(Target(GOOD, targets=[target(**fields)]), destination)
    assert type(error) is error_class
    assert says in str(error)
    assert downloads(server) == 0
    assert_untouched(destination)


@pytest.mark.parametrize("fields", [{"status": "running"}, {"last_updated_output_at": None}])
def test_a_target_that_may_have_output_is_downloaded(
    download: Any, destination: Path, fields: dict[str, Any]
) -> None:
    result, _ = download(Target(GOOD, targets=[target(**fields)]), destination)
    assert result["md5"] == MD5


def test_a_target_that_is_rebuilt_meanwhile_is_downloaded_again(download: Any, destination: Path) -> None:
    new = target(last_updated_output_at="2026-11-25T04:00:00.000Z", count=7)
    result, server = download(Target(answer(body=b"old"), GOOD, targets=[target(), new]), destination)
    assert downloads(server) == 2
    assert result["md5"] == MD5
    assert (result["count"], result["last_updated_output_at"]) == (7, new["last_updated_output_at"])


def test_a_target_that_is_rebuilt_again_and_again_is_an_error(download: Any, destination: Path) -> None:
    states = [target(last_updated_output_at=f"2026-11-25T0{hour}:00:00.000Z") for hour in range(5)]
    error, server = download(Target(GOOD, targets=states), destination, {"max_attempts": 2})
    assert isinstance(error, FaradayResponseError)
    assert downloads(server) == 2
    assert_untouched(destination)


def test_the_outlet_of_the_target_carries_the_build(download: Any, destination: Path) -> None:
    outlet = resource_asset("targets", TARGET)
    events = Events()
    download(Target(GOOD), destination, context={"outlet_events": events}, outlets=[outlet])
    extra = events.extras[outlet.uri]
    assert (extra["id"], extra["count"], extra["last_updated_output_at"]) == (TARGET, 300_000, BUILT)


# Arguments


@pytest.mark.parametrize("path", [None, "", "None", 7, "bucket://store@exports/", "{tmp_path}"])
@pytest.mark.usefixtures("bucket")
def test_a_path_that_is_not_that_of_a_file_is_an_input_error(
    download: Any, tmp_path: Path, path: Any
) -> None:
    error, server = download(Target(GOOD), str(tmp_path) if path == "{tmp_path}" else path)
    assert isinstance(error, FaradayInputError)
    assert "path must be the path of a file" in str(error)
    assert server.received == []
