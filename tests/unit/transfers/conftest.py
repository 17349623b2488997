"""What the tests of transfers share: an Airflow connection to any server, and a file system like a bucket."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from faults import KEY

Connect = Callable[..., None]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Return a function that points the Airflow connection ``faraday_default`` at a server."""

    def set_connection(url: str, **extra: Any) -> None:
        fields = {"conn_type": "faraday", "password": KEY, "host": url, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(fields))

    return set_connection


class ObjectStore(MemoryFileSystem):
    """Like a bucket: a file appears when it is closed, also after an exception, and cannot be renamed."""

    protocol = "bucket"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode == "rb":
            return super()._open(path, mode, **kwargs)
        file = io.BytesIO()
        close = file.close

        def commit() -> None:
            if not file.closed:
                self.pipe_file(path, file.getvalue())
            close()

        file.close = commit  # type: ignore[method-assign]
        return file

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        with super()._open(self._strip_protocol(path), "wb") as file:
            file.write(value)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("bucket://").removeprefix("memory://").strip("/")


@pytest.fixture(scope="session")
def attached() -> ObjectStore:
    """Attach the file system: Airflow keeps the first of a name."""
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach

    fsspec.register_implementation("bucket", ObjectStore, clobber=True)
    store = ObjectStore(skip_instance_cache=True)
    attach("bucket", conn_id="store", fs=store)
    return store


@pytest.fixture
def bucket(attached: ObjectStore) -> ObjectStore:
    """Return an empty file system that Airflow opens for ``bucket://store@…``."""
    ObjectStore.store.clear()
    return attached
