"""Resources that build by the clock.

A resource is a base document plus dated events, past and scheduled. Its document at a given time is the base
with all events up to that time applied. So builds need no background task, and two requests at the same time
always agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, ConfigDict

from airflow_provider_faraday.sandbox.account_file import BuildSettings, ResourceSpec

Document = dict[str, Any]

# Default fields of each resource type. A type without a default status builds when it is created.
DEFAULTS: Mapping[str, Document] = {
    "accounts": {"status": "ready"},
    "connections": {
        "status": "ready",
        "directionality": "bidirectional",
        "managed": False,
        "options": {"type": "hosted_csv"},
    },
    "scopes": {"status": "ready", "payload": {}, "population": {"cohort_ids": []}, "preview": False},
    # Counts are missing: they exist only after a build.
    "datasets": {
        "detected_columns": [],
        "enrichment": {},
        "identity_providers": [[{"provider": "fig"}]],
        "identity_sets": {},
        "incremental_column": None,
        "managed": False,
        "merge_datasets": [],
        "output_all_columns_as_traits": None,
        "output_to_streams": {},
        "output_to_streams_array": [],
        "output_to_traits": {},
        "preview": False,
        "privacy": None,
        "reference_key_column": None,
        "reference_key_columns": [],
        "sample": {},
        "updates": [],
        "upsert_columns": [],
    },
}
FIRST_BUILD = ("new", "starting", "running")
REBUILD = ("starting", "running")


def rfc3339(moment: datetime) -> str:
    """Return a time as Faraday writes it: in UTC, with milliseconds and a ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


@dataclass(frozen=True)
class Event:
    """A dated change to a document.

    :param build: settings of the build that succeeds with this event, if any
    """

    at: datetime
    fields: Mapping[str, Any]
    unset: Iterable[str] = ()
    build: BuildSettings | None = None


@dataclass(frozen=True)
class Resource:
    """A resource with its past and scheduled events, in order of time.

    :param speed: how many times faster than configured it builds
    """

    base: Mapping[str, Any]
    settings: BuildSettings
    speed: float = 1.0
    events: tuple[Event, ...] = ()

    @classmethod
    def create(cls, resource_type: str, spec: ResourceSpec, now: datetime, speed: float = 1.0) -> Resource:
        """Return a resource that keeps the status of its spec, or else starts its first build."""
        stamp = rfc3339(now)
        fields = {**DEFAULTS[resource_type], **spec.faraday_fields()}
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
        resource = cls(base, spec.sandbox, speed)
        if "status" in fields:
            return resource._with_status(fields, now)
        return resource._with_build(FIRST_BUILD, now)

    def document(self, now: datetime) -> Document:
        """Return the resource as the API shows it at that time."""
        document = dict(self.base)
        for event in self.events:
            if event.at > now:
                break
            document |= event.fields
            for name in event.unset:
                document.pop(name, None)
            if event.build is not None:
                document |= _counts(document, event.build, event.at)
        return document

    def status_changes(self, now: datetime) -> list[Event]:
        """Return the events that have changed the status."""
        return [event for event in self.events if "status" in event.fields and event.at <= now]

    def upcoming(self, now: datetime) -> list[Event]:
        """Return the scheduled events that will change the status."""
        return [event for event in self.events if "status" in event.fields and event.at > now]

    def force_update(self, now: datetime) -> Resource:
        """Return the resource with a rebuild scheduled after the current build, if there is one.

        The current build may have read its input already, so it does not count. A scheduled rebuild reads its
        input later, so it does.
        """
        upcoming = self.upcoming(now)
        if any(event.fields["status"] == "starting" for event in upcoming):
            return self
        start = upcoming[-1].at if upcoming else now
        return self._with_build(REBUILD, start + timedelta(seconds=self.settings.lag / self.speed))

    def change(self, change: Change, now: datetime) -> Resource:
        """Return the resource with the change applied."""
        stamp = rfc3339(now)
        resource = self
        if change.sandbox is not None:
            overrides = change.sandbox.model_dump(exclude_unset=True)
            resource = replace(resource, settings=self.settings.model_copy(update=overrides))
        fields = dict(change.model_extra or {})
        if "status" in fields:
            resource = resource._with_status(fields, now)
            fields = {}
        if change.config_changed:
            fields = {"last_updated_config_at": stamp, "updated_at": stamp, **fields}
        if change.archived is not None:
            fields = {"archived_at": stamp if change.archived else None, "updated_at": stamp, **fields}
        if fields or change.unset:
            resource = resource._with_events(Event(now, fields, change.unset))
        if change.archived or change.rebuild:
            resource = resource._without_upcoming(now)
        if change.rebuild:
            resource = resource._with_build(REBUILD, now)
        return resource

    def ingress_logs(self, now: datetime) -> list[Document]:
        """Return one log entry per build, newest first."""
        logs: list[Document] = []
        for event in self.status_changes(now):
            status, stamp = event.fields["status"], rfc3339(event.at)
            if status == "running":
                log_id = str(uuid5(NAMESPACE_URL, f"{self.base['id']}/{stamp}"))
                logs.insert(0, {"id": log_id, "started_at": stamp, "finished_at": None, "metrics": {}})
            elif logs and logs[0]["finished_at"] is None:
                rows = self.document(event.at).get("row_count", 0)
                logs[0] |= {"finished_at": stamp, "metrics": {"row_count": rows}}
            else:
                continue
            logs[0] |= {"status": status, "status_error": event.fields["status_error"]}
        return logs

    def _with_events(self, *events: Event) -> Resource:
        return replace(self, events=tuple(sorted((*self.events, *events), key=lambda event: event.at)))

    def _without_upcoming(self, now: datetime) -> Resource:
        return replace(self, events=tuple(event for event in self.events if event.at <= now))

    def _with_status(self, fields: Document, now: datetime) -> Resource:
        event = _status_event(fields["status"], now, self.settings)
        # Explicit counts replace those of a build.
        build = event.build if fields.get("row_count") is None else None
        event = replace(event, fields={**event.fields, **fields}, build=build)
        return self._without_upcoming(now)._with_events(event)

    def _with_build(self, statuses: Iterable[str], start: datetime) -> Resource:
        events = []
        for status in (*statuses, self.settings.outcome):
            events.append(_status_event(status, start, self.settings))
            start += timedelta(seconds=getattr(self.settings, status, 0.0) / self.speed)
        return self._with_events(*events)


def _status_event(status: str | None, at: datetime, settings: BuildSettings) -> Event:
    stamp = rfc3339(at)
    fields = {"status": status, "status_error": None, "status_changed_at": stamp, "updated_at": stamp}
    if status == "error":
        fields["status_error"] = settings.status_error
    elif status == "running":
        fields["last_read_input_at"] = stamp
    elif status == "ready":
        fields["last_updated_output_at"] = stamp
    return Event(at, fields, build=settings if status == "ready" else None)


def _counts(document: Document, settings: BuildSettings, at: datetime) -> Document:
    # Faraday only detects the columns of a preview; it ingests no rows.
    if document["resource_type"] != "datasets" or document.get("preview"):
        return {}
    before = document.get("row_count") or 0
    added = settings.rows_per_update if before else settings.rows
    rows = before + added
    return {
        "row_count": rows,
        "identified_count": rows * 92 // 100,
        "matched_count": rows * 85 // 100,
        "updates": [*(document.get("updates") or []), {"datetime": rfc3339(at), "rows_added": added}],
    }
