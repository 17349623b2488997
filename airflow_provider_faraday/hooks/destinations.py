"""Where downloads are written. A file is not visible at its destination before it is complete.

fsspec commits a file when it is closed after an exception, so each kind of file system needs its own way.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from airflow_provider_faraday.api.errors import FaradayInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from airflow.providers.common.compat.sdk import ObjectStoragePath

ABANDONED_SECONDS = 3600.0
"""After how many seconds without a write an incomplete local file is removed, as left by a killed worker."""

BLOCK_BYTES = 8 * 1024 * 1024
"""What file systems read ahead, or collect before they send it. Some of them collect 50 MiB by default."""


def check_destination(path: ObjectStoragePath) -> None:
    """Check that a path is not that of a local directory or device.

    :raises FaradayInputError: if it is.
    """
    is_local = isinstance(path.fs, LocalFileSystem)
    if is_local and os.path.exists(path.path) and not os.path.isfile(path.path):
        raise FaradayInputError(
            f"path must be the path of a file, but is that of a directory or device: {path}\nAdd a file name."
        )


def written(path: ObjectStoragePath, log: Any) -> AbstractContextManager[Any]:
    """Open a file to write. It replaces the file at the path if no exception occurs."""
    if isinstance(path.fs, LocalFileSystem):
        # The real path, so that a symbolic link stays a link.
        real = os.path.realpath(path.path)
        for part in glob.glob(f"{glob.escape(real)}.{'[0-9a-f]' * 8}.part"):
            with suppress(OSError):
                if time.time() - os.path.getmtime(part) > ABANDONED_SECONDS:
                    os.remove(part)
        # Not the mv of fsspec, which copies what it cannot rename.
        return _renamed(path.fs, real, os.replace, log)
    if path.protocol in ("sftp", "ssh"):
        return _renamed(path.fs, path.path, path.fs.mv, log)
    if path.protocol in ("s3", "s3a", "s3n", "gs", "gcs"):
        return _committed(path.fs, path.path, log)
    return _copied(path.fs, path.path)


@contextmanager
def _renamed(fs: Any, path: str, rename: Callable[[str, str], object], log: Any) -> Iterator[Any]:
    """Write a sibling, and rename it."""
    # A unique name, because other tasks may write to the same path.
    part = f"{path}.{uuid4().hex[:8]}.part"

    def remove() -> None:
        with suppress(FileNotFoundError):
            fs.rm_file(part)

    with _removed_on_failure(part, remove, log):
        with _opened(fs, part) as file:
            if isinstance(fs, LocalFileSystem):
                with suppress(FileNotFoundError):
                    shutil.copymode(path, part)
            yield file
        rename(part, path)


def _opened(fs: Any, path: str) -> Any:
    """Open a file to write. Create its directory only if it is missing: a server may forbid that."""
    # Without the size of blocks, because SFTP servers refuse large ones.
    try:
        return fs.open(path, "wb")
    except FileNotFoundError:
        fs.makedirs(os.path.dirname(path), exist_ok=True)
        return fs.open(path, "wb")


@contextmanager
def _committed(fs: Any, path: str, log: Any) -> Iterator[Any]:
    """Write to a bucket, which does not show the file before it is committed."""
    file = fs.open(path, "wb", block_size=BLOCK_BYTES, autocommit=False)
    # Not part of an fsspec transaction, which would keep the file.
    fs.transaction.files.remove(file)
    with _removed_on_failure(path, file.discard, log):
        # Closed in any case. Otherwise, the garbage collector closes it, which begins another upload.
        with file:
            yield file
        file.commit()


@contextmanager
def _removed_on_failure(path: str, remove: Callable[[], object], log: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        try:
            remove()
        except Exception as error:  # whatever a file system raises
            log.warning("Could not remove %s: %s", path, error)
        raise


@contextmanager
def _copied(fs: Any, path: str) -> Iterator[Any]:
    """Write a local temporary file, and copy it."""
    with tempfile.NamedTemporaryFile(prefix="faraday-") as file:
        yield file
        file.flush()
        fs.put_file(file.name, path)
