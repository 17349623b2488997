"""Uploaded files: in a temporary directory, with their checksums and how many rows they have."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from airflow_provider_faraday.sandbox.errors import FaradayError
from airflow_provider_faraday.sandbox.resources import Document, rfc3339

DIRECTORY_PATTERN = r"^[A-Za-z0-9_][-A-Za-z0-9_]*$"
FILENAME_PATTERN = r"^[A-Za-z0-9_][-A-Za-z0-9_.]*\.(?i:csv|txt|gpg|pgp|gz|bz2)$"
_OPENERS: dict[str, Callable[..., Any]] = {".csv": open, ".txt": open, ".gz": gzip.open, ".bz2": bz2.open}


@dataclass(frozen=True)
class Upload:
    """An uploaded file.

    :param file: where its content is
    :param rows: number of data rows; None for what cannot be read, such as an encrypted file
    """

    directory: str
    filename: str
    file: Path
    size: int
    md5: str
    rows: int | None
    created_at: datetime

    @property
    def subpath(self) -> str:
        return f"{self.directory}/{self.filename}"

    def document(self) -> Document:
        """Return the upload as the API shows it."""
        return {
            "subpath": self.subpath,
            "file_size": self.size,
            "md5_hash": self.md5,
            "created_at": rfc3339(self.created_at),
        }


class Uploads:
    """The uploaded files of an account, the oldest first. Their content exists until :meth:`clear`."""

    def __init__(self) -> None:
        self._uploads: dict[str, Upload] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def clear(self) -> None:
        """Remove all files."""
        self._uploads.clear()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    async def receive(
        self, directory: str, filename: str, chunks: AsyncIterator[bytes], now: Callable[[], datetime]
    ) -> Upload:
        """Return an upload, not yet added, with the content that arrives in chunks."""
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="faraday-sandbox-")
        descriptor, file = tempfile.mkstemp(dir=self._directory.name)
        md5, size = hashlib.md5(usedforsecurity=False), 0
        with os.fdopen(descriptor, "wb") as opened:
            async for chunk in chunks:
                opened.write(chunk)
                md5.update(chunk)
                size += len(chunk)
        rows = await run_in_threadpool(count_rows, file, Path(filename).suffix.lower())
        return Upload(directory, filename, Path(file), size, md5.hexdigest(), rows, now())

    def add(self, upload: Upload) -> None:
        """Add an upload. It replaces an earlier one of that name."""
        self._uploads.pop(upload.subpath, None)
        self._uploads[upload.subpath] = upload

    def all(self) -> list[Upload]:
        """Return all uploads, the oldest first."""
        return list(self._uploads.values())

    def get(self, directory: str, filename: str) -> Upload:
        """Return an upload.

        :raises FaradayError: there is none
        """
        try:
            return self._uploads[f"{directory}/{filename}"]
        except KeyError:
            raise FaradayError(404, f"No upload {directory}/{filename}.") from None

    def remove(self, directory: str, filename: str) -> None:
        """Remove an upload. The datasets that have read it are not rebuilt."""
        del self._uploads[self.get(directory, filename).subpath]

    def rows(self, options: Any, read_at: str) -> int | None:
        """Return how many rows a dataset with these options finds at a given time.

        :return: None if the dataset reads no uploads, or none that can be counted
        """
        found = [
            upload.rows
            for upload in self.all()
            if reads(options, upload.directory)
            and rfc3339(upload.created_at) <= read_at
            and upload.rows is not None
        ]
        if not found:
            return None
        return found[-1] if options.get("replace_all_with_latest_file") else sum(found)


def reads(options: Any, directory: str) -> bool:
    """Return whether a dataset with these options reads the files of a directory."""
    if not isinstance(options, dict) or options.get("type") != "hosted_csv":
        return False
    return options.get("upload_directory") == directory


def count_rows(file: str, suffix: str) -> int | None:
    """Return the number of rows of a CSV file without the header; None if it cannot be read."""
    if suffix not in _OPENERS:
        return None
    try:
        with _OPENERS[suffix](file, "rt", encoding="utf-8", errors="replace", newline="") as opened:
            return max(0, sum(1 for _ in csv.reader(opened)) - 1)
    except (OSError, EOFError, zlib.error, csv.Error):
        return None
