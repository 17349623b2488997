"""The account as it stands at a moment: every status, count and time follows from events and the clock.

A dataset is a base document and a list of dated events, some of them still to come. Its document at a moment
is the base with all events up to then applied. So builds progress without any background task, and two
requests at one moment always agree.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from airflow_provider_faraday.sandbox.account_file import AccountFile, BuildSettings, DatasetSpec
from airflow_provider_faraday.sandbox.errors import FaradayError, not_found

Document = dict[str, Any]

# Every documented field of a dataset that has no better default; the three counts only exist after a build.
DATASET_DEFAULTS: Mapping[str, Any] = {
    "archived_at": None,
    "detected_columns": [],
    "enrichment": {},
    "identity_providers": [[{"provider": "fig"}]],
    "identity_sets": {},
    "incremental_column": None,
    "last_read_input_at": None,
    "last_updated_output_at": None,
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
    "status_error": None,
    "updates": [],
    "upsert_columns": [],
}

SUMMARY_FIELDS = (
    "id",
    "name",
    "connection_id",
    "status",
    "status_error",
    "archived_at",
    "last_updated_config_at",
    "last_updated_output_at",
    "row_count",
)

EDGE_FIELDS = (
    "id",
    "status",
    "status_error",
    "last_read_input_at",
    "last_updated_config_at",
    "last_updated_output_at",
)


class Clock:
    """The sandbox's one clock: the machine's, moved by an offset in seconds."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self.offset, tz=UTC)


def rfc3339(moment: datetime) -> str:
    """A moment as Faraday writes it: UTC, to the millisecond, ``Z`` at the end."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Event:
    """What changes in a document at a moment.

    :param at: when
    :param fields: fields and their values from then on
    :param unset: fields that are gone from then on
    :param build: the settings of the successful build that ends at this moment, if one does
    """

    at: datetime
    fields: Mapping[str, Any]
    unset: tuple[str, ...] = ()
    build: BuildSettings | None = None


@dataclass(frozen=True)
class Dataset:
    """A dataset and all that has happened and will happen to it, in order of time."""

    base: Mapping[str, Any]
    settings: BuildSettings
    events: tuple[Event, ...] = ()

    def document(self, now: datetime) -> Document:
        """The dataset as Faraday would show it at that moment."""
        document = dict(self.base)
        for event in self.events:
            if event.at > now:
                break
            document.update(event.fields)
            for name in event.unset:
                document.pop(name, None)
            if event.build is not None:
                document.update(_counts_after_build(document, event.build, event.at))
        return document

    def transitions(self, now: datetime) -> list[Event]:
        """The changes of status up to that moment."""
        return [event for event in self.events if "status" in event.fields and event.at <= now]

    def upcoming(self, now: datetime) -> list[Event]:
        """The changes of status that are still to come."""
        return [event for event in self.events if "status" in event.fields and event.at > now]

    def with_event(self, event: Event) -> Dataset:
        return replace(self, events=tuple(sorted((*self.events, event), key=lambda each: each.at)))

    def without_upcoming(self, now: datetime) -> Dataset:
        return replace(self, events=tuple(event for event in self.events if event.at <= now))


def _counts_after_build(document: Document, settings: BuildSettings, at: datetime) -> Document:
    before = document.get("row_count")
    rows_before = before if isinstance(before, int) else 0
    added = settings.rows_per_update if rows_before else settings.rows
    rows = rows_before + added
    return {
        "row_count": rows,
        "identified_count": rows * 92 // 100,
        "matched_count": rows * 85 // 100,
        "updates": [*(document.get("updates") or []), {"datetime": rfc3339(at), "rows_added": added}],
    }


def _transition(
    at: datetime, status: str | None, settings: BuildSettings, status_error: str | None = None
) -> Event:
    stamp = rfc3339(at)
    fields: Document = {
        "status": status,
        "status_error": status_error,
        "status_changed_at": stamp,
        "updated_at": stamp,
    }
    if status == "running":
        fields["last_read_input_at"] = stamp
    if status == "error" and status_error is None:
        fields["status_error"] = settings.status_error
    if status != "ready":
        return Event(at, fields)
    fields["last_updated_output_at"] = stamp
    return Event(at, fields, build=settings)


def _build(settings: BuildSettings, steps: Iterable[str], begin: datetime, speed: float) -> tuple[Event, ...]:
    events = []
    at = begin
    for status in steps:
        events.append(_transition(at, status, settings))
        at += timedelta(seconds=getattr(settings, status, 0.0) / speed)
    return tuple(events)


FIRST_BUILD = ("new", "starting", "running")
REBUILD = ("starting", "running")


def begun(spec: DatasetSpec, now: datetime, speed: float) -> Dataset:
    """A dataset whose first build begins now, or which stands in the status that its description gives."""
    stamp = rfc3339(now)
    given = spec.faraday_fields()
    base = {
        **DATASET_DEFAULTS,
        "created_at": stamp,
        "updated_at": stamp,
        "last_updated_config_at": stamp,
        "options": {"type": "snowflake", "table_name": re.sub(r"\W", "_", spec.name)},
        "resource_type": "datasets",
        **given,
    }
    dataset = Dataset(base, spec.sandbox)
    if "status" not in given:
        steps = (*FIRST_BUILD, spec.sandbox.outcome)
        return replace(dataset, events=_build(spec.sandbox, steps, now, speed))
    standing = _transition(now, given["status"], spec.sandbox)
    # What the description says of times and counts is true; only the rest is made up.
    build = None if given.get("row_count") is not None else standing.build
    return dataset.with_event(replace(standing, fields={**standing.fields, **given}, build=build))


def force_updated(dataset: Dataset, now: datetime, speed: float) -> Dataset:
    """A dataset whose rerun was asked for: its status stands for a little longer, then it is built again.

    A build that is under way may have read its input before the request, so the rerun follows it. A rerun
    that was asked for and has not begun will read the input in any case, so there is no second one.
    """
    upcoming = dataset.upcoming(now)
    if any(event.fields["status"] == "starting" for event in upcoming):
        return dataset
    free = upcoming[-1].at if upcoming else now
    begin = free + timedelta(seconds=dataset.settings.lag / speed)
    rerun = _build(dataset.settings, (*REBUILD, dataset.settings.outcome), begin, speed)
    return replace(dataset, events=(*dataset.events, *rerun))


@dataclass(frozen=True)
class Change:
    """A change of a dataset, made by hand.

    :param fields: Faraday fields to set; a ``status`` among them ends the build that is under way
    :param unset: fields to leave out of the document
    :param archived: archive (no build goes on) or bring back
    :param config_changed: move ``last_updated_config_at`` to now, past the last output
    :param rebuild: begin a build now
    :param settings: build settings to change, for builds that begin from now on
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    archived: bool | None = None
    config_changed: bool = False
    rebuild: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def changed(dataset: Dataset, change: Change, now: datetime, speed: float) -> Dataset:
    """The dataset after that change."""
    stamp = rfc3339(now)
    if change.settings:
        merged = BuildSettings.model_validate({**dataset.settings.model_dump(), **change.settings})
        dataset = replace(dataset, settings=merged)
    fields = dict(change.fields)
    if "status" in fields:
        standing = _transition(now, fields["status"], dataset.settings, fields.get("status_error"))
        build = None if "row_count" in fields else standing.build
        dataset = dataset.without_upcoming(now).with_event(
            replace(standing, fields={**standing.fields, **fields}, build=build)
        )
        fields = {}
    if change.config_changed:
        fields = {"last_updated_config_at": stamp, "updated_at": stamp, **fields}
    if change.archived is not None:
        fields = {"archived_at": stamp if change.archived else None, "updated_at": stamp, **fields}
    if change.archived:
        dataset = dataset.without_upcoming(now)
    if fields or change.unset:
        dataset = dataset.with_event(Event(now, fields, unset=change.unset))
    if change.rebuild:
        steps = (*REBUILD, dataset.settings.outcome)
        rerun = _build(dataset.settings, steps, now, speed)
        dataset = dataset.without_upcoming(now)
        dataset = replace(dataset, events=(*dataset.events, *rerun))
    return dataset


def ingress_logs(dataset: Dataset, now: datetime) -> list[Document]:
    """What was read into a dataset by each build so far, newest first."""
    logs: list[Document] = []
    for event in dataset.transitions(now):
        status = event.fields["status"]
        stamp = rfc3339(event.at)
        if status == "running":
            logs.append(
                {
                    "id": str(uuid5(NAMESPACE_URL, f"{dataset.base['id']}/{stamp}")),
                    "started_at": stamp,
                    "finished_at": None,
                    "status": status,
                    "status_error": None,
                    "metrics": {},
                }
            )
        elif logs and logs[-1]["finished_at"] is None:
            counts = dataset.document(event.at)
            logs[-1] |= {
                "finished_at": stamp,
                "status": status,
                "status_error": event.fields.get("status_error"),
                "metrics": {"row_count": counts.get("row_count", 0)},
            }
    logs.reverse()
    return logs


class Account:
    """Connections, scopes and datasets, begun at a moment.

    Readers need no lock: a change puts a new dataset, or a new dict of datasets, in place of the old one.

    :param content: the description
    :param clock: the sandbox's clock
    :param speed: how many times faster than described the builds go
    """

    def __init__(self, content: AccountFile, clock: Clock, speed: float) -> None:
        self._clock = clock
        self._speed = speed
        self._writing = threading.Lock()
        now = clock.now()
        stamp = rfc3339(now)
        common = {
            "created_at": stamp,
            "updated_at": stamp,
            "status": "ready",
            "status_changed_at": stamp,
            "status_error": None,
            "last_read_input_at": stamp,
            "last_updated_config_at": stamp,
            "last_updated_output_at": stamp,
            "archived_at": None,
        }
        self.account: Document = {**common, "resource_type": "accounts", **content.account.model_dump()}
        self._connections: dict[str, Document] = {
            connection.id: {
                **common,
                "resource_type": "connections",
                "directionality": "bidirectional",
                "managed": False,
                "options": {"type": "hosted_csv"},
                **connection.faraday_fields(),
            }
            for connection in content.connections
        }
        self._scopes: dict[str, Document] = {
            scope.id: {
                **common,
                "resource_type": "scopes",
                "payload": {},
                "population": {"cohort_ids": []},
                "preview": False,
                **scope.faraday_fields(),
            }
            for scope in content.scopes
        }
        self._scope_datasets = {scope.id: tuple(scope.sandbox.dataset_ids) for scope in content.scopes}
        self._datasets: dict[str, Dataset] = {spec.id: begun(spec, now, speed) for spec in content.datasets}

    def connections(self) -> list[Document]:
        return list(self._connections.values())

    def connection(self, connection_id: str) -> Document:
        """:raises FaradayError: 404"""
        if connection_id not in self._connections:
            raise not_found("connection", connection_id)
        return self._connections[connection_id]

    def scopes(self) -> list[Document]:
        return list(self._scopes.values())

    def scope(self, scope_id: str) -> Document:
        """:raises FaradayError: 404"""
        if scope_id not in self._scopes:
            raise not_found("scope", scope_id)
        return self._scopes[scope_id]

    def datasets(self) -> list[Document]:
        now = self._clock.now()
        return [dataset.document(now) for dataset in self._datasets.values()]

    def connection_datasets(self, connection_id: str) -> list[Document]:
        """:raises FaradayError: 404"""
        self.connection(connection_id)
        return [each for each in self.datasets() if each.get("connection_id") == connection_id]

    def scope_datasets(self, scope_id: str) -> list[Document]:
        """:raises FaradayError: 404"""
        self.scope(scope_id)
        now = self._clock.now()
        datasets = self._datasets
        behind = (datasets.get(dataset_id) for dataset_id in self._scope_datasets[scope_id])
        return [dataset.document(now) for dataset in behind if dataset is not None]

    def dataset(self, dataset_id: str) -> Document:
        """:raises FaradayError: 404"""
        return self._dataset(dataset_id).document(self._clock.now())

    def ingress_logs(self, dataset_id: str) -> list[Document]:
        """:raises FaradayError: 404"""
        return ingress_logs(self._dataset(dataset_id), self._clock.now())

    def graph(self) -> list[Document]:
        """Every edge from a connection to a dataset, and from a dataset to a scope."""
        datasets = {document["id"]: document for document in self.datasets()}
        edges = [
            (self._connections[document["connection_id"]], document)
            for document in datasets.values()
            if document.get("connection_id") in self._connections
        ]
        for scope_id, dataset_ids in self._scope_datasets.items():
            edges += [(datasets[each], self._scopes[scope_id]) for each in dataset_ids if each in datasets]
        return [{**_edge_end("upstream", up), **_edge_end("downstream", down)} for up, down in edges]

    def force_update(self, dataset_id: str) -> None:
        """:raises FaradayError: 404; 409 for an archived dataset"""
        with self._writing:
            now = self._clock.now()
            dataset = self._dataset(dataset_id)
            if dataset.document(now).get("archived_at") is not None:
                raise FaradayError(409, f"Dataset {dataset_id} is archived and gets no further updates.")
            self._put(dataset_id, force_updated(dataset, now, self._speed))

    def change(self, dataset_id: str, change: Change) -> Document:
        """:raises FaradayError: 404"""
        with self._writing:
            now = self._clock.now()
            dataset = changed(self._dataset(dataset_id), change, now, self._speed)
            self._put(dataset_id, dataset)
            return dataset.document(now)

    def add(self, spec: DatasetSpec) -> Document:
        """:raises FaradayError: 409 when the id is taken; 404 when its connection is not there"""
        with self._writing:
            if spec.id in self._datasets:
                raise FaradayError(409, f"There is a dataset with the id {spec.id} already.")
            if spec.connection_id is not None:
                self.connection(spec.connection_id)
            now = self._clock.now()
            dataset = begun(spec, now, self._speed)
            self._put(spec.id, dataset)
            return dataset.document(now)

    def remove(self, dataset_id: str) -> None:
        """:raises FaradayError: 404"""
        with self._writing:
            self._dataset(dataset_id)
            self._datasets = {key: value for key, value in self._datasets.items() if key != dataset_id}

    def summary(self) -> list[Document]:
        """Each dataset in short, with the statuses that it has before it."""
        now = self._clock.now()
        summary = []
        for dataset in self._datasets.values():
            document = dataset.document(now)
            upcoming = [
                {"at": rfc3339(each.at), "status": each.fields["status"]} for each in dataset.upcoming(now)
            ]
            summary.append({**{name: document.get(name) for name in SUMMARY_FIELDS}, "upcoming": upcoming})
        return summary

    def history(self) -> list[Document]:
        """Every change of status so far, of all datasets, in order of time."""
        now = self._clock.now()
        moves = [
            {
                "at": rfc3339(event.at),
                "dataset_id": dataset.base["id"],
                "name": dataset.base["name"],
                "status": event.fields["status"],
                "status_error": event.fields.get("status_error"),
            }
            for dataset in self._datasets.values()
            for event in dataset.transitions(now)
        ]
        return sorted(moves, key=lambda move: str(move["at"]))

    def _dataset(self, dataset_id: str) -> Dataset:
        if dataset_id not in self._datasets:
            raise not_found("dataset", dataset_id)
        return self._datasets[dataset_id]

    def _put(self, dataset_id: str, dataset: Dataset) -> None:
        self._datasets = {**self._datasets, dataset_id: dataset}


def _edge_end(side: str, resource: Document) -> Document:
    end = {f"{side}_{name}": resource.get(name) for name in EDGE_FIELDS}
    return {**end, f"{side}_type": resource["resource_type"], f"{side}_literate": resource["name"]}
