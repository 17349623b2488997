"""DownloadTargetOperator: what is visible at the destination, when, and what a failure leaves there."""

from __future__ import annotations

import errno
import gc
import multiprocessing
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

from airflow_provider_faraday.exceptions import FaradayTransportError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.transfers.targets import DownloadTargetOperator
from raw_server import RawServer, Received, Step, answer
from support.ids import TARGET
from support.targets import Target, target

pytestmark = pytest.mark.usefixtures("no_backoff")

# More than file systems collect before they send it.
LARGE = b"id,will_buy\n" + b"a1b2,0.93\n" * 900_000
SMALL = b"id,will_buy\na1b2,0.93\n"
OLD = b"yesterday"
PATHS = {
    "bucket": "bucket://store@exports/b[1].csv",
    "s3": "s3://store@exports/b[1].csv",
    "sftp": "sftp://store@/exports/b[1].csv",
}
STORED = "/exports/b[1].csv"


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


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check that nothing is left among the temporary files."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield
    assert list(directory.iterdir()) == []


# Buckets and servers


@pytest.fixture
def only(stores: dict[str, Any]) -> Callable[..., None]:
    """Return a function that checks that a file is the only thing that a store has, and its only version."""

    def check(scheme: str, content: bytes, versions: int) -> None:
        store = stores[scheme]
        assert {path: store.cat_file(path) for path in store.store} == {STORED: content}
        gc.collect()
        assert stores["s3"].uploads == []
        assert not stores["s3"].transaction.files
        if scheme != "sftp":
            assert store.versions == [STORED] * versions

    return check


@pytest.mark.parametrize("body", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("scheme", PATHS)
def test_a_store_shows_a_file_when_it_is_complete(
    download: Any, stores: dict[str, Any], only: Any, scheme: str, body: bytes
) -> None:
    store = stores[scheme]
    store.pipe_file(STORED, OLD)
    halfway = Halfway(body, lambda: store.cat_file(STORED))
    result, _ = download(Target(cut(body), halfway), PATHS[scheme])
    assert result["bytes"] == len(body)
    assert result["path"].startswith(f"{scheme}://store@")
    assert halfway.seen == OLD
    only(scheme, body, versions=2)


@pytest.mark.parametrize("body", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("scheme", PATHS)
def test_a_download_that_breaks_off_leaves_nothing_in_a_store(
    download: Any, stores: dict[str, Any], only: Any, scheme: str, body: bytes
) -> None:
    stores[scheme].pipe_file(STORED, OLD)
    error, _ = download(Target(cut(body)), PATHS[scheme], {"max_attempts": 2})
    assert isinstance(error, FaradayTransportError)
    only(scheme, OLD, versions=1)


@pytest.mark.parametrize("scheme", PATHS)
@pytest.mark.usefixtures("stores")
def test_an_empty_target_is_an_empty_file(download: Any, only: Any, scheme: str) -> None:
    result, _ = download(Target(answer(), targets=[target(count=0)]), PATHS[scheme])
    assert result["bytes"] == 0
    only(scheme, b"", versions=1)


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

    stores[scheme].pipe_file(STORED, OLD)
    monkeypatch.setattr(stores[scheme], method, fail)
    error, _ = download(Target(answer(body=SMALL)), PATHS[scheme])
    assert isinstance(error, OSError)
    assert error.errno == errno.EDQUOT
    only(scheme, OLD, versions=1)


def test_what_cannot_be_removed_is_a_warning_beside_the_error(
    download: Any, stores: dict[str, Any], monkeypatch: pytest.MonkeyPatch, task_log: list[str]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(stores["sftp"], "rm_file", fail)
    error, _ = download(Target(cut(SMALL)), PATHS["sftp"], {"max_attempts": 1})
    assert isinstance(error, FaradayTransportError)
    assert any("WARNING Could not remove" in line and "read-only" in line for line in task_log)


# Local files


def test_a_file_keeps_its_mode(download: Any, destination: Path) -> None:
    destination.chmod(0o600)
    halfway = Halfway(
        SMALL, lambda: [stat.S_IMODE(each.stat().st_mode) for each in destination.parent.iterdir()]
    )
    download(Target(halfway), destination)
    assert destination.read_bytes() == SMALL
    assert stat.S_IMODE(destination.stat().st_mode) == 0o600
    # While it is written, no one else can read it either.
    assert halfway.seen == [0o600, 0o600]


def test_a_new_file_has_the_mode_of_any_new_file(download: Any, tmp_path: Path) -> None:
    download(Target(answer(body=SMALL)), tmp_path / "new" / "predictions.csv")
    (tmp_path / "any").touch()
    assert (tmp_path / "new" / "predictions.csv").stat().st_mode == (tmp_path / "any").stat().st_mode


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_and_its_file_is_replaced(
    download: Any, destination: Path, tmp_path: Path, exists: bool
) -> None:
    if not exists:
        destination.unlink()
    link = tmp_path / "current.csv"
    link.symlink_to("out/predictions.csv")
    result, _ = download(Target(answer(body=SMALL)), link)
    assert link.is_symlink()
    assert destination.read_bytes() == SMALL
    assert result["path"] == str(link)


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


@pytest.mark.parametrize("path", ["{tmp_path}/out/predictions.csv", "bucket://store@exports/b.csv"])
def test_a_full_disk_is_not_taken_for_a_failure_of_the_network(
    download: Any, destination: Path, tmp_path: Path, bucket: Any, path: str
) -> None:
    with largest_file(1_000_000):
        error, _ = download(Target(answer(body=LARGE)), path.format(tmp_path=tmp_path))
    assert isinstance(error, OSError)
    assert error.errno == errno.EFBIG
    assert list(destination.parent.iterdir()) == [destination]
    assert bucket.versions == []


def test_a_name_that_is_too_long_is_an_error_and_leaves_nothing(download: Any, tmp_path: Path) -> None:
    error, _ = download(Target(answer(body=SMALL)), tmp_path / "out" / f"{'b' * 300}.csv")
    assert isinstance(error, OSError)
    assert error.errno == errno.ENAMETOOLONG
    result, _ = download(Target(answer(body=SMALL)), tmp_path / "out" / ("b" * 240))
    assert result["bytes"] == len(SMALL)


def test_what_a_killed_worker_left_is_removed_by_the_next_one(
    download: Any, connect: Callable[..., None], destination: Path
) -> None:
    def half(connection: Any, request: Received) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE[:2_000_000])
        worker.kill()
        connection.close()

    with RawServer(Target(half)) as server:
        connect(server.url)
        operator = DownloadTargetOperator(task_id="t", target_id=TARGET, path=str(destination))
        worker = multiprocessing.get_context("fork").Process(target=operator.execute, args=({},))
        worker.start()
        worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert destination.read_bytes() == OLD

    download(Target(answer(body=SMALL)), destination)
    assert destination.read_bytes() == SMALL
    assert list(destination.parent.iterdir()) == [destination]


def test_files_of_other_tasks_in_the_same_directory_stay(download: Any, destination: Path) -> None:
    others = [
        destination.with_name(name) for name in ("predictions.csv.part", "predictions.csv.gz.0123abcd.part")
    ]
    for other in others:
        other.write_bytes(b"of another task")
    download(Target(answer(body=SMALL)), destination)
    download(Target(cut(SMALL)), destination)
    assert all(other.read_bytes() == b"of another task" for other in others)


def test_a_worker_that_was_taken_for_lost_does_not_touch_what_its_successor_writes(
    download: Any, connect: Callable[..., None], destination: Path
) -> None:
    """The first download is still running when a second one begins, and ends first."""
    successor: list[Any] = []

    def begin_another() -> None:
        successor.append(FaradayHook().download_target(TARGET, str(destination)))

    script = Target(Halfway(LARGE, begin_another), answer(body=SMALL))
    error, _ = download(script, destination, {"max_attempts": 1})
    assert successor[0]["bytes"] == len(SMALL)
    assert isinstance(error, FileNotFoundError)
    assert destination.read_bytes() == SMALL
    assert list(destination.parent.iterdir()) == [destination]
