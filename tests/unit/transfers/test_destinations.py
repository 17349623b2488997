"""DownloadTargetOperator: what is visible at the destination, when, and what a failure leaves there."""

from __future__ import annotations

import errno
import gc
import os
import re
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_faraday.exceptions import FaradayTransportError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from raw_server import Received, Step, answer
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
# What a killed worker leaves.
LEFT = r"predictions.*\.csv\.[0-9a-f]{8}\.part"


def cut(body: bytes) -> Step:
    """Break off before the last byte."""
    return answer(body=body[:-1], length=len(body))


class Halfway:
    """Sends half of a file, calls a function when the client writes a sibling, then sends the rest."""

    def __init__(self, body: bytes, destination: Path, look: Callable[[], Any]) -> None:
        self.seen: Any = None
        self._body, self._directory, self._look = body, destination.parent, look

    def __call__(self, connection: Any, request: Received) -> None:
        half = len(self._body) // 2
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self._body))
        connection.sendall(self._body[:half])
        while len(list(self._directory.iterdir())) < 2:
            threading.Event().wait(0.01)
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
        # SFTP writes to siblings.
        assert store.versions.count(STORED) == (1 if scheme == "sftp" else versions)

    return check


@pytest.mark.parametrize("body", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("scheme", PATHS)
def test_a_store_shows_only_a_complete_file(
    download: Any, stores: dict[str, Any], only: Any, scheme: str, body: bytes
) -> None:
    stores[scheme].pipe_file(STORED, OLD)
    result, _ = download(Target(cut(body), answer(body=body)), PATHS[scheme])
    assert result["bytes"] == len(body)
    assert result["path"].startswith(f"{scheme}://store@")
    only(scheme, body, versions=2)


@pytest.mark.parametrize("scheme", PATHS)
@pytest.mark.parametrize("count", [0, None])
def test_an_empty_target_is_an_empty_file(
    download: Any, stores: dict[str, Any], only: Any, scheme: str, count: int | None
) -> None:
    stores[scheme].pipe_file(STORED, OLD)
    result, _ = download(Target(answer(), targets=[target(count=count)]), PATHS[scheme])
    assert result["bytes"] == 0
    only(scheme, b"", versions=2)


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


def test_missing_directories_of_a_server_are_created(download: Any, stores: dict[str, Any]) -> None:
    download(Target(answer(body=SMALL)), "sftp://store@/new/exports/predictions.csv")
    assert stores["sftp"].cat_file("/new/exports/predictions.csv") == SMALL


@pytest.mark.parametrize(("scheme", "method"), [("s3", "abort"), ("sftp", "rm_file")])
def test_what_cannot_be_removed_is_a_warning_beside_the_error(
    download: Any,
    stores: dict[str, Any],
    scheme: str,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    task_log: list[str],
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(stores[scheme], method, fail)
    error, _ = download(Target(cut(SMALL)), PATHS[scheme], {"max_attempts": 1})
    assert isinstance(error, FaradayTransportError)
    assert any("WARNING Could not remove" in line and "read-only" in line for line in task_log)


# Local files


def test_a_file_keeps_its_mode_and_each_download_writes_a_sibling_of_its_own(
    download: Any, destination: Path
) -> None:
    def modes() -> dict[str, int]:
        return {each.name: stat.S_IMODE(each.stat().st_mode) for each in destination.parent.iterdir()}

    destination.chmod(0o600)
    siblings: set[str] = set()
    for _ in range(2):
        halfway = Halfway(SMALL, destination, modes)
        download(Target(halfway), destination)
        assert destination.read_bytes() == SMALL
        # While it is written, no one else can read it either.
        assert [*halfway.seen.values(), *modes().values()] == [0o600] * 3
        siblings |= halfway.seen.keys() - modes().keys()
    assert len(siblings) == 2
    assert all(re.fullmatch(LEFT, name) for name in siblings)


def test_a_new_file_has_the_mode_of_any_new_file_and_its_directory_is_created(
    download: Any, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "predictions[1]*.csv"
    download(Target(answer(body=SMALL)), f"file://{path}")
    (tmp_path / "any").touch()
    assert path.read_bytes() == SMALL
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_symbolic_link_stays_and_its_file_is_replaced(
    download: Any, destination: Path, tmp_path: Path
) -> None:
    link = tmp_path / "current.csv"
    link.symlink_to("out/predictions.csv")
    result, _ = download(Target(answer(body=SMALL)), link)
    assert link.is_symlink()
    assert destination.read_bytes() == SMALL
    assert result["path"] == str(link)


def test_only_what_a_killed_worker_left_is_removed(download: Any, tmp_path: Path) -> None:
    path = tmp_path / "out" / "predictions[1].csv"
    path.parent.mkdir()
    names = (".0123abcd", ".4567cdef", "", ".gz.0123abcd")
    left, *others = (path.with_name(f"{path.name}{end}.part") for end in names)
    assert re.fullmatch(LEFT, left.name)
    for each in (left, *others):
        each.write_bytes(OLD)
        os.utime(each, (0, 0))
    # Another task may still write it.
    others[0].touch()
    download(Target(answer(body=SMALL)), path)
    assert {*path.parent.iterdir()} == {path, *others}


def test_downloads_to_the_same_path_do_not_disturb_each_other(download: Any, destination: Path) -> None:
    """The first download is still running when a second one begins, and ends first."""
    second: list[Any] = []

    def begin_another() -> None:
        second.append(FaradayHook().download_target(TARGET, str(destination)))

    script = Target(Halfway(LARGE, destination, begin_another), answer(body=SMALL))
    first, _ = download(script, destination, {"max_attempts": 1})
    assert (first["bytes"], second[0]["bytes"]) == (len(LARGE), len(SMALL))
    assert destination.read_bytes() == LARGE
    assert list(destination.parent.iterdir()) == [destination]


def test_a_directory_that_appears_meanwhile_is_not_written_to(download: Any, tmp_path: Path) -> None:
    path = tmp_path / "out" / "predictions.csv"
    path.parent.mkdir()
    path.with_name("another.csv").touch()
    error, _ = download(Target(Halfway(SMALL, path, path.mkdir)), path)
    assert isinstance(error, IsADirectoryError)
    assert [*tmp_path.rglob("*predictions*")] == [path]
