"""Shared fixtures of the tests of transfers: an Airflow connection to any server, and file systems."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

from airflow_provider_faraday.transfers.targets import DownloadTargetOperator
from airflow_provider_faraday.transfers.uploads import UploadFileOperator
from raw_server import RawServer
from support.clients import KEY
from support.ids import TARGET
from support.uploads import CONTENT

# Runs a task.
Executed = Callable[..., tuple[dict[str, Any] | Exception, RawServer]]


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Executed:
    """Return a function that runs a task with a server, and returns its result or error, and the server."""

    def run(
        operator: Any, script: Any, extra: dict[str, Any] | None, context: Any = None, tls: Any = None
    ) -> Any:
        with RawServer(script, tls=tls) as server:
            fields = {"conn_type": "faraday", "password": KEY, "host": server.url, "extra": extra or {}}
            monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(fields))
            try:
                return operator.execute(context or {}), server
            except Exception as error:
                return error, server

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "web_orders.csv"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def upload(execute: Executed) -> Executed:
    """Return a function that uploads to a server, and returns the result or the error, and the server."""

    def run(script: Any, path: Any, extra: dict[str, Any] | None = None, **arguments: Any) -> Any:
        operator = UploadFileOperator(task_id="upload", path=path, **{"directory": "web_orders"} | arguments)
        return execute(operator, script, extra)

    return run


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    """Return a file that a download replaces."""
    path = tmp_path / "out" / "predictions.csv"
    path.parent.mkdir()
    path.write_bytes(b"yesterday")
    return path


@pytest.fixture
def download(execute: Executed) -> Executed:
    """Return a function that downloads from a server, and returns the result or the error, and the server."""

    def run(
        script: Any, path: Any, extra: dict[str, Any] | None = None, *, outlets: Any = (), **options: Any
    ) -> Any:
        operator = DownloadTargetOperator(task_id="download", target_id=TARGET, path=path, outlets=outlets)
        return execute(operator, script, extra, **options)

    return run


class ObjectStore(MemoryFileSystem):
    """Like a bucket.

    :ivar versions: the path of every file that was opened to write, as in a bucket with versions.
    """

    protocol = "bucket"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    versions: list[str] = []  # noqa: RUF012

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode == "wb":
            self.versions.append(path)
        return super()._open(path, mode, **kwargs)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.partition("://")[2] if "://" in path else "/" + path.strip("/")


class StagingStore(ObjectStore):
    """Like s3fs: a file with ``autocommit=False`` is an upload, even if it is empty, until it is committed.

    :ivar uploads: the paths of the uploads that were neither committed nor aborted. They cost money.
    """

    protocol = ("s3", "s3a")
    uploads: list[str] = []  # noqa: RUF012

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode == "rb" or "data" in kwargs:
            return super()._open(path, mode, **kwargs)
        return _Staged(self, path, mode, **{"block_size": 50 * 2**20} | kwargs)

    def abort(self, path: str) -> None:
        self.uploads.remove(path)


class _Staged(AbstractBufferedFile):
    parts: bytes | None = None

    def _initiate_upload(self) -> None:
        self.parts = b""
        self.fs.uploads.append(self.path)

    def _upload_chunk(self, final: bool = False) -> None:
        self.parts += self.buffer.getvalue()
        if self.autocommit and final:
            self.commit()

    def commit(self) -> None:
        self.fs.pipe_file(self.path, self.parts)
        self.discard()

    def discard(self) -> None:
        if self.parts is not None:
            self.parts = None
            self.fs.abort(self.path)


class SftpServer(ObjectStore):
    """Like sshfs: a file is visible while it is written, and can be renamed."""

    protocol = "sftp"

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any) -> Any:
        assert mode == "rb" or not block_size or block_size < 256 * 1024, "OpenSSH closes the connection"
        if mode == "wb" and "data" not in kwargs and not self.isdir(self._parent(path)):
            raise FileNotFoundError(path)
        return super()._open(path, mode, **kwargs)

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        self.store[path2] = self.store.pop(path1)


@pytest.fixture(scope="session")
def attached() -> dict[str, ObjectStore]:
    """Attach the file systems: Airflow keeps the first of a name."""
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach

    stores: dict[str, ObjectStore] = {}
    for protocol, store in {"bucket": ObjectStore, "s3": StagingStore, "sftp": SftpServer}.items():
        stores[protocol] = store(skip_instance_cache=True)
        attach(protocol, conn_id="store", fs=stores[protocol])
    fsspec.register_implementation("bucket", ObjectStore, clobber=True)
    return stores


@pytest.fixture
def stores(attached: dict[str, ObjectStore]) -> dict[str, ObjectStore]:
    """Return empty file systems that Airflow opens for ``bucket://store@…``, ``s3://…`` and ``sftp://…``."""
    for kept in (ObjectStore.store, ObjectStore.versions, StagingStore.uploads):
        kept.clear()
    return attached


@pytest.fixture
def bucket(stores: dict[str, ObjectStore]) -> ObjectStore:
    """Return an empty file system that Airflow opens for ``bucket://store@…``."""
    return stores["bucket"]
