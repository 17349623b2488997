"""What Faraday's list of uploads says about a file."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

MAX_UPLOAD_BYTES = 5 * 1024**3
"""Faraday's limit is 5 GB per file."""

_HEX = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{22}==")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in Faraday's list of uploads.

    :param path: ``directory/filename``.
    :param size: bytes; None if the list does not say.
    :param md5: in hexadecimal; None if the list has no valid one.
    :param created_at: when it was uploaded; None if the list has no valid time.
    """

    path: str
    size: int | None
    md5: str | None
    created_at: datetime | None

    def is_copy_of(self, size: int, md5: str) -> bool:
        """Return whether it has this size and MD5, as far as the list says."""
        return self.size in (None, size) and self.md5 in (None, md5)

    def __str__(self) -> str:
        size = "unknown size" if self.size is None else f"{self.size:,} bytes"
        return f"{size}, MD5 {self.md5 or 'unknown'}"


def uploads(items: Iterable[dict[str, Any]]) -> list[Upload]:
    """Return the files in Faraday's list of uploads."""
    return [
        Upload(
            str(item.get("subpath")),
            item["file_size"] if isinstance(item.get("file_size"), int) else None,
            _md5(item.get("md5_hash")),
            _time(item.get("created_at")),
        )
        for item in items
    ]


def is_newest(upload: Upload, among: Iterable[Upload]) -> bool:
    """Return whether a file is newer than all others in its directory."""
    directory = upload.path.partition("/")[0]
    others = [each for each in among if each.path.startswith(f"{directory}/") and each.path != upload.path]
    created_at = upload.created_at
    return created_at is not None and all(
        other.created_at is not None and other.created_at < created_at for other in others
    )


def lower_bound(created_at: datetime) -> datetime:
    """Return a time such that no build that finished before it can contain a file created at ``created_at``.

    A time in whole seconds may have been truncated. A build that finished within that second could then seem
    to be later than the file. No build begins and finishes within a second, so the next second is safe.
    """
    return created_at if created_at.microsecond else created_at + timedelta(seconds=1)


def _md5(value: object) -> str | None:
    text = value if isinstance(value, str) else ""
    if _BASE64.fullmatch(text):
        # As object stores write it.
        return b64decode(text).hex()
    return text.lower() if _HEX.fullmatch(text) else None


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
