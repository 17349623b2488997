"""The state of a sandbox, without HTTP: resources, API key, faults, request log and clock."""

from __future__ import annotations

import hmac
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from ipaddress import ip_address
from secrets import token_hex
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_faraday.sandbox.account_file import RESOURCE_TYPES, SPECS, AccountFile, Id
from airflow_provider_faraday.sandbox.errors import FaradayError
from airflow_provider_faraday.sandbox.faults import Fault
from airflow_provider_faraday.sandbox.pipeline import Pipeline
from airflow_provider_faraday.sandbox.resources import KINDS, Change, Document, Event, Resource, rfc3339
from airflow_provider_faraday.sandbox.uploads import Uploads, reads
from airflow_provider_faraday.sandbox.webhooks import EVENTS, Webhooks

# Bounds the memory of a sandbox that is left running.
MAX_LOGGED_REQUESTS = 100_000
# Faraday's reference lists all but "pending", which is in its example.
STATUSES = ("new", "starting", "running", "ready", "error", "pending")
# The fields of each resource in the graph and in summaries.
STATE_FIELDS = (
    "id",
    "status",
    "status_error",
    "status_changed_at",
    "archived_at",
    "last_read_input_at",
    "last_updated_config_at",
    "last_updated_output_at",
)


class Settings(BaseModel):
    """Settings that can change while the sandbox runs.

    :param page_size: page length of list endpoints; None disables pagination
    :param clock_offset: seconds that the sandbox's clock is ahead of the system clock
    :param download_redirect: redirect downloads to another port, which needs no key
    """

    model_config = ConfigDict(extra="forbid")

    page_size: int | None = Field(default=None, ge=1)
    clock_offset: float = 0.0
    download_redirect: bool = False


class Control:
    """The state of a sandbox, as the API serves it and as tests change it.

    Methods raise a :class:`FaradayError` for what the API rejects, such as a 404 for an unknown id.

    :param content: the account to serve
    :param api_key: key that requests must carry
    :param speed: how many times faster than configured resources build
    :param age: seconds since the first builds began
    :param settings: initial settings
    """

    host: str
    """The address that the sandbox listens on."""
    download_port: int
    """The port that downloads are redirected to."""

    def __init__(
        self, content: AccountFile, *, api_key: str, speed: float, age: float, settings: Settings
    ) -> None:
        self._content = content
        self._initial_age = timedelta(seconds=age)
        self._initial_key = api_key
        self._initial_settings = settings
        self.files = Uploads()
        self._download_secret = token_hex()
        self._speed = speed
        self._lock = threading.RLock()
        self._faults: list[Fault] = []
        self._requests: deque[Document] = deque(maxlen=MAX_LOGGED_REQUESTS)
        self.webhooks = Webhooks(self._new_messages, self.now, speed)
        self.reset()

    def reset(self) -> None:
        """Restore the initial account, key and settings. Clear uploads, webhooks, faults and requests."""
        content = self._content
        self.current = self._initial_settings
        self.api_key = self._initial_key
        self._expired_keys: set[str] = set()
        self.clear_faults()
        self.clear_requests()
        self.webhooks.clear()
        start = self.now() - self._initial_age
        with self._lock:
            self.files.clear()
            self._pipeline = Pipeline(content, self.files, start, self._speed)
            self._account = Resource.create("accounts", content.account, start)

    def now(self) -> datetime:
        """Return the time on the sandbox's clock."""
        return datetime.fromtimestamp(time.time() + self.current.clock_offset, tz=UTC)

    # What the API serves

    def account(self) -> Document:
        """Return the current account, including its API key."""
        return {**self._account.document(self.now()), "api_key": self.api_key}

    def resources(self, resource_type: str) -> list[Document]:
        """List all resources of a type."""
        with self._up_to_date() as now:
            return [resource.document(now) for resource in self._pipeline.all(resource_type)]

    def resource(self, resource_type: str, resource_id: str) -> Document:
        """Return one resource."""
        with self._up_to_date() as now:
            return self._pipeline.get(resource_type, resource_id).document(now)

    def resources_of(self, container_type: str, container_id: str, resource_type: str) -> list[Document]:
        """List the datasets or targets of a Faraday connection, or those of a scope."""
        with self._up_to_date() as now:
            container = self._pipeline.get(container_type, container_id)
            resources = self.resources(resource_type)
            if (container_type, resource_type) == ("scopes", "datasets"):
                ids = self._pipeline.upstream_of_population(container, now)
                return [each for each in resources if each["id"] in ids]
            name = f"{KINDS[container_type].label}_id"
            return [each for each in resources if each.get(name) == container_id]

    def ingress_logs(self, dataset_id: str) -> list[Document]:
        """List the ingress logs of a dataset, newest first."""
        with self._up_to_date() as now:
            return self._pipeline.get("datasets", dataset_id).ingress_logs(now)

    def graph(self) -> list[Document]:
        """List the edges of the pipeline, each with the state of both ends."""
        with self._up_to_date() as now:
            return [
                {**_edge_end("upstream", up.document(now)), **_edge_end("downstream", down.document(now))}
                for up, down in self._pipeline.edges()
            ]

    def force_update(self, resource_id: str, resource_type: str = "datasets") -> None:
        """Force an update of a resource, as its ``force_update`` endpoint does."""
        with self._up_to_date() as now:
            resource = self._pipeline.get(resource_type, resource_id)
            if resource.document(now).get("archived_at") is not None:
                raise FaradayError(409, f"The {KINDS[resource_type].label} {resource_id} is archived.")
            self._pipeline.force_update(resource, now)

    def uploads(self) -> list[Document]:
        """List the uploaded files, the oldest first."""
        return [upload.document() for upload in self.files.all()]

    async def receive_upload(self, directory: str, filename: str, chunks: AsyncIterator[bytes]) -> datetime:
        """Store a file that arrives in chunks, and rebuild the datasets that read its directory.

        :return: when the file was complete
        """
        upload = await self.files.receive(directory, filename, chunks, self.now)
        with self._up_to_date() as now:
            self.files.add(upload)
            for dataset in self._pipeline.all("datasets"):
                if reads(dataset.document(now).get("options"), directory):
                    self._pipeline.force_update(dataset, now)
        return upload.created_at

    def download_signature(self, target_id: str) -> str:
        """Return what a URL must have to download a target without the key."""
        return hmac.new(self._download_secret.encode(), target_id.encode(), "sha256").hexdigest()

    def check_key(self, authorization: str | None) -> None:
        """Raise unless the ``Authorization`` header has the current key."""
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme and scheme.lower() != "bearer":
            note = "The Authorization header is not of the form 'Bearer <API key>'."
            raise FaradayError(400, note, code="INVALID_AUTHORIZATION")
        key = key.strip()
        if not key:
            raise FaradayError(401, "No API key was supplied.", code="MISSING_API_KEY")
        if key in self._expired_keys:
            raise FaradayError(401, "The supplied API key has expired.", code="EXPIRED_API_KEY")
        if key != self.api_key:
            raise FaradayError(401, "The supplied API key is malformed or unknown.", code="MALFORMED_API_KEY")

    # What tests change

    def datasets(self) -> list[Document]:
        """List a summary of each dataset; see :meth:`summaries`."""
        return self.summaries("datasets")

    def summaries(self, resource_type: str | None = None) -> list[Document]:
        """List a summary of each resource: its state, count, upstream ids, and the statuses to come.

        :param resource_type: only this type; by default all types, in the order of the pipeline
        """
        with self._up_to_date() as now:
            types = RESOURCE_TYPES if resource_type is None else [resource_type]
            return [self._summary(each, now) for name in types for each in self._pipeline.all(name)]

    def dataset(self, dataset_id: str) -> Document:
        """Return one dataset as the API returns it."""
        return self.resource("datasets", dataset_id)

    def add_dataset(self, **spec: Any) -> Document:
        """Add a dataset, described as in an account file, and return it."""
        return self.add_resource("datasets", **spec)

    def add_resource(self, resource_type: str, **spec: Any) -> Document:
        """Add a resource, described as in an account file, and return it."""
        with self._up_to_date() as now:
            self._pipeline.all(resource_type)
            added = SPECS[resource_type].model_validate(spec)
            self._pipeline.add(resource_type, added, now)
        return self.resource(resource_type, added.id)

    def set_dataset(self, dataset_id: str, **changes: Any) -> Document:
        """Change a dataset; see :meth:`set_resource`."""
        return self.set_resource("datasets", dataset_id, **changes)

    def set_resource(self, resource_type: str, resource_id: str, **changes: Any) -> Document:
        """Change a resource and return it.

        :param resource_type: any type, such as ``targets``
        :param changes: any Faraday field, or what :class:`Change` names. An unknown status and what looks
            like a typo are a 400
        """
        _check_changes(changes)
        change = Change.model_validate(changes)
        with self._up_to_date() as now:
            self._pipeline.change(self._pipeline.get(resource_type, resource_id), change, now)
            return self._pipeline.get(resource_type, resource_id).document(now)

    def remove_dataset(self, dataset_id: str) -> None:
        """Remove a dataset."""
        self.remove_resource("datasets", dataset_id)

    def remove_resource(self, resource_type: str, resource_id: Id) -> None:
        """Remove a resource."""
        with self._up_to_date() as now:
            self._pipeline.remove(resource_type, resource_id, now)

    def history(self) -> list[Document]:
        """List all status changes so far, oldest first."""
        with self._up_to_date() as now:
            changes = [
                {
                    "id": resource.id,
                    "resource_type": resource.type,
                    "name": resource.base["name"],
                    **_status_change(event),
                }
                for resource_type in RESOURCE_TYPES
                for resource in self._pipeline.all(resource_type)
                for event in resource.status_changes(now)
            ]
        return sorted(changes, key=lambda change: str(change["at"]))

    def webhook_deliveries(self) -> list[Document]:
        """List the attempts to send a webhook so far, oldest first, each with the status of the response."""
        return self.webhooks.deliveries()

    def fail_next(self, times: int = 1, **fault: Any) -> None:
        """Break the next responses; see :class:`~airflow_provider_faraday.sandbox.faults.Fault`."""
        added = Fault.model_validate({"times": times, **fault})
        with self._lock:
            self._faults.append(added)

    def pending_faults(self) -> list[Document]:
        """List the pending faults, each with the ``times`` that are left."""
        with self._lock:
            return [fault.model_dump(exclude_unset=True) | {"times": fault.times} for fault in self._faults]

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()

    def take_fault(self, method: str, path: str) -> Fault | None:
        """Return the oldest fault that matches a request, if any, and count it."""
        with self._lock:
            for fault in self._faults:
                if fault.matches(method, path):
                    fault.times -= 1
                    if not fault.times:
                        self._faults.remove(fault)
                    return fault
        return None

    def rotate_key(self, new: str) -> None:
        """Accept only the new API key. Requests with the old one fail with ``EXPIRED_API_KEY``."""
        self._expired_keys = (self._expired_keys | {self.api_key}) - {new}
        self.api_key = new

    def requests(self, path: str | None = None, method: str | None = None) -> list[Document]:
        """List the requests so far, oldest first, without those to ``/sandbox``.

        :param path: only requests to exactly this path
        :param method: only requests with this HTTP method
        """
        return [
            entry
            for entry in list(self._requests)
            if path in (None, entry["path"]) and method in (None, entry["method"])
        ]

    def forced_updates(self) -> list[str]:
        """List the ids of the resources that clients have forced to update, in order of the requests."""
        accepted = [entry for entry in self.requests(method="POST") if (entry["status"] or 500) < 300]
        paths = [entry["path"].split("/") for entry in accepted]
        return [path[-2].lower() for path in paths if path[-1] == "force_update"]

    def rebuilds(self, resource_id: str) -> int:
        """Return how often a resource of any type has become ready since the first time."""
        with self._up_to_date() as now:
            changes = self._pipeline.find(resource_id).status_changes(now)
        ready = [event for event in changes if event.fields["status"] == "ready"]
        return max(0, len(ready) - 1)

    def clear_requests(self) -> None:
        self._requests.clear()

    def log_request(self, entry: Document) -> None:
        self._requests.append(entry)

    def settings(self) -> Document:
        """Return the current settings, the speed, and the time on the sandbox's clock."""
        return {**self.current.model_dump(), "speed": self._speed, "now": rfc3339(self.now())}

    def set(self, **settings: Any) -> None:
        """Set ``page_size``, ``clock_offset`` or ``download_redirect``; see :class:`Settings`."""
        changed = Settings.model_validate({**self.current.model_dump(), **settings})
        with self._up_to_date():
            self.current = changed

    def advance(self, seconds: float) -> None:
        """Advance the sandbox's clock, and all builds with it."""
        self.set(clock_offset=self.current.clock_offset + seconds)

    @contextmanager
    def _up_to_date(self) -> Iterator[datetime]:
        """Hold the lock, with all due events applied. Yields the time."""
        with self._lock:
            now = self.now()
            self._pipeline.apply_events(now)
            yield now

    def _new_messages(self) -> list[Document]:
        """Return a webhook message for each build that has ended since the last call."""
        with self._up_to_date():
            return [
                {
                    "timestamp": rfc3339(event.at),
                    "type": EVENTS[event.fields["status"]],
                    "data": {
                        "account_id": self._account.id,
                        "resource_id": resource.id,
                        "resource_type": resource.type,
                    },
                }
                for resource, event in self._pipeline.take_ended()
            ]

    def _summary(self, resource: Resource, now: datetime) -> Document:
        document = resource.document(now)
        optional = ("connection_id", "scope_id", "preview", KINDS[resource.type].count_field)
        return {
            **{name: document.get(name) for name in ("resource_type", "name", *STATE_FIELDS)},
            **{name: document[name] for name in optional if name in document},
            "upstream_ids": [upstream.id for upstream in self._pipeline.upstream(resource)],
            "upcoming": [_status_change(event) for event in resource.upcoming(now)],
        }


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address or host name."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_changes(changes: Document) -> None:
    status = changes.get("status")
    if status is not None and status not in STATUSES:
        note = f"The status must be one of {', '.join(STATUSES)}, not {status!r}."
        raise FaradayError(400, note, code="VALIDATION_FAILED")
    known = {*STATE_FIELDS, *Change.model_fields}
    for name in changes.keys() - known:
        if similar := get_close_matches(name, known, n=1, cutoff=0.8):
            note = f"There is no field {name!r}. Did you mean {similar[0]!r}?"
            raise FaradayError(400, note, code="VALIDATION_FAILED")


def _status_change(event: Event) -> Document:
    fields = event.fields
    return {"at": rfc3339(event.at), "status": fields["status"], "status_error": fields["status_error"]}


def _edge_end(side: str, document: Document) -> Document:
    end = {f"{side}_{name}": document.get(name) for name in STATE_FIELDS}
    return {**end, f"{side}_type": document["resource_type"], f"{side}_literate": document["name"]}
