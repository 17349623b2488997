"""Faraday's list of uploads, and the datasets that read them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from airflow_provider_faraday.api.resources import resource_type_named
from airflow_provider_faraday.api.responses import Response
from airflow_provider_faraday.api.states import ResourceState, states_of
from airflow_provider_faraday.api.times import timestamp

DOCUMENTED_BYTES = 5 * 10**9
"""The largest CSV file in Faraday's documentation, 5 GB. No limit is documented for uploads by the API."""

# A file may be stamped at the end of one second, and the response sent at the beginning of the next.
_RESPONDS_WITHIN = timedelta(milliseconds=100)


class Upload(msgspec.Struct, frozen=True, rename={"path": "subpath", "size": "file_size", "md5": "md5_hash"}):
    """A file in Faraday's list of uploads.

    :ivar path: ``directory/filename``.
    :ivar md5: in hexadecimal, or in Base64 as object stores write it. They write something else for files
        that were stored in several parts.
    """

    path: str
    size: int | float | None = None
    md5: str | None = None
    created_at: str | None = None

    @property
    def uploaded_at(self) -> datetime | None:
        """The time of the upload, by Faraday's clock; None if it is not valid.

        Builds that finished before this time do not contain the file.
        """
        text = self.created_at or ""
        time = timestamp(text)
        return time if time is None or "." in text else end_of_second(time)

    @property
    def has_md5(self) -> bool:
        """Whether :attr:`md5` is the MD5 of the file."""
        return re.fullmatch(r"[0-9A-Fa-f]{32}|[A-Za-z0-9+/]{22}==", self.md5 or "") is not None

    def is_copy_of(self, size: int, md5: str) -> bool:
        """Return whether the file has this size and this MD5 in hexadecimal."""
        listed = self.md5 or ""
        is_same = listed.lower() == md5 or listed == b64encode(bytes.fromhex(md5)).decode()
        return self.size == size and is_same

    def __str__(self) -> str:
        size = "unknown size" if self.size is None else f"{self.size:,} bytes"
        return f"{size}, MD5 {self.md5 or 'unknown'}"


_UPLOADS = msgspec.json.Decoder(list[Upload])


def decode_uploads(response: Response) -> list[Upload]:
    """Decode Faraday's list of uploads."""
    return _UPLOADS.decode(response.body)


def find(path: str, among: Iterable[Upload]) -> Upload | None:
    """Return the file of a path; None if there is none."""
    return next((upload for upload in among if upload.path == path), None)


def is_newest(upload: Upload, among: Iterable[Upload]) -> bool:
    """Return whether a file is newer than all others in its directory."""
    directory = upload.path.partition("/")[0]
    others = [each for each in among if each.path.startswith(f"{directory}/") and each.path != upload.path]
    time = upload.uploaded_at
    return time is not None and all(other.uploaded_at and other.uploaded_at < time for other in others)


def end_of_upload(upload: Upload, ended_before: datetime | None) -> datetime | None:
    """Return a time by Faraday's clock that is not before the end of an upload, if there is one.

    It is the time of the list, unless that is earlier than the second in which a later response was sent:
    object stores stamp large files when their upload begins. Builds before its end do not contain them.

    :param ended_before: the ``Date`` of a response that was sent after the end.
    """
    listed = upload.uploaded_at
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
        options = dataset.get("options") or {}
        directory = options.get("upload_directory") if options.get("type") == "hosted_csv" else None
        if directory and not state.why_skipped:
            found.setdefault(directory, []).append(state)
    return found
