"""A wait: a source, criteria, an interval and a deadline."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_faraday.api import endpoints
from airflow_provider_faraday.api.checks import Checks, failed_checks
from airflow_provider_faraday.api.errors import FaradayApiError
from airflow_provider_faraday.api.graph import Graph, PreviewKey, decode_edges
from airflow_provider_faraday.api.readiness import Criteria, Verdict, assess
from airflow_provider_faraday.api.responses import decode_resources
from airflow_provider_faraday.api.retries import is_transient
from airflow_provider_faraday.api.states import ResourceState, decode_states, states_of
from airflow_provider_faraday.api.text import first_of
from airflow_provider_faraday.exceptions import (
    ChecksFailedError,
    DatasetsFailedError,
    FaradayNotFoundError,
    NothingToWaitForError,
    ResourcesFailedError,
)
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.waiting import events
from airflow_provider_faraday.waiting.progress import Progress, failed
from airflow_provider_faraday.waiting.reasons import with_ingress_logs
from airflow_provider_faraday.waiting.source import Source

if TYPE_CHECKING:
    from collections.abc import Mapping


def look_up(hook: FaradayHook, source: Source) -> Source:
    """Return the source with ids in place of names. It sends one request if there is a name.

    :raises FaradayLookupError: if a name does not identify one resource.
    """
    if source.container:
        id_ = hook.find_id(source.container.type.name, source.container.id)
        return source._replace(container=source.container._replace(id=id_))
    if source.ids:
        return source._replace(ids=tuple(hook.find_ids(source.type.name, source.ids)))
    return source


@dataclass(kw_only=True)
class Wait:
    """Wait for a source: poll it in a worker, or defer to a trigger and resume.

    :param faraday_conn_id: the Airflow connection.
    :param source: the resources to wait for.
    :param criteria: what counts as ready.
    :param poke_interval: seconds between polls.
    :param deadline: when the wait times out, in seconds since the epoch.
    :param log: the task's logger.
    :param checks: limits for fields of the resources, checked when all are ready.
    :param has_polled: whether an earlier poll succeeded. Before that, any API failure ends the wait, so that
        a typo fails at once.
    """

    faraday_conn_id: str
    source: Source
    criteria: Criteria
    poke_interval: float
    deadline: float
    log: Any
    checks: Checks = field(default_factory=dict)
    has_polled: bool = False
    is_ready: bool = field(default=False, init=False)
    unchanged: set[str] = field(default_factory=set, init=False)
    polled: list[dict[str, Any]] | None = field(default=None, init=False)
    graph: Graph | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.progress = Progress(self.log, self.source)
        self._hook = FaradayHook(self.faraday_conn_id)
        self._previews: dict[PreviewKey, bool] = {}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], log: Any) -> Wait:
        """Return the wait that :attr:`as_json` describes; it has polled before."""
        return cls(
            faraday_conn_id=saved["faraday_conn_id"],
            source=Source.from_json(saved["source"]),
            criteria=Criteria.from_json(saved["criteria"]),
            poke_interval=saved["poke_interval"],
            deadline=saved["deadline"],
            log=log,
            checks=saved.get("checks", {}),
            has_polled=True,
        )

    @property
    def as_json(self) -> dict[str, Any]:
        """The wait as JSON values, which the deferred task resumes with."""
        return self.trigger_arguments | ({"checks": self.checks} if self.checks else {})

    @property
    def trigger_arguments(self) -> dict[str, Any]:
        """The arguments of the wait's trigger, as JSON values."""
        saved: dict[str, Any] = {
            "faraday_conn_id": self.faraday_conn_id,
            "source": self.source.as_json,
            "criteria": self._needed_criteria(),
            "poke_interval": self.poke_interval,
            "deadline": self.deadline,
        }
        built: dict[str, Any] = msgspec.to_builtins(saved, order="deterministic")
        return built

    def _needed_criteria(self) -> Criteria:
        """Return the criteria with the times of the wait's own ids.

        A thousand mapped tasks may each get a thousand times, of which each needs one. What is upstream may
        change, so that any time may count later.
        """
        if self.source.ids is None or self.source.include_upstream:
            return self.criteria
        return self.criteria.only_for(self.source.ids)

    def poll(self) -> list[dict[str, Any]] | None:
        """Poll once. Return the ready resources as Faraday sent them, or None if not all are ready.

        :raises ResourcesFailedError: if a resource is in ``error``.
        :raises NothingToWaitForError: if there is nothing to wait for.
        :raises ChecksFailedError: if all are ready, but one does not pass the checks.
        :raises FaradayError: if the poll fails; after a successful one, only if retrying cannot help.
        """
        try:
            found, verdict = self._poll()
        except FaradayApiError as error:
            if not (is_transient(error) and self.has_polled):
                raise
            self.progress.poll_failed(error)
            return None
        self.has_polled = True
        self.progress.polled(verdict)
        if not (verdict.problem or verdict.is_ready):
            return None
        # For lineage. Earlier polls are not kept: a waiting task would hold them in memory.
        # By id, because a list that changes between its pages may contain a resource twice.
        by_id = {state.key: resource for state, resource in found if not state.why_skipped}
        self.polled = list(by_id.values())
        if verdict.problem:
            raise self._failure(failed(verdict.problem, self.source))
        self.is_ready = True
        self.unchanged = verdict.unchanged
        self._check(self.polled)
        return self.polled

    def _check(self, ready: list[dict[str, Any]]) -> None:
        failures = failed_checks(self.checks, ready)
        if failures:
            ids = list(dict.fromkeys(check.resource["id"] for check in failures))
            message = (
                f"{len(ids)} of {len(ready)} {self.source.type.plural} did not pass the checks: "
                f"{first_of(failures, str, separator='; ')}.\n"
                "Look at the build in Faraday. If it is good, change checks."
            )
            logged = ids if self.source.type.has_ingress_logs else ()
            raise ChecksFailedError(with_ingress_logs(message, logged, self._hook), ids)

    def _poll(self) -> tuple[list[tuple[ResourceState, dict[str, Any]]], Verdict]:
        self.source = look_up(self._hook, self.source)
        found: list[dict[str, Any]] = []
        sent_at = None
        for endpoint in self.source.endpoints():
            fetched = self._hook.client.fetch(endpoint, decode_resources)
            found += fetched.value
            sent_at = fetched.sent_at
        states = states_of(self.source.type, found)
        self.graph = None
        if self.source.include_upstream:
            self.graph, sent_at = self._graph([state.key for state in states if not state.why_skipped])
        now = sent_at or datetime.now(UTC)
        verdict = assess(self.source.type, states, self.criteria, self.source.ids, self.graph, now=now)
        return list(zip(states, found, strict=True)), verdict

    def _graph(self, waited: list[str]) -> tuple[Graph, datetime | None]:
        client = self._hook.client
        fetched = client.fetch(endpoints.graph(), decode_edges)
        graph = Graph(fetched.value)
        failure = None
        try:
            for resource_type, endpoint in graph.preview_requests(waited, self._previews):
                states = client.fetch(endpoint, decode_states(resource_type)).value
                self._previews |= graph.read_previews(endpoint, states)
        except FaradayApiError as error:
            failure = error
        return graph.with_previews(self._previews, waited, failure), fetched.sent_at

    def run(self) -> list[dict[str, Any]]:
        """Poll until everything is ready, in this process.

        :raises AirflowSensorTimeout: after the deadline. See :meth:`poll` for others.
        """
        while (ready := self.poll()) is None:
            if time.time() > self.deadline:
                raise self.timed_out()
            time.sleep(self.poke_interval)
        return ready

    def resume(self, event: events.Event) -> list[dict[str, Any]] | None:
        """Return the ready resources after a trigger's event, or raise the error that ended the wait.

        The event has no resources, so they are polled once more. Return None if they are not ready anymore or
        the poll fails. The task must then be deferred again.

        :raises AirflowSensorTimeout: if the wait would go on after its deadline.
        """
        match event:
            case events.Ready():
                ready = self.poll()
                if ready is None and time.time() > self.deadline:
                    raise self.timed_out()
                return ready
            case events.Failed():
                raise self._failure(event)
            case events.TimedOut():
                self.progress.pending = event.pending
                raise self.timed_out()
            case events.Errored():
                raise event.error

    def _failure(self, event: events.Failed) -> Exception:
        message = with_ingress_logs(event.message, event.logged, self._hook)
        if event.kind == "missing":
            return FaradayNotFoundError(message)
        if event.kind == "empty":
            return NothingToWaitForError(message)
        is_dataset = self.source.type.name == "datasets"
        return DatasetsFailedError(message) if is_dataset else ResourcesFailedError(message)

    def timed_out(self) -> AirflowSensorTimeout:
        """Log the resources that are not ready, and return the exception."""
        message = f"Timed out waiting for {self.progress.pending or self.source.label}."
        self.log.error("%s", message)
        return AirflowSensorTimeout(f"{message}\nIncrease timeout, or check the build in Faraday.")
