"""What Faraday's list of uploads says about a file."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_faraday.api.resources import resource_type_named
from airflow_provider_faraday.api.states import ResourceState, states_of
from airflow_provider_faraday.api.times import timestamp

DOCUMENTED_BYTES = 5 * 10**9
"""The largest CSV file in Faraday's documentation, 5 GB. No limit is documented for uploads by the API."""

OLDEST = datetime.min.replace(tzinfo=UTC)
"""The time of an upload whose time is not known, for sorting."""

# A file may be stamped at the end of one second, and the response sent at the beginning of the next.
_RESPONDS_WITHIN = timedelta(milliseconds=100)
_HEX = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{22}==")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in Faraday's list of uploads.

    :param path: ``directory/filename``.
    :param size: bytes; None if the list does not say.
    :param md5: in hexadecimal; None if the list has no valid one.
    :param uploaded_at: when it was uploaded, by Faraday's clock: no build that finished before this time
        contains it. None if the list has no valid time.
    """

    path: str
    size: int | None
    md5: str | None
    uploaded_at: datetime | None

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


def newest(path: str, among: Iterable[Upload]) -> Upload | None:
    """Return the file of a path. Some object stores list all versions of a file: then the newest one."""
    versions = [upload for upload in among if upload.path == path]
    return max(versions, key=lambda each: each.uploaded_at or OLDEST, default=None)


def is_newest(upload: Upload, among: Iterable[Upload]) -> bool:
    """Return whether a file is newer than all others in its directory."""
    directory = upload.path.partition("/")[0]
    others = [each for each in among if each.path.startswith(f"{directory}/") and each.path != upload.path]
    time = upload.uploaded_at
    return time is not None and all(other.uploaded_at and other.uploaded_at < time for other in others)


def end_of_upload(upload: Upload, replaced: Upload | None, ended_before: datetime | None) -> datetime | None:
    """Return a time by Faraday's clock that is not before the end of an upload, if there is one.

    It is the time of the list, unless that is earlier than the second in which a later response was sent:
    object stores stamp large files when their upload begins. Builds before its end do not contain them.

    :param replaced: the file that was there before. The list may keep its time.
    :param ended_before: the ``Date`` of a response that was sent after the end.
    """
    listed = upload.uploaded_at if replaced is None or replaced.uploaded_at != upload.uploaded_at else None
    if ended_before is None or (listed and listed + _RESPONDS_WITHIN >= ended_before):
        return listed
    return end_of_second(ended_before)


def end_of_second(time: datetime) -> datetime:
    """Round a time without fractions up to the end of its second.

    A file that was uploaded at 10:00:00.9 is listed as 10:00:00. A build that finished at 10:00:00.5 must not
    seem to contain it. Builds take longer than a second, so this excludes no build that does contain it.
    """
    return time + timedelta(seconds=1)


def readers(datasets: list[dict[str, Any]]) -> dict[str, list[ResourceState]]:
    """Return the datasets that read uploads by upload directory, without archived ones and previews.

    :raises FaradayResponseError: if a field does not have the type that Faraday's reference promises.
    """
    found: dict[str, list[ResourceState]] = {}
    for state, dataset in zip(states_of(resource_type_named("datasets"), datasets), datasets, strict=True):
        options = dataset.get("options")
        if not isinstance(options, dict) or options.get("type") != "hosted_csv" or state.why_skipped:
            continue
        if isinstance(directory := options.get("upload_directory"), str):
            found.setdefault(directory, []).append(state)
    return found


def _md5(value: object) -> str | None:
    text = value if isinstance(value, str) else ""
    if _BASE64.fullmatch(text):
        # As object stores write it.
        return b64decode(text).hex()
    return text.lower() if _HEX.fullmatch(text) else None


def _time(value: object) -> datetime | None:
    text = value if isinstance(value, str) else ""
    time = timestamp(text)
    return time if time is None or "." in text else end_of_second(time)
