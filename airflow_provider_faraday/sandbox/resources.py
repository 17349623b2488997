"""Resources that build by the clock.

A resource is a base document plus dated events, past and scheduled. Its document at a given time is the base
with all events up to that time applied. So builds need no background task, and two requests at the same time
always agree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.resources import files
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, ConfigDict

from airflow_provider_faraday.sandbox.account_file import BuildSettings, ResourceSettings, ResourceSpec

Document = dict[str, Any]


class Kind(NamedTuple):
    """The properties of a resource type in the sandbox.

    :param label: the singular, in messages
    :param count_field: the field that holds the size of a resource. It is missing until the first build
    :param defaults: default fields, among them all required ones. A type with a default status does not build
        when it is created
    :param hidden: fields that resources of all other types have
    """

    label: str
    count_field: str | None = None
    defaults: Mapping[str, Any] = {}
    hidden: Sequence[str] = ()


KINDS: Mapping[str, Kind] = {
    name: Kind(**kind)
    for name, kind in json.loads(
        (files("airflow_provider_faraday.sandbox") / "kinds.json").read_text()
    ).items()
}


def rfc3339(moment: datetime) -> str:
    """Return a time as Faraday writes it: in UTC, with milliseconds and a ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def http_date(moment: datetime) -> str:
    """Return a time in UTC as a ``Date`` header has it, in whole seconds."""
    return format_datetime(moment, usegmt=True)


class Change(BaseModel):
    """A change to a resource: any Faraday fields, plus the options below.

    Setting ``status`` cancels the current build.

    :param unset: names of fields to remove
    :param archived: True to archive the resource and cancel its build, False to restore it
    :param config_changed: set ``last_updated_config_at`` to now, which is later than the last output
    :param rebuild: start a build now
    :param sandbox: new settings for later builds
    """

    model_config = ConfigDict(extra="allow")

    unset: list[str] = []
    archived: bool | None = None
    config_changed: bool = False
    rebuild: bool = False
    sandbox: BuildSettings | None = None

    @property
    def sets_status(self) -> bool:
        return "status" in (self.model_extra or {})


@dataclass(frozen=True)
class Event:
    """A dated change to a document."""

    at: datetime
    fields: Mapping[str, Any]
    unset: Iterable[str] = ()

    @property
    def ends_build(self) -> bool:
        """Whether the resource is ready or has failed, which webhooks announce."""
        return self.fields.get("status") in ("ready", "error")

    @property
    def is_success(self) -> bool:
        return self.fields.get("status") == "ready"


@dataclass(frozen=True)
class Resource:
    """A resource with its past and scheduled events, in order of time.

    :param speed: how many times faster than configured it builds
    :param upstream_ids: the ids of the resources that it is directly built from
    """

    base: Mapping[str, Any]
    settings: ResourceSettings
    speed: float = 1.0
    upstream_ids: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()

    @classmethod
    def create(cls, resource_type: str, spec: ResourceSpec, now: datetime, speed: float = 1.0) -> Resource:
        """Return a resource with the status of its spec or type, or else ``new``."""
        stamp = rfc3339(now)
        fields = {**KINDS[resource_type].defaults, **spec.faraday_fields()}
        if resource_type == "datasets":
            table = re.sub(r"\W", "_", spec.name)
            fields.setdefault("options", {"type": "snowflake", "table_name": table})
        base = {
            "resource_type": resource_type,
            "status_error": None,
            "created_at": stamp,
            "updated_at": stamp,
            "archived_at": None,
            "last_read_input_at": None,
            "last_updated_config_at": stamp,
            "last_updated_output_at": None,
            **fields,
        }
        upstream_ids = tuple(dict.fromkeys(spec.upstream_ids()))
        resource = cls(base, spec.sandbox, speed, upstream_ids)
        return resource._with_status({"status": "new", **fields}, now)

    @property
    def id(self) -> str:
        return str(self.base["id"])

    @property
    def type(self) -> str:
        return str(self.base["resource_type"])

    def state(self, now: datetime, before: Event | None = None) -> Document:
        """Return all fields at that time.

        :param before: stop before this event
        """
        state = dict(self.base)
        for event in self.events:
            if event.at > now or event == before:
                break
            state |= event.fields
            for name in event.unset:
                state.pop(name, None)
        return state

    def document(self, now: datetime) -> Document:
        """Return the resource as the API shows it at that time."""
        state = self.state(now)
        return {name: value for name, value in state.items() if name not in KINDS[self.type].hidden}

    def builds(self, now: datetime) -> bool:
        """Return whether the resource builds at all: it is not archived, and not a preview.

        Of a preview of a dataset, Faraday detects the columns, which also looks like a build.
        """
        state = self.state(now)
        preview = state.get("preview") and self.type != "datasets"
        return not preview and state.get("archived_at") is None

    def is_up_to_date(self, now: datetime) -> bool:
        """Return whether the resource is ready, and not about to be rebuilt."""
        return self.state(now).get("status") == "ready" and not self.upcoming(now)

    def status_changes(self, now: datetime) -> list[Event]:
        """Return the events that have changed the status."""
        return [event for event in self.events if "status" in event.fields and event.at <= now]

    def upcoming(self, now: datetime) -> list[Event]:
        """Return the scheduled events that will change the status."""
        return [event for event in self.events if "status" in event.fields and event.at > now]

    def first_build(self, now: datetime) -> Resource:
        """Return the resource with its first build scheduled."""
        return self._with_build(now + timedelta(seconds=self.settings.new / self.speed))

    def force_update(self, now: datetime) -> Resource:
        """Return the resource with a rebuild scheduled after the current build, if there is one.

        The current build may have read its input already, so it does not count. A scheduled rebuild reads its
        input later, so it does.
        """
        upcoming = self.upcoming(now)
        if any(event.fields["status"] == "starting" for event in upcoming):
            return self
        start = upcoming[-1].at if upcoming else now
        return self._with_build(start + timedelta(seconds=self.settings.lag / self.speed))

    def change(self, change: Change, now: datetime) -> Resource:
        """Return the resource with the change applied."""
        stamp = rfc3339(now)
        resource = self
        if change.sandbox is not None:
            overrides = change.sandbox.model_dump(exclude_unset=True)
            resource = replace(resource, settings=self.settings.model_copy(update=overrides))
        fields = dict(change.model_extra or {})
        if change.sets_status:
            resource = resource._with_status(fields, now)
            fields = {}
        if change.config_changed:
            fields = {"last_updated_config_at": stamp, "updated_at": stamp, **fields}
        if change.archived is not None:
            fields = {"archived_at": stamp if change.archived else None, "updated_at": stamp, **fields}
        if fields or change.unset:
            resource = resource.with_events(Event(now, fields, change.unset))
        if change.archived or change.rebuild:
            resource = resource._without_upcoming(now)
        if change.rebuild:
            resource = resource._with_build(now)
        return resource

    def ingress_logs(self, now: datetime) -> list[Document]:
        """Return one log entry per build, newest first."""
        logs: list[Document] = []
        for event in self.status_changes(now):
            status, stamp = event.fields["status"], rfc3339(event.at)
            if status == "running":
                log_id = str(uuid5(NAMESPACE_URL, f"{self.id}/{stamp}"))
                logs.insert(0, {"id": log_id, "started_at": stamp, "finished_at": None, "metrics": {}})
            elif logs and logs[0]["finished_at"] is None:
                rows = self.document(event.at).get("row_count", 0)
                counts = {"total_row_count": rows, "valid_row_count": rows, "allowed_row_count": rows}
                logs[0] |= {"finished_at": stamp, "metrics": counts}
            else:
                continue
            logs[0] |= {"status": status, "status_error": event.fields["status_error"]}
        return logs

    def with_counts(self, event: Event, size: int | None) -> Resource:
        """Return the resource with the counts of a build that has succeeded, unless they are given.

        :param size: rows, people or events; None for a number that grows with each build
        """
        name = KINDS[self.type].count_field
        before = self.state(event.at, before=event)
        # Faraday only detects the columns of a preview; it ingests no rows.
        if name is None or before.get("preview") or event.fields.get(name) is not None:
            return self
        count = before.get(name) or 0
        if size is None:
            size = count + (self.settings.rows_per_update if count else self.settings.rows)
        counts: Document = {name: size}
        if self.type == "datasets":
            matched = {"any": size * 85 // 100, "person": size * 80 // 100, "residence": size * 70 // 100}
            update = {"datetime": rfc3339(event.at), "rows_added": max(0, size - count)}
            counts["identified_count"] = size * 92 // 100
            counts["enrichment"] = {"fig": matched}
            counts["updates"] = [*(before.get("updates") or []), update]
        return self.with_events(Event(event.at, counts))

    def with_events(self, *events: Event) -> Resource:
        """Return the resource with more events. At the same time, a later one comes last."""
        return replace(self, events=tuple(sorted((*self.events, *events), key=lambda event: event.at)))

    def _without_upcoming(self, now: datetime) -> Resource:
        return replace(self, events=tuple(event for event in self.events if event.at <= now))

    def _with_status(self, fields: Document, now: datetime) -> Resource:
        event = _status_event(fields["status"], now, self.settings)
        # A resource whose status is set to ready has read all of its input.
        read = {"last_read_input_at": rfc3339(now)} if fields["status"] == "ready" else {}
        return self._without_upcoming(now).with_events(
            replace(event, fields={**event.fields, **read, **fields})
        )

    def _with_build(self, start: datetime) -> Resource:
        events = []
        for status in ("starting", "running", self.settings.outcome):
            events.append(_status_event(status, start, self.settings))
            start += timedelta(seconds=getattr(self.settings, status, 0.0) / self.speed)
        return self.with_events(*events)


def _status_event(status: str | None, at: datetime, settings: BuildSettings) -> Event:
    stamp = rfc3339(at)
    fields = {"status": status, "status_error": None, "status_changed_at": stamp, "updated_at": stamp}
    if status == "error":
        fields["status_error"] = settings.status_error
    elif status == "running":
        fields["last_read_input_at"] = stamp
    elif status == "ready":
        fields["last_updated_output_at"] = stamp
    return Event(at, fields)
