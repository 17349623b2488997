"""ResourcesReadySensor: gate a DAG on Faraday resources being ready."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_faraday.api.checks import parse_checks
from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.inputs import field_names
from airflow_provider_faraday.api.resources import check_builds, select_fields
from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.assets.outlets import attach_builds
from airflow_provider_faraday.compat import deferral_timeout_as_sensor_timeout, was_rescheduled
from airflow_provider_faraday.openlineage import ReportsLineage
from airflow_provider_faraday.waiting.arguments import (
    check_literals,
    check_source,
    check_upstream,
    naming,
    parse_source,
    parse_updated_after,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_faraday.lineage import Lineage
    from airflow_provider_faraday.waiting.wait import Wait


class ResourcesReadySensor(ReportsLineage, BaseSensorOperator):
    """Wait until all resources of a Faraday connection, of a scope, or of a list are ready.

    A resource is ready if its ``status`` is ``ready``, its configuration has not changed since its last
    build, and, with ``updated_after``, that build is recent enough. Archived resources and previews are
    skipped.

    Any API failure of the first poll fails the task. After a successful poll, transient failures (no
    response; 408, 429, every 5xx but 501 and 505; a response that is not JSON) are logged and retried until
    the timeout.

    Returns the ready resources as a list of dicts, and attaches the builds to outlets that represent them
    (:func:`~airflow_provider_faraday.assets.resources.resource_asset`). The outcome is the same in ``poke``
    and ``reschedule`` mode and with ``deferrable=True``.

    https://faraday.ai/docs/reference

    :param resource_type: the type, such as ``datasets``.
    :param connection_id: UUID or name of a Faraday connection: wait for all its resources of the type
        (templated).
    :param scope_id: UUID or name of a scope: wait for all its resources of the type (templated).
    :param resource_ids: wait for these: UUIDs, names, or dicts with an ``id`` as a list operator returns
        them; a list or a single one (templated). Pass exactly one of ``connection_id``, ``scope_id`` and
        ``resource_ids``.
    :param updated_after: count only builds at or after this time, and wait out errors from before it. A
        datetime or ISO 8601 string, in Airflow's default time zone if it has no offset; or a dict of ids and
        times, such as the ``requested_at`` of a force update; or a list of either, as mapped tasks return
        them (templated).
    :param fail_on_error: fail as soon as a resource is in status ``error``; False waits until it is fixed.
    :param allow_empty: succeed if there is nothing to wait for, instead of failing.
    :param include_upstream: also wait until all upstream resources are up to date: not building, about to be
        rebuilt or in ``error``. With ``updated_after``, older errors upstream are waited out, and resources
        that were built since do not block.
    :param unchanged_after: Faraday rebuilds a resource only if it detects changes upstream. After this many
        seconds without any change upstream since ``updated_after``, treat a resource as ready even if it was
        not rebuilt. Each returned dict then has a flag ``unchanged``. By default, the sensor keeps waiting.
    :param checks: limits for fields of the ready resources, with the keys of Airflow's
        ``SQLColumnCheckOperator``, such as ``{"row_count": {"geq_to": 1000}}``; nested fields have dotted
        names.
    :param fields: the fields to return (templated); None for all but ``ResourceType.excluded_fields``.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :param deferrable: wait in the triggerer, where tasks that wait for the same list share one poll. The
        default is Airflow's ``[operators] default_deferrable``. True is an error with ``exponential_backoff``
        or ``silent_fail``; if it is only the default, the sensor pokes instead.
    :raises ResourcesFailedError: if a resource is in status ``error`` (skipped with ``soft_fail=True``).
    :raises NothingToWaitForError: if there is nothing to wait for (skipped with ``soft_fail=True``).
    :raises ChecksFailedError: if all are ready, but one does not pass ``checks`` (skipped with
        ``soft_fail=True``).
    :raises AirflowSensorTimeout: after ``timeout`` seconds (skipped with ``soft_fail=True``).
    :raises FaradayNotFoundError: if Faraday does not return one of ``resource_ids``.
    :raises FaradayInputError: if an argument is not valid.
    :raises FaradayLookupError: if a name does not identify one resource.
    :raises FaradayApiError: if a request fails, as described above.
    """

    template_fields: Sequence[str] = (
        "connection_id",
        "scope_id",
        "resource_ids",
        "updated_after",
        "fields",
        "faraday_conn_id",
    )
    ui_color = "#d5ccf5"

    _ids_argument: ClassVar[str] = "resource_ids"
    """The argument that names the resources themselves."""

    _wait: Wait | None = None

    def __init__(
        self,
        *,
        resource_type: str,
        connection_id: str | None = None,
        scope_id: str | None = None,
        resource_ids: Sequence[str | dict[str, Any]] | None = None,
        updated_after: datetime | str | Mapping[str, datetime | str] | None = None,
        fail_on_error: bool = True,
        allow_empty: bool = False,
        include_upstream: bool = False,
        unchanged_after: float | timedelta | None = None,
        checks: Mapping[str, Mapping[str, float]] | None = None,
        fields: Sequence[str] | None = None,
        faraday_conn_id: str = "faraday_default",
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resource_type = resource_type
        self.connection_id = connection_id
        self.scope_id = scope_id
        self.resource_ids = resource_ids
        self.updated_after = updated_after
        self.fail_on_error = fail_on_error
        self.allow_empty = allow_empty
        self.include_upstream = include_upstream
        self.fields = fields
        self.faraday_conn_id = faraday_conn_id

        pokes_only = self.exponential_backoff or self.silent_fail
        if deferrable is None:
            deferrable = not pokes_only and conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable
        with naming(self):
            check_source(self)
            self.checks = parse_checks(checks)
            if updated_after is not None:
                check_builds("updated_after cannot be used with", resource_type)
            if deferrable and pokes_only:
                raise FaradayInputError(
                    "A task with deferrable=True shares its polls with others. It does not support "
                    "exponential_backoff or silent_fail.\nRemove them, or set deferrable=False."
                )
            self.unchanged_after = check_upstream(self, unchanged_after)
            self._given = check_literals(self)

    def execute(self, context: Context) -> Any:
        """Poke until the wait ends; with ``deferrable``, poke once, then defer."""
        with self._skips():
            self._wait = wait = self._new_wait(context)
        if self.deferrable:
            poked = self.poke(context)
            return poked.xcom_value if poked.is_done else self._defer(wait)
        try:
            return super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException) as error:
            # Airflow's own timeout does not say what was not ready. Under soft_fail, it is a skip.
            # Those of _skips have a cause.
            if error.__cause__:
                raise
        with self._skips():
            raise wait.timed_out()

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once."""
        with self._skips():
            self._wait = wait = self._wait or self._new_wait(context)
            ready = wait.poll()
            returned = self._returned(context, wait, ready or [])
            return PokeReturnValue(is_done=ready is not None, xcom_value=returned)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, wait: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Resume after the trigger's event.

        :param event: the event, see :mod:`airflow_provider_faraday.waiting.events`.
        :param wait: the wait that was deferred. If None, it is recreated from the event and the arguments.
        """
        from airflow_provider_faraday.waiting import tasks

        with self._skips():
            resumed, outcome = tasks.resumed_wait(event, wait, lambda _: self._new_wait(context), self.log)
            self._wait = resumed
            ready = resumed.resume(outcome)
            return self._defer(resumed) if ready is None else self._returned(context, resumed, ready)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume a deferred task.

        Under ``soft_fail``, Airflow's sensors skip on any ``AirflowException``, even if the Airflow
        connection was not found, and do not say why. This sensor skips only on the outcome of the wait.
        """
        with self._skips(), deferral_timeout_as_sensor_timeout():
            return super(BaseSensorOperator, self).resume_execution(next_method, next_kwargs, context)

    def _new_wait(self, context: Context) -> Wait:
        # Not at the top: run-time dependencies are not loaded when a DAG file is parsed.
        from airflow_provider_faraday.waiting import tasks

        field_names(self.fields)
        source = parse_source(self)._replace(include_upstream=self.include_upstream)
        criteria = tasks.Criteria(
            updated_after=parse_updated_after(self.updated_after),
            fail_on_error=self.fail_on_error,
            allow_empty=self.allow_empty,
            unchanged_after=self.unchanged_after,
        )
        return tasks.Wait(
            faraday_conn_id=self.faraday_conn_id,
            source=source,
            criteria=criteria,
            poke_interval=self.poke_interval,
            deadline=time.time() + self.timeout,
            log=self.log,
            checks=self.checks,
            has_polled=self.reschedule and was_rescheduled(context),
        )

    def _defer(self, wait: Wait) -> NoReturn:
        from airflow_provider_faraday.triggers.resources import defer_wait

        defer_wait(self, wait)

    def _lineage(self) -> Lineage:
        from airflow_provider_faraday.lineage import Lineage, wait_lineage

        return wait_lineage(self._wait) if self._wait else Lineage()

    def _returned(self, context: Context, wait: Wait, ready: list[dict[str, Any]]) -> list[dict[str, Any]]:
        attach_builds(context, self.outlets, wait.source.type, ready)
        returned = select_fields(wait.source.type, ready, self.fields, self.log)
        if wait.criteria.unchanged_after is None:
            return returned
        pairs = zip(returned, ready, strict=True)
        return [{**shown, "unchanged": resource["id"] in wait.unchanged} for shown, resource in pairs]

    @contextmanager
    def _skips(self) -> Iterator[None]:
        """Skip the task on errors if ``soft_fail`` or ``never_fail`` is set, in all modes."""
        try:
            with naming(self):
                yield
        except AirflowSkipException:
            raise
        except Exception as error:
            expected = isinstance(error, (AirflowSensorTimeout, AirflowFailException))
            if not (self.never_fail or (self.soft_fail and expected)):
                raise
            setting = "never_fail" if self.never_fail else "soft_fail"
            if not isinstance(error, AirflowSensorTimeout):
                # In the same words on all versions of Airflow. A timeout has been logged.
                self.log.warning("Skipping because of %s=True: %s", setting, one_line(str(error)))
            # A skipped task reports no lineage.
            self._wait = None
            raise AirflowSkipException(f"{error}\nSkipped because of {setting}=True.") from error
