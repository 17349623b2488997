"""Moves files between Faraday and Airflow's object storage, in constant memory."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_faraday.api import endpoints, uploads
from airflow_provider_faraday.api.errors import (
    FaradayApiError,
    FaradayInputError,
    FaradayNotFoundError,
    FaradayResponseError,
)
from airflow_provider_faraday.api.inputs import excerpt
from airflow_provider_faraday.api.resources import resource_type_named
from airflow_provider_faraday.api.responses import (
    decode_resource,
    decode_resources,
    is_json_document,
)
from airflow_provider_faraday.api.states import ResourceState, states_of
from airflow_provider_faraday.api.text import file_size, first_of, one_line
from airflow_provider_faraday.exceptions import ResourcesFailedError
from airflow_provider_faraday.hooks.destinations import BLOCK_BYTES, check_destination, written

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from airflow_provider_faraday.api.endpoints import Endpoint
    from airflow_provider_faraday.api.uploads import Upload
    from airflow_provider_faraday.client.requests_client import RequestsClient

LOG_EVERY_SECONDS = 5.0

# A whole chunk must be sent within the timeout: small enough for slow networks.
_CHUNK_BYTES = 512 * 1024
# How many chunks may wait to be hashed, while the network or the disk pauses.
_UNHASHED_CHUNKS = 16
# File attributes that change with each write.
_VERSION_KEYS = ("ino", "created", "mtime", "LastModified", "last_modified", "ETag", "etag", "generation")


def upload_file(
    client: RequestsClient,
    log: Any,
    path: object,
    directory: str,
    filename: str | None,
    *,
    require_dataset: bool,
    allow_empty: bool,
) -> dict[str, Any]:
    """See :meth:`~airflow_provider_faraday.hooks.faraday.FaradayHook.upload_file`."""
    storage = _storage_path(path)
    endpoint = endpoints.upload(directory, storage.name if filename is None else filename)
    name = endpoint.path.removeprefix("/uploads/")
    source = _Source(storage, log)
    if not (source.size or allow_empty):
        raise FaradayInputError(
            f"The file to upload is empty: {storage}\n"
            "Check the task that writes it, or set allow_empty=True to upload it anyway."
        )
    listed = client.fetch(endpoints.list_uploads(), uploads.decode_uploads).value
    try:
        readers = _readers(client, directory)
        log.info("The upload directory is read by %s", first_of(readers, lambda each: each.label))
    except FaradayApiError as error:
        if require_dataset:
            raise
        log.warning("updated_after has no dataset of this upload directory: %s", one_line(str(error)))
        readers = []
    existing = uploads.find(name, listed)
    skipped = (
        existing is not None
        and existing.size == source.size
        and uploads.is_newest(existing, listed)
        and existing.is_copy_of(source.size, source.read_md5())
    )
    if existing and skipped:
        uploaded_at = existing.uploaded_at
        log.info("Faraday already has %s (%s) as %s, MD5 verified", storage, file_size(source.size), name)
    else:
        uploaded_at = _send(client, log, endpoint, source, existing)
    if uploaded_at is None:
        log.warning("Faraday did not return the time of the upload. uploaded_at uses the worker's clock.")
        uploaded_at = datetime.now(UTC)
    return {
        "path": name,
        "bytes": source.size,
        "md5": source.md5,
        "skipped": skipped,
        "uploaded_at": uploaded_at.isoformat(),
        "updated_after": dict.fromkeys((state.key for state in readers), uploaded_at.isoformat()),
    }


def download_target(
    client: RequestsClient, log: Any, target_id: str, path: object
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Download a target. Return the result, and the target with all fields.

    See :meth:`~airflow_provider_faraday.hooks.faraday.FaradayHook.download_target`.
    """
    endpoint = endpoints.download_target(target_id)
    kind = resource_type_named("targets")
    resource = endpoints.get_resource(kind, target_id)
    storage = _storage_path(path)
    check_destination(storage)

    def look_up(attempts: int | None = None) -> tuple[dict[str, Any], ResourceState]:
        found = client.fetch(resource, decode_resource, attempts=attempts).value
        return found, states_of(kind, [found])[0]

    def attempt() -> tuple[dict[str, Any], dict[str, Any]]:
        # Once, because all of this is retried. After the download, a failure would repeat it.
        _, before = look_up(attempts=1)
        _check_has_output(before)
        with client.open_file(endpoint) as (chunks, total), written(storage, log) as file:
            meter = _Meter(log, "Received", total)
            file.writelines(meter.count(chunks))
            target, after = look_up()
            if problem := _problem(meter, before, after):
                # Retried, like a download that is an HTML page.
                raise _response_error(endpoint, f"The download of {after.title} {problem}.", broken=True)
        built_at = after.last_updated_output_at
        result = {
            "path": str(storage),
            "bytes": meter.size,
            "md5": meter.finish(),
            "count": after.count,
            "last_updated_output_at": built_at,
        }
        log.info("Downloaded %s, built at %s, to %s", after.title, built_at, storage)
        return result, target

    return client.retry(attempt)


class _Meter:
    """Counts and hashes the bytes of a transfer, and logs its progress.

    :param verb: such as "Sent".
    :param total: bytes of the whole file, if known.
    :ivar first: the first chunk.
    """

    def __init__(self, log: Any, verb: str, total: int | None) -> None:
        self.size = 0
        self.first = b""
        self._log = log
        self._verb = verb
        self._of = "" if total is None else f" of {file_size(total)}"
        self._started = self._logged = time.monotonic()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def count(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the same chunks."""
        unhashed: deque[Future[None]] = deque()
        # Chunks are hashed while the next ones are read. Hashing takes longer, and releases the GIL.
        with ThreadPoolExecutor(1, "md5") as hasher:
            for chunk in chunks:
                unhashed.append(hasher.submit(self._md5.update, chunk))
                if len(unhashed) > _UNHASHED_CHUNKS:
                    unhashed.popleft().result()
                self.first = self.first or chunk
                self.size += len(chunk)
                if time.monotonic() - self._logged >= LOG_EVERY_SECONDS:
                    self._log_progress()
                yield chunk

    def finish(self) -> str:
        """Log the whole transfer, and return its MD5, when all chunks were read."""
        self._log_progress()
        return self._md5.hexdigest()

    def _log_progress(self) -> None:
        self._logged = time.monotonic()
        speed = self.size / max(self._logged - self._started, 1e-3)
        self._log.info("%s %s%s (%s/s)", self._verb, file_size(self.size), self._of, file_size(speed))


class _Source:
    """A file to upload.

    :ivar path: where it is.
    :ivar size: bytes when the task began.
    :ivar md5: of the last pass over the file, if it was complete.
    """

    def __init__(self, path: ObjectStoragePath, log: Any) -> None:
        self.path = path
        self._log = log
        info = _info(path)
        if info.get("type") != "file":
            problem = "is not a file" if info else "does not exist"
            raise FaradayInputError(
                f"The file to upload {problem}: {path}\nCheck the argument path, and the task that writes it."
            )
        self.size: int = info["size"]
        self._version = _version(info)
        self.md5: str | None = None
        if self.size > uploads.DOCUMENTED_BYTES:
            log.warning(
                "The file to upload has %.1f GB; Faraday documents 5 GB as the limit of CSV files. If it is "
                "rejected, split it into several files in the same directory, or compress it: %s",
                self.size / 1e9,
                path,
            )

    def read_md5(self) -> str:
        """Read the whole file, and return its MD5."""
        for _ in self.read("Compared"):
            pass
        assert self.md5
        return self.md5

    def read(self, verb: str) -> Generator[bytes]:
        """Yield the bytes of the file.

        The last chunk is held back until the file is known to be unchanged. Without it, an upload is not
        complete, and Faraday keeps its copy.
        """
        self.md5 = None
        with self.path.open("rb", block_size=BLOCK_BYTES) as file:  # type: ignore[no-untyped-call]
            meter = _Meter(self._log, verb, self.size)
            last = b""
            for chunk in meter.count(iter(partial(file.read, _CHUNK_BYTES), b"")):
                if meter.size > self.size:
                    break
                if last:
                    yield last
                last = chunk
        if meter.size != self.size or _version(_info(self.path)) != self._version:
            raise FaradayInputError(
                f"The file changed while it was read; it had {self.size:,} bytes before: {self.path}\n"
                "Upload it when the task that writes it has finished."
            )
        self.md5 = meter.finish()
        yield last


def _storage_path(path: object) -> ObjectStoragePath:
    if (
        not isinstance(path, (str, os.PathLike, ObjectStoragePath))
        # "None" is what a template renders to by mistake.
        or str(path).strip() in ("", "None")
        or str(path).endswith("/")
    ):
        raise FaradayInputError(
            "path must be the path of a file, such as 's3://aws_default@bucket/orders.csv', but is "
            f"{type(path).__name__} {excerpt(path)}."
        )
    try:
        storage = path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(path)
        storage.fs  # noqa: B018
    except (ImportError, ValueError) as error:
        raise FaradayInputError(
            f"Airflow cannot open {path}: {error}\n"
            "Install the Airflow provider of this file system, such as apache-airflow-providers-amazon[s3fs]."
        ) from error
    return storage


def _info(path: ObjectStoragePath) -> dict[str, Any]:
    """Return the attributes of a file; an empty dict if it does not exist."""
    path.fs.invalidate_cache(path.fs._parent(path.path))
    try:
        info: dict[str, Any] = path.fs.info(path.path)
    except FileNotFoundError:
        return {}
    return info


def _version(info: dict[str, Any]) -> list[str]:
    """Return what differs after a file was rewritten, as far as its file system says."""
    return [str(info.get(key)) for key in _VERSION_KEYS]


def _readers(client: RequestsClient, directory: str) -> list[ResourceState]:
    """Return the datasets that read an upload directory.

    :raises FaradayNotFoundError: if there are none.
    """
    endpoint = endpoints.list_resources(resource_type_named("datasets"))
    readers = uploads.readers(client.fetch(endpoint, decode_resources).value)
    if directory not in readers:
        known = one_line(first_of(sorted(readers)) or "none")
        raise FaradayNotFoundError(
            f"No dataset reads the upload directory '{directory}'.",
            remedy=f"Directories that are read: {known}. Check directory.",
        )
    return readers[directory]


def _send(
    client: RequestsClient, log: Any, endpoint: Endpoint, source: _Source, existing: Upload | None
) -> datetime | None:
    """Upload a file, and compare Faraday's copy. Return the ``Date`` of the response, if it has one.

    :raises FaradayResponseError: if Faraday's copy differs, or if there is none.
    """
    name = endpoint.path.removeprefix("/uploads/")

    def look_up() -> tuple[Upload | None, datetime | None]:
        listed = client.fetch(endpoints.list_uploads(), uploads.decode_uploads, attempts=1)
        return uploads.find(name, listed.value), listed.sent_at

    def attempt() -> datetime | None:
        if source.md5:
            # An earlier attempt has sent the whole file.
            found, _ = look_up()
            if found and found != existing and found.is_copy_of(source.size, source.md5):
                log.info("Faraday has stored %s, although its response was lost", name)
                return None
        return client.send_file(endpoint, source.size, source.read("Sent"))

    def verify() -> tuple[Upload, datetime | None]:
        assert source.md5
        found, listed_at = look_up()
        if found and found.has_md5:
            is_copy = found.is_copy_of(source.size, source.md5)
        else:
            is_copy = found is not None and found.size == source.size and found != existing
        if found is None or not is_copy:
            what = f"its copy differs ({found})" if found else "its list of uploads does not have it"
            raise _response_error(
                endpoints.list_uploads(),
                f"Faraday accepted {name} ({source.size:,} bytes, MD5 {source.md5}), but {what}.",
                "Check whether another task uploads a file of the same name, then upload it again.",
                # Retried, because the list may be a little behind.
                broken=True,
            )
        return found, listed_at

    # Not of an earlier comparison.
    source.md5 = None
    responded_at = client.retry(attempt)
    found, listed_at = client.retry(verify)
    verified = "MD5 verified" if found.has_md5 else "size verified; Faraday's list has no MD5"
    log.info("Uploaded %s (%s) to %s, %s", source.path, file_size(source.size), name, verified)
    return uploads.end_of_upload(found, responded_at or listed_at)


def _response_error(
    endpoint: Endpoint, message: str, remedy: str = "", **fields: Any
) -> FaradayResponseError:
    return FaradayResponseError(message, remedy=remedy, method=endpoint.method, path=endpoint.path, **fields)


def _problem(meter: _Meter, before: ResourceState, after: ResourceState) -> str | None:
    """Return why a 2xx response is not the file."""
    if not meter.size and before.count:
        return f"is empty, although the target has {before.count} rows"
    if meter.size == len(meter.first) and is_json_document(meter.first):
        return f"is a JSON document of {meter.size:,} bytes"
    if after.last_updated_output_at != before.last_updated_output_at:
        return "is outdated, because Faraday rebuilt the target meanwhile"
    return None


def _check_has_output(target: ResourceState) -> None:
    if target.archived_at:
        raise FaradayInputError(
            f"The {target.title} is archived, so Faraday does not update it.\n"
            "Download another target, or restore it."
        )
    if target.status == "error":
        raise ResourcesFailedError(
            f"The {target.title} failed: {target.error}.\nFix the cause in Faraday, then clear the task."
        )
    if not target.last_updated_output_at and target.status != "ready":
        raise FaradayInputError(
            f"The {target.title} has never been built ({target.why_not_ready}), so there is nothing to "
            "download.\nWait with a TargetsReadySensor first."
        )
