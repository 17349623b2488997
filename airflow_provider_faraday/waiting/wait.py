"""A wait: source, criteria, interval and deadline, and what is done about each poll's verdict."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_faraday.api.errors import FaradayApiError
from airflow_provider_faraday.api.readiness import Criteria, Problem, Verdict, assess, standings
from airflow_provider_faraday.api.responses import decode_resources
from airflow_provider_faraday.api.retries import is_transient
from airflow_provider_faraday.api.states import ResourceState, states_of
from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.exceptions import EVENT_ERRORS, problem_error
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.waiting import events
from airflow_provider_faraday.waiting.source import Source
from airflow_provider_faraday.waiting.upstream import graph_requests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_faraday.api.graph import Graph, PreviewKey

_REMEDIES = {
    "missing": "Check the ids, and that the Airflow connection is for the account that owns them.",
    "failed": "Fix it in Faraday and clear this task, or set fail_on_error=False to wait until it is fixed.",
    "empty": "Check the ids, or set allow_empty=True to continue anyway.",
}


@dataclass(kw_only=True)
class Wait:
    """Wait for a source: poll it in a worker, or hand the wait over to a trigger and take it back.

    :param faraday_conn_id: the Airflow connection.
    :param source: the resources to wait for.
    :param criteria: what counts as ready.
    :param poke_interval: seconds between polls.
    :param deadline: when the wait times out, in seconds since the epoch.
    :param log: the task's logger.
    :param has_polled: returns whether an earlier poll succeeded. Until one has, every failure of the API ends
        the wait: a typo must not wait for a week.
    """

    faraday_conn_id: str
    source: Source
    criteria: Criteria
    poke_interval: float
    deadline: float
    log: Any
    has_polled: Callable[[], bool] = bool
    ready: tuple[ResourceState, ...] = field(default=(), init=False)
    unchanged: frozenset[str] = field(default=frozenset(), init=False)
    polled: list[dict[str, Any]] | None = field(default=None, init=False)
    graph: Graph | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.progress = Progress(self.log)
        self._hook = FaradayHook(self.faraday_conn_id)
        self._previews: dict[PreviewKey, bool] = {}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], log: Any) -> Wait:
        """Return the wait that :attr:`as_json` describes; it has polled before."""
        return cls(
            faraday_conn_id=saved["faraday_conn_id"],
            source=Source.from_json(saved["source"]),
            criteria=msgspec.convert(saved["criteria"], Criteria),
            poke_interval=saved["poke_interval"],
            deadline=saved["deadline"],
            log=log,
            has_polled=lambda: True,
        )

    @property
    def as_json(self) -> dict[str, Any]:
        """The wait as JSON values: the arguments of its trigger, and what the deferred task resumes with."""
        saved: dict[str, Any] = {
            "faraday_conn_id": self.faraday_conn_id,
            "source": self.source.as_json,
            "criteria": self.criteria,
            "poke_interval": self.poke_interval,
            "deadline": self.deadline,
        }
        built: dict[str, Any] = json.loads(msgspec.json.encode(saved, order="deterministic"))
        return built

    def poll(self) -> list[dict[str, Any]] | None:
        """Poll once. Return the ready resources as Faraday sent them, or None if not all are ready.

        :raises ResourcesFailedError: if a resource is in ``error``.
        :raises NothingToWaitForError: if there is nothing to wait for.
        :raises FaradayError: if the poll fails; after a successful one, only if retrying cannot help.
        """
        ids = self.source.ids
        try:
            found = [
                resource
                for endpoint in self.source.endpoints()
                for resource in self._hook.client.fetch(endpoint, decode_resources).value
            ]
            states = states_of(self.source.type, found)
            graph = self._graph(states) if self.source.include_upstream else None
        except FaradayApiError as error:
            if not (is_transient(error) and self.has_polled()):
                raise
            self.progress.poll_failed(error)
            return None
        self.has_polled = lambda: True
        verdict = assess(self.source.type, standings(states), self.criteria, ids, graph)
        self.progress.polled(verdict)
        if verdict.problem or verdict.is_ready:
            # For lineage. Earlier polls are not kept: a waiting task would hold them in memory.
            pairs = zip(states, found, strict=True)
            self.polled = [resource for state, resource in pairs if not state.why_skipped]
            self.graph = graph
        if verdict.problem:
            message = describe_problem(verdict.problem, self.source)
            raise problem_error(verdict.problem.kind, self.source.type.name, message)
        if not verdict.is_ready:
            return None
        self.ready, self.unchanged = verdict.ready, verdict.unchanged
        is_ready = {id(state) for state in verdict.ready}
        by_id = {s.id: item for s, item in zip(states, found, strict=True) if id(s) in is_ready}
        return list(by_id.values())

    def _graph(self, states: list[ResourceState]) -> Graph:
        steps = graph_requests((state.id.lower() for state in states), self._previews)
        request = next(steps)
        try:
            while True:
                request = steps.send(self._hook.client.fetch(*request).value)
        except StopIteration as finished:
            graph: Graph = finished.value
            return graph

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
        """Return the ready resources after a trigger's event, or raise what the wait ended in.

        The event has no resources, so they are polled once more. Return None if they are not ready anymore,
        or if that poll fails: the wait has to go on in the triggerer.

        :raises AirflowSensorTimeout: if the wait would go on after its deadline.
        """
        match event:
            case events.Ready():
                ready = self.poll()
                if ready is None and time.time() > self.deadline:
                    raise self.timed_out()
                return ready
            case events.Failed():
                raise problem_error(event.kind, self.source.type.name, event.message)
            case events.TimedOut():
                self.progress.pending = event.pending
                raise self.timed_out()
            case events.Errored():
                error = EVENT_ERRORS[event.kind](event.message)
                if isinstance(error, FaradayApiError):
                    error.status_code = event.status_code
                raise error

    def timed_out(self) -> AirflowSensorTimeout:
        """Log what was still waited for, and return the exception that says so."""
        message = f"Timed out waiting for {self.progress.pending or self.source.label}."
        self.log.error("%s", message)
        return AirflowSensorTimeout(f"{message}\nIncrease timeout, or check the build in Faraday.")


class Progress:
    """Log the verdicts of a wait, each change once, and remember what is still waited for.

    :ivar pending: what is still waited for, in a sentence.
    :ivar changes_at: when the last verdict changes, even if no resource does, on the clock of the polls.
    """

    def __init__(self, log: Any) -> None:
        self.pending = ""
        self.changes_at = math.inf
        self._log = log
        self._logged = ""
        self._unknown: set[str] = set()
        self._waiting = ""

    def polled(self, verdict: Verdict, began_at: float = 0.0) -> None:
        """Take the verdict of a poll, and the time when it began."""
        self.pending = self._waiting = verdict.pending
        self.changes_at = math.inf if verdict.changes_in is None else began_at + verdict.changes_in
        if verdict.description != self._logged:
            self._logged = verdict.description
            self._log.info("%s", self._logged)
        for status in sorted(verdict.unknown_statuses - self._unknown):
            self._log.warning("Unknown status '%s'. Treating it as not ready.", status)
        self._unknown |= verdict.unknown_statuses

    def poll_failed(self, error: Exception) -> None:
        """Take the transient error of a poll."""
        text = one_line(str(error)).rstrip(".")
        self.pending = f"{self._waiting or 'the first successful poll'}. The last poll failed: {text}"
        self._logged = ""
        self._log.warning("Poll failed, retrying until the timeout: %s", text)


def describe_problem(problem: Problem, source: Source) -> str:
    """Return a message about a problem, with what to do about it on a second line."""
    return f"{problem.message} (Waited for the {source.label}.)\n{_REMEDIES[problem.kind]}"
