"""DatasetsReadySensor: gate a DAG on Faraday datasets being ready."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_faraday.assets.datasets import attach_builds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_faraday.api.readiness import Criteria, Problem, Verdict
    from airflow_provider_faraday.hooks.faraday import FaradayHook

BACKSTOP_SECONDS = 600
"""How long after the trigger's own deadline Airflow ends a deferral whose trigger says nothing."""


class DatasetsReadySensor(BaseSensorOperator):
    """Wait until all datasets of a Faraday connection, of a scope, or of a list are ready.

    Ready means: ``status`` is ``ready``, the configuration has not changed since the last build, and, with
    ``updated_after``, the last build is at or after it. Archived datasets are left out of the wait.

    The first poll is strict: any failure of the API fails the task. After it, a transient failure (no
    answer, 408, 429, 500, 502, 503, 504, an answer that is no JSON) is logged and waited out; any other
    fails the task.

    Returns the ready datasets as a list of dicts, as the list operators do. All this is the same in mode
    ``poke``, in mode ``reschedule`` and with ``deferrable=True``. The event of an outlet that stands for one
    of them (:func:`airflow_provider_faraday.assets.datasets.dataset_asset`) carries its build.

    https://faraday.ai/docs/reference/getconnectiondatasets

    :param connection_id: UUID of a Faraday connection: wait for all its datasets (templated).
    :param scope_id: UUID of a scope: wait for the datasets behind it (templated).
    :param datasets: dataset ids, or the dicts that a list operator pushed: wait for these; one alone need
        not be in a list, so that a mapped sensor can wait for each (templated).
        Exactly one of ``connection_id``, ``scope_id`` and ``datasets`` must be given.
    :param updated_after: only a build at or after this time counts, and an error before it is waited out; a
        datetime or an ISO 8601 text, without an offset in Airflow's default time zone (templated).
    :param fail_on_error: fail at once when a dataset is in status ``error``; False keeps waiting for it.
    :param allow_empty: take an empty list, or one of archived datasets only, for ready instead of failing.
    :param fields: the dataset fields to return (templated); None for every field but ``sample``.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :param deferrable: wait in the triggerer, where all who wait for the same list share one poll; the
        default is Airflow's ``[operators] default_deferrable``. Not together with ``exponential_backoff`` or
        ``silent_fail``.
    :raises DatasetsFailedError: where a dataset is in status ``error`` (a skip with ``soft_fail=True``).
    :raises NothingToWaitForError: where there is nothing to wait for (a skip with ``soft_fail=True``).
    :raises FaradayNotFoundError: where Faraday does not return a dataset named in ``datasets``.
    :raises FaradayInputError: where an argument cannot be used.
    :raises FaradayApiError: where a call fails as described above.
    :raises AirflowSensorTimeout: when ``timeout`` seconds have passed.
    """

    template_fields: Sequence[str] = (
        "connection_id",
        "scope_id",
        "datasets",
        "updated_after",
        "fields",
        "faraday_conn_id",
    )
    ui_color = "#d5ccf5"

    def __init__(
        self,
        *,
        connection_id: str | None = None,
        scope_id: str | None = None,
        datasets: Sequence[str | dict[str, Any]] | None = None,
        updated_after: datetime | str | None = None,
        fail_on_error: bool = True,
        allow_empty: bool = False,
        fields: Sequence[str] | None = None,
        faraday_conn_id: str = "faraday_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.connection_id = connection_id
        self.scope_id = scope_id
        self.datasets = datasets
        self.updated_after = updated_after
        self.fail_on_error = fail_on_error
        self.allow_empty = allow_empty
        self.fields = fields
        self.faraday_conn_id = faraday_conn_id
        self.deferrable = deferrable
        self._has_polled = False
        self._deadline: float | None = None
        self._warned_of: set[str] = set()
        self._check_arguments()

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask Faraday once: done with the ready datasets, or not done, or deferred."""
        from airflow_provider_faraday.api.datasets import checked_fields, trimmed
        from airflow_provider_faraday.api.errors import FaradayApiError
        from airflow_provider_faraday.api.retries import is_transient

        self._check_arguments()
        fields = checked_fields(self.fields)
        criteria = self._criteria
        try:
            found = self._list()
        except FaradayApiError as error:
            if not is_transient(error) or not (self._has_polled or _was_rescheduled(context)):
                raise
            self.log.warning("Not ready yet, because Faraday could not be asked: %s", error)
            return self._not_ready()
        self._has_polled = True

        verdict = _assess(found, criteria)
        self.log.info("%s", verdict.description)
        for status in sorted(verdict.unknown_statuses - self._warned_of):
            self.log.warning("This provider does not know the status '%s'; it counts as not ready.", status)
        self._warned_of |= verdict.unknown_statuses
        if verdict.problem:
            raise self._error(verdict.problem)
        if verdict.is_ready:
            attach_builds(context, self.outlets or (), verdict.ready)
            ready = {state.id for state in verdict.ready}
            returned = {d["id"]: trimmed(d, fields) for d in found if d["id"] in ready}
            return PokeReturnValue(is_done=True, xcom_value=list(returned.values()))
        return self._not_ready()

    def execute(self, context: Context) -> Any:
        """Poll until the wait ends; with ``never_fail`` a timeout skips in every mode, not deferred alone."""
        try:
            return super().execute(context)
        except AirflowSensorTimeout as error:
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            raise

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, deadline: float | None = None
    ) -> list[dict[str, Any]]:
        """Go on after the trigger's event: return the ready datasets, or raise what the wait ended in.

        :param event: what the trigger yielded.
        :param deadline: when the wait times out, in seconds since the epoch.
        """
        self._deadline = deadline
        try:
            return self._complete(context, event)
        except Exception as error:
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            raise

    def _complete(self, context: Context, event: dict[str, Any] | None) -> list[dict[str, Any]]:
        from airflow_provider_faraday.api.readiness import PROBLEMS
        from airflow_provider_faraday.exceptions import EVENT_ERRORS, error_from_event

        match event:
            case {"status": "ready", "dataset_ids": [*_]}:
                # The event has ids alone. This poll brings the datasets; where they are ready no more, or
                # cannot be had just now, the wait goes on.
                self._has_polled = True
                return self.poke(context).xcom_value or []
            case {"status": "failed", "kind": str(kind), "dataset_ids": [*ids]} if kind in PROBLEMS:
                raise self._error(self._problem(kind, ids))
            case {"status": "timeout", "seconds_late": float() | int() as late}:
                raise AirflowSensorTimeout(
                    f"Sensor has timed out; run duration of {self.timeout + late} seconds exceeds "
                    f"the specified timeout of {self.timeout}."
                )
            case {
                "status": "error",
                "kind": str(kind),
                "message": str(said),
                "status_code": int() | None as status_code,
            } if kind in EVENT_ERRORS:
                raise error_from_event(kind, said, status_code)
        raise self._unknown(event)

    def _unknown(self, event: dict[str, Any] | None) -> Exception:
        from airflow_provider_faraday.api.errors import FaradayError

        return FaradayError(
            f"The trigger of this task ended with {event!r}, which it never does. "
            "Check that worker and triggerer run the same version of airflow-provider-faraday."
        )

    def _problem(self, kind: str, ids: list[str]) -> Problem:
        """Find names and reasons for a problem of which the trigger told the ids alone."""
        from airflow_provider_faraday.api.errors import FaradayError
        from airflow_provider_faraday.api.readiness import Problem

        try:
            found = _assess(self._list(), self._criteria).problem
        except FaradayError as error:
            self.log.warning("Faraday could not be asked for the reason: %s", error)
            found = None
        return found if found and found.kind == kind else Problem(kind, tuple(ids))

    def _not_ready(self) -> PokeReturnValue:
        if self.deferrable:
            self._defer()
        return PokeReturnValue(is_done=False)

    def _defer(self) -> None:
        from airflow_provider_faraday.api.calls import faraday_id
        from airflow_provider_faraday.triggers.datasets import DatasetsReadyTrigger

        criteria = self._criteria
        deadline = self._deadline or time.time() + self.timeout
        self.defer(
            trigger=DatasetsReadyTrigger(
                faraday_conn_id=self.faraday_conn_id,
                # In one form, so that those who wait for the same list are told to be so.
                connection_id=self.connection_id and faraday_id(self.connection_id, "connection_id"),
                scope_id=self.scope_id and faraday_id(self.scope_id, "scope_id"),
                dataset_ids=criteria.wanted_ids,
                updated_after=criteria.updated_after.isoformat() if criteria.updated_after else None,
                fail_on_error=self.fail_on_error,
                allow_empty=self.allow_empty,
                poke_interval=self.poke_interval,
                deadline=deadline,
            ),
            method_name="execute_complete",
            kwargs={"deadline": deadline},
            timeout=timedelta(
                seconds=max(0.0, deadline - time.time()) + self.poke_interval + BACKSTOP_SECONDS
            ),
        )

    @cached_property
    def _hook(self) -> FaradayHook:
        from airflow_provider_faraday.hooks.faraday import FaradayHook

        return FaradayHook(self.faraday_conn_id)

    @cached_property
    def _criteria(self) -> Criteria:
        from airflow_provider_faraday.api.calls import dataset_ids
        from airflow_provider_faraday.api.readiness import Criteria

        return Criteria(
            updated_after=_moment(self.updated_after),
            fail_on_error=self.fail_on_error,
            allow_empty=self.allow_empty,
            wanted_ids=None if self.datasets is None else tuple(dataset_ids(self.datasets)),
        )

    def _check_arguments(self) -> None:
        given = [n for n in ("connection_id", "scope_id", "datasets") if getattr(self, n) is not None]
        if len(given) != 1:
            problem = (
                "takes exactly one of connection_id, scope_id and datasets, "
                f"but got {' and '.join(given) or 'none of them'}"
            )
        elif self.deferrable and (self.exponential_backoff or self.silent_fail):
            problem = (
                "with deferrable=True shares its polls with others, and takes neither exponential_backoff "
                "nor silent_fail. Leave them out, or set deferrable=False"
            )
        else:
            return
        from airflow_provider_faraday.api.errors import FaradayInputError

        raise FaradayInputError(f"{type(self).__name__} '{self.task_id}' {problem}.")

    def _list(self) -> list[dict[str, Any]]:
        if self.connection_id is not None:
            return self._hook.list_connection_datasets(self.connection_id)
        if self.scope_id is not None:
            return self._hook.list_scope_datasets(self.scope_id)
        return self._hook.list_datasets(self._criteria.wanted_ids)

    def _error(self, problem: Problem) -> Exception:
        from airflow_provider_faraday.exceptions import PROBLEM_ERRORS

        source = (
            f"connection {self.connection_id}"
            if self.connection_id is not None
            else f"scope {self.scope_id}"
            if self.scope_id is not None
            else "the list 'datasets'"
        )
        return PROBLEM_ERRORS[problem.kind](
            f"{problem.message} (Waited for {source} by Airflow connection '{self.faraday_conn_id}'.)"
        )


def _assess(found: list[dict[str, Any]], criteria: Criteria) -> Verdict:
    from airflow_provider_faraday.api.readiness import assess, states_of

    return assess(states_of(found), criteria)


def _moment(value: datetime | str | None) -> datetime | None:
    """Give the time of an ``updated_after`` argument, aware."""
    if value is None:
        return None
    from airflow.providers.common.compat.sdk import timezone  # type: ignore[attr-defined]

    from airflow_provider_faraday.api.errors import FaradayInputError

    try:
        given = datetime.fromisoformat(value) if isinstance(value, str) else value
        moment: datetime = timezone.convert_to_utc(given)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise FaradayInputError(
            "updated_after must be a datetime or an ISO 8601 text, such as 2026-01-31T06:00:00+00:00, but is "
            f"{type(value).__name__} {str(value)[:80]!r}."
        ) from None
    return moment


def _was_rescheduled(context: Context) -> bool:
    """Tell whether this try of the task has polled before, in an earlier process (mode ``reschedule``)."""
    count = context.get("task_reschedule_count")
    if count is not None:
        return bool(count)
    # Airflow 2 keeps that in the metadata database alone.
    from airflow.models.taskreschedule import TaskReschedule
    from airflow.utils.session import create_session

    ti: Any = context["ti"]
    with create_session() as session:
        return session.scalar(TaskReschedule.stmt_for_task_instance(ti).limit(1)) is not None
