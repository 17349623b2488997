"""DatasetsReadySensor: gate a DAG on Faraday datasets being ready."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseSensorOperator, PokeReturnValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_faraday.api.readiness import Criteria, Verdict
    from airflow_provider_faraday.hooks.faraday import FaradayHook


class DatasetsReadySensor(BaseSensorOperator):
    """Wait until all datasets of a Faraday connection, of a scope, or of a list are ready.

    Ready means: ``status`` is ``ready``, the configuration has not changed since the last build, and, with
    ``updated_after``, the last build is at or after it. Archived datasets are left out of the wait.

    The first poll is strict: any failure of the API fails the task. After it, a transient failure (no
    answer, 408, 429, 500, 502, 503, 504, an answer that is no JSON) is logged and waited out; any other
    fails the task.

    Returns the ready datasets as a list of dicts, as the list operators do.

    https://faraday.ai/docs/reference/getconnectiondatasets

    :param connection_id: UUID of a Faraday connection: wait for all its datasets (templated).
    :param scope_id: UUID of a scope: wait for the datasets behind it (templated).
    :param datasets: dataset ids, or the dicts that a list operator pushed: wait for these (templated).
        Exactly one of ``connection_id``, ``scope_id`` and ``datasets`` must be given.
    :param updated_after: only a build at or after this time counts; a datetime or an ISO 8601 text, without
        an offset in Airflow's default time zone (templated).
    :param fail_on_error: fail at once when a dataset is in status ``error``; False keeps waiting for it.
    :param allow_empty: take an empty list, or one of archived datasets only, for ready instead of failing.
    :param fields: the dataset fields to return (templated); None for every field but ``sample``.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
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
        self._has_polled = False
        self._warned_of: set[str] = set()
        self._check_source()

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask Faraday once; done with the ready datasets, or not done."""
        from airflow_provider_faraday.api.datasets import checked_fields, trimmed
        from airflow_provider_faraday.api.errors import FaradayApiError
        from airflow_provider_faraday.api.retries import is_transient
        from airflow_provider_faraday.exceptions import PROBLEM_ERRORS

        self._check_source()
        fields = checked_fields(self.fields)
        criteria = self._criteria
        try:
            found = self._list()
        except FaradayApiError as error:
            if not is_transient(error) or not (self._has_polled or _was_rescheduled(context)):
                raise
            self.log.warning("Not ready yet, because Faraday could not be asked: %s", error)
            return PokeReturnValue(is_done=False)
        self._has_polled = True

        verdict = _assess(found, criteria)
        self.log.info("%s", verdict.describe())
        for status in sorted(verdict.unknown_statuses - self._warned_of):
            self.log.warning("This provider does not know the status '%s'; it counts as not ready.", status)
        self._warned_of |= verdict.unknown_statuses
        if verdict.problem:
            raise PROBLEM_ERRORS[verdict.problem.kind](verdict.problem.message)
        if not verdict.is_ready:
            return PokeReturnValue(is_done=False)
        ready = {state.id for state in verdict.ready}
        by_id = {dataset["id"]: trimmed(dataset, fields) for dataset in found if dataset["id"] in ready}
        return PokeReturnValue(is_done=True, xcom_value=list(by_id.values()))

    @cached_property
    def _hook(self) -> FaradayHook:
        from airflow_provider_faraday.hooks.faraday import FaradayHook

        return FaradayHook(self.faraday_conn_id)

    @cached_property
    def _criteria(self) -> Criteria:
        from airflow_provider_faraday.api.calls import dataset_ids
        from airflow_provider_faraday.api.readiness import Criteria

        return Criteria(
            source=self._source,
            conn_id=self.faraday_conn_id,
            updated_after=_moment(self.updated_after),
            fail_on_error=self.fail_on_error,
            allow_empty=self.allow_empty,
            wanted_ids=None if self.datasets is None else dataset_ids(self.datasets),
        )

    @property
    def _source(self) -> str:
        if self.connection_id is not None:
            return f"connection {self.connection_id}"
        return f"scope {self.scope_id}" if self.scope_id is not None else "the list 'datasets'"

    def _check_source(self) -> None:
        given = [n for n in ("connection_id", "scope_id", "datasets") if getattr(self, n) is not None]
        if len(given) != 1:
            from airflow_provider_faraday.api.errors import FaradayInputError

            raise FaradayInputError(
                "DatasetsReadySensor takes exactly one of connection_id, scope_id and datasets, but got "
                f"{' and '.join(given) or 'none of them'}."
            )

    def _list(self) -> list[dict[str, Any]]:
        if self.connection_id is not None:
            return self._hook.list_connection_datasets(self.connection_id)
        if self.scope_id is not None:
            return self._hook.list_scope_datasets(self.scope_id)
        return self._hook.list_datasets(self._criteria.wanted_ids)


def _assess(found: list[dict[str, Any]], criteria: Criteria) -> Verdict:
    import msgspec

    from airflow_provider_faraday.api.errors import FaradayResponseError
    from airflow_provider_faraday.api.readiness import DatasetState, assess

    try:
        return assess(msgspec.convert(found, list[DatasetState]), criteria)
    except msgspec.ValidationError as error:
        message = f"Faraday's datasets cannot be judged: {error}. Tell Faraday's support."
    raise FaradayResponseError(message)


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
