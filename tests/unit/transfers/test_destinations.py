"""DownloadTargetOperator: what is visible at the destination, when, and what a failure leaves there."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import resource
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_faraday.exceptions import FaradayInputError, FaradayResponseError, FaradayTransportError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.transfers.targets import DownloadTargetOperator
from raw_server import RawServer, Received, Step, answer, raw
from support.ids import TARGET

pytestmark = pytest.mark.usefixtures("no_backoff")

# More than file systems collect before they send it.
LARGE = b"id,will_buy\n" + b"a1b2,0.93\n" * 900_000
SMALL = b"id,will_buy\na1b2,0.93\n"
OLD = b"yesterday"


def faraday(*downloads: Step, count: int | None = 1000) -> Callable[[Received], Step]:
    """Play Faraday: a target, and a step for each download; the last one is repeated."""
    target = {"id": TARGET, "name": "Buyers", "resource_type": "targets", "status": "ready", "count": count}
    steps = list(downloads)

    def choose(request: Received) -> Step:
        if not request.target.endswith("download.csv"):
            return answer(body=target)
        return steps.pop(0) if len(steps) > 1 else steps[0]

    return choose


def cut(body: bytes) -> Step:
    """Break off before the last byte."""
    return answer(body=body[:-1], length=len(body))


class Halfway:
    """Sends half of a file, then calls a function, then sends the rest."""

    def __init__(self, body: bytes, look: Callable[[], Any]) -> None:
        self.seen: Any = None
        self._body, self._look = body, look

    def __call__(self, connection: Any, request: Received) -> None:
        half = len(self._body) // 2
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self._body))
        connection.sendall(self._body[:half])
        # Longer than it takes to write what has arrived.
        threading.Event().wait(0.2)
        self.seen = self._look()
        connection.sendall(self._body[half:])


@pytest.fixture
def download(connect: Callable[..., None]) -> Callable[..., Any]:
    """Return a function that downloads from a server, and returns the result or the error."""

    def run(script: Any, path: Any, **extra: Any) -> Any:
        with RawServer(script) as server:
            connect(server.url, **{"max_attempts": 2} | extra)
            try:
                return DownloadTargetOperator(task_id="t", target_id=TARGET, path=str(path)).execute({})
            except Exception as error:
                return error

    return run


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    path = tmp_path / "out" / "buyers.csv"
    path.parent.mkdir()
    path.write_bytes(OLD)
    return path


# Buckets and servers

PATHS = {
    "bucket": "bucket://store@exports/b.csv",
    "s3": "s3://store@exports/b.csv",
    "sftp": "sftp://store@/exports/b.csv",
}


@pytest.fixture
def only(stores: dict[str, Any]) -> Callable[..., None]:
    """Return a function that checks that a file is the only thing that a store has, and its only version."""

    def check(scheme: str, content: bytes) -> None:
        store = stores[scheme]
        assert {path: store.cat_file(path) for path in store.store} == {"/exports/b.csv": content}
        gc.collect()
        assert stores["s3"].uploads == []
        assert not stores["s3"].transaction.files

    return check


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check that nothing is left among the temporary files."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("body", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("scheme", PATHS)
def test_a_store_shows_a_file_when_it_is_complete(
    download: Any, stores: dict[str, Any], only: Any, scheme: str, body: bytes
) -> None:
    store = stores[scheme]
    store.pipe_file("exports/b.csv", OLD)
    halfway = Halfway(body, lambda: store.cat_file("exports/b.csv"))
    result = download(faraday(cut(body), halfway), PATHS[scheme])
    assert result["bytes"] == len(body)
    assert halfway.seen == OLD
    only(scheme, body)


@pytest.mark.parametrize("body", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("scheme", PATHS)
def test_a_download_that_breaks_off_leaves_nothing_in_a_store(
    download: Any, stores: dict[str, Any], only: Any, scheme: str, body: bytes
) -> None:
    stores[scheme].pipe_file("exports/b.csv", OLD)
    error = download(faraday(cut(body)), PATHS[scheme])
    assert isinstance(error, FaradayTransportError)
    only(scheme, OLD)


@pytest.mark.parametrize("scheme", ["bucket", "s3"])
def test_a_bucket_with_versions_keeps_one_version_of_a_download_and_none_of_a_failure(
    download: Any, stores: dict[str, Any], scheme: str
) -> None:
    download(faraday(cut(LARGE)), PATHS[scheme])
    assert stores[scheme].versions == []
    download(faraday(cut(LARGE), answer(body=LARGE)), PATHS[scheme])
    assert stores[scheme].versions == ["/exports/b.csv"]


@pytest.mark.parametrize("scheme", PATHS)
def test_an_empty_target_is_an_empty_file(
    download: Any, stores: dict[str, Any], only: Any, scheme: str
) -> None:
    assert download(faraday(answer(), count=0), PATHS[scheme])["bytes"] == 0
    only(scheme, b"")


@pytest.mark.parametrize(("scheme", "method"), [("bucket", "put_file"), ("s3", "pipe_file"), ("sftp", "mv")])
def test_a_commit_that_fails_leaves_nothing(
    download: Any,
    stores: dict[str, Any],
    only: Any,
    scheme: str,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EDQUOT, "Quota exceeded")

    stores[scheme].pipe_file("exports/b.csv", OLD)
    monkeypatch.setattr(stores[scheme], method, fail)
    error = download(faraday(answer(body=SMALL)), PATHS[scheme])
    assert isinstance(error, OSError)
    assert error.errno == errno.EDQUOT
    only(scheme, OLD)


def test_what_cannot_be_removed_is_a_warning_beside_the_error(
    download: Any, stores: dict[str, Any], monkeypatch: pytest.MonkeyPatch, task_log: list[str]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(stores["sftp"], "rm_file", fail)
    monkeypatch.setattr(stores["sftp"], "mv", fail)
    error = download(faraday(cut(SMALL)), PATHS["sftp"], max_attempts=1)
    assert isinstance(error, FaradayTransportError)
    assert any("WARNING Could not remove" in line and "read-only" in line for line in task_log)


# Local files


def test_a_file_keeps_its_mode(download: Any, destination: Path) -> None:
    destination.chmod(0o600)
    halfway = Halfway(
        SMALL, lambda: [stat.S_IMODE(each.stat().st_mode) for each in destination.parent.iterdir()]
    )
    download(faraday(halfway), destination)
    assert destination.read_bytes() == SMALL
    assert stat.S_IMODE(destination.stat().st_mode) == 0o600
    # While it is written, no one else can read it either.
    assert halfway.seen == [0o600, 0o600]


def test_a_new_file_has_the_mode_of_any_new_file(download: Any, tmp_path: Path) -> None:
    download(faraday(answer(body=SMALL)), tmp_path / "new" / "buyers.csv")
    (tmp_path / "any").touch()
    assert (tmp_path / "new" / "buyers.csv").stat().st_mode == (tmp_path / "any").stat().st_mode


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_and_its_file_is_replaced(
    download: Any, destination: Path, tmp_path: Path, exists: bool
) -> None:
    if not exists:
        destination.unlink()
    link = tmp_path / "current.csv"
    link.symlink_to("out/buyers.csv")
    result = download(faraday(answer(body=SMALL)), link)
    assert link.is_symlink()
    assert destination.read_bytes() == SMALL
    assert result["path"] == str(link)


def test_a_device_is_not_replaced(download: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert isinstance(download(faraday(answer(body=SMALL)), tmp_path / "pipe.csv"), FaradayInputError)
    assert (tmp_path / "pipe.csv").is_fifo()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writing more than this fail, as if the disk were full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("path", ["{tmp_path}/out/buyers.csv", "bucket://store@exports/b.csv"])
def test_a_full_disk_is_not_taken_for_a_failure_of_the_network(
    download: Any, destination: Path, tmp_path: Path, bucket: Any, path: str
) -> None:
    script = faraday(answer(body=LARGE))
    with largest_file(1_000_000):
        error = download(script, path.format(tmp_path=tmp_path))
    assert isinstance(error, OSError)
    assert error.errno == errno.EFBIG
    assert list(destination.parent.iterdir()) == [destination]
    assert bucket.versions == []


def test_a_name_that_is_too_long_is_an_error_and_leaves_nothing(download: Any, tmp_path: Path) -> None:
    error = download(faraday(answer(body=SMALL)), tmp_path / "out" / f"{'b' * 300}.csv")
    assert isinstance(error, OSError)
    assert error.errno == errno.ENAMETOOLONG
    assert download(faraday(answer(body=SMALL)), tmp_path / "out" / ("b" * 240))["bytes"] == len(SMALL)


def test_what_a_killed_worker_left_is_removed_by_the_next_one(
    download: Any, connect: Callable[..., None], destination: Path
) -> None:
    def half(connection: Any, request: Received) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE[:2_000_000])
        worker.kill()
        connection.close()

    with RawServer(faraday(half)) as server:
        connect(server.url)
        operator = DownloadTargetOperator(task_id="t", target_id=TARGET, path=str(destination))
        worker = multiprocessing.get_context("fork").Process(target=operator.execute, args=({},))
        worker.start()
        worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert destination.read_bytes() == OLD

    download(faraday(answer(body=SMALL)), destination)
    assert destination.read_bytes() == SMALL
    assert list(destination.parent.iterdir()) == [destination]


def test_files_of_other_tasks_in_the_same_directory_stay(download: Any, destination: Path) -> None:
    others = [destination.with_name(name) for name in ("buyers.csv.part", "buyers.csv.gz.0123abcd.part")]
    for other in others:
        other.write_bytes(b"of another task")
    download(faraday(answer(body=SMALL)), destination)
    download(faraday(cut(SMALL)), destination)
    assert all(other.read_bytes() == b"of another task" for other in others)


def test_a_worker_that_was_taken_for_lost_does_not_touch_what_its_successor_writes(
    download: Any, connect: Callable[..., None], destination: Path
) -> None:
    """The first download is still running when a second one begins, and ends first."""
    successor: list[Any] = []

    def begin_another() -> None:
        successor.append(FaradayHook().download_target(TARGET, str(destination)))

    script = faraday(Halfway(LARGE, begin_another), answer(body=SMALL))
    error = download(script, destination, max_attempts=1)
    assert successor[0]["bytes"] == len(SMALL)
    assert isinstance(error, FileNotFoundError)
    assert destination.read_bytes() == SMALL
    assert list(destination.parent.iterdir()) == [destination]


# Responses with the status 200 that are not the file


@pytest.mark.parametrize(
    ("body", "count", "says"),
    [
        (b"", 1000, "is empty, although the target has 1000 rows"),
        (b'{"error": "INTERNAL_SERVER_ERROR", "note": "Try again."}', 1000, "a JSON document"),
        (b'\n[{"error": "INTERNAL_SERVER_ERROR"}]', 1000, "a JSON document"),
        (b"{}", None, "a JSON document"),
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/csv"])
def test_a_response_that_is_not_the_file_does_not_replace_a_good_one(
    download: Any, destination: Path, body: bytes, count: int | None, says: str, content_type: str
) -> None:
    step = answer(body=body, headers={"Content-Type": content_type})
    error = download(faraday(step, count=count), destination)
    assert isinstance(error, FaradayResponseError)
    assert says in str(error)
    assert destination.read_bytes() == OLD
    assert list(destination.parent.iterdir()) == [destination]


def test_a_response_that_is_not_the_file_is_retried(download: Any, destination: Path) -> None:
    download(faraday(answer(), answer(body=SMALL)), destination)
    assert destination.read_bytes() == SMALL


@pytest.mark.parametrize("body", [b"id\n", b"{id}\n{1}\n", b"[id]\n", b"1\n", b"\x1f\x8b\x08\x00{}"])
def test_a_file_that_only_resembles_json_is_saved(download: Any, destination: Path, body: bytes) -> None:
    download(faraday(answer(body=body)), destination)
    assert destination.read_bytes() == body


@pytest.mark.parametrize("count", [0, None])
def test_an_empty_file_is_saved_unless_the_target_has_rows(
    download: Any, destination: Path, count: int | None
) -> None:
    download(faraday(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), count=count), destination)
    assert destination.read_bytes() == b""
