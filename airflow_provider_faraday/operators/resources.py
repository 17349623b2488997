"""Operators that list resources, and that force Faraday to rebuild them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_faraday.api.checks import parse_checks
from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.inputs import field_names, seconds
from airflow_provider_faraday.api.resources import (
    check_builds,
    count_by_status,
    select_fields,
)
from airflow_provider_faraday.assets.outlets import attach_builds
from airflow_provider_faraday.compat import deferral_timeout_as_sensor_timeout
from airflow_provider_faraday.openlineage import ReportsLineage
from airflow_provider_faraday.waiting.arguments import (
    check_literals,
    check_source,
    check_upstream,
    naming,
    parse_source,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_faraday.lineage import Lineage
    from airflow_provider_faraday.waiting.wait import Wait


class ListResourcesOperator(ReportsLineage, BaseOperator):
    """List resources and return them as a list of dicts (XCom ``return_value``).

    https://faraday.ai/docs/reference

    :param resource_type: the type, such as ``datasets``.
    :param connection_id: UUID or name of a Faraday connection: list its resources of the type (templated).
    :param scope_id: UUID or name of a scope: list its resources of the type (templated).
    :param resource_ids: list only these: UUIDs, of which unknown ones are skipped, or names (templated).
        Pass at most one of ``connection_id``, ``scope_id`` and ``resource_ids``; none of them lists all of
        the account.
    :param fields: the fields to return (templated); None for all but ``ResourceType.excluded_fields``.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayLookupError: if a name does not identify one resource.
    :raises FaradayApiError: if the request fails.
    """

    template_fields: Sequence[str] = (
        "connection_id",
        "scope_id",
        "resource_ids",
        "faraday_conn_id",
        "fields",
    )
    ui_color = "#e8e4f8"

    tables: Sequence[str] | str | None = None
    """Only datasets are listed by table."""

    _ids_argument: ClassVar[str] = "resource_ids"
    """The argument that names the resources themselves."""

    _found: Sequence[dict[str, Any]] = ()
    """The resources that the task has listed, for lineage."""

    def __init__(
        self,
        *,
        resource_type: str,
        connection_id: str | None = None,
        scope_id: str | None = None,
        resource_ids: Sequence[str | dict[str, Any]] | None = None,
        fields: Sequence[str] | None = None,
        faraday_conn_id: str = "faraday_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resource_type = resource_type
        self.connection_id = connection_id
        self.scope_id = scope_id
        self.resource_ids = resource_ids
        self.fields = fields
        self.faraday_conn_id = faraday_conn_id
        with naming(self):
            check_source(self, all_allowed=True)
            self._given = check_literals(self)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List the resources."""
        # Not at the top: run-time dependencies are not loaded when a DAG file is parsed.
        from airflow_provider_faraday.waiting import tasks

        hook = tasks.FaradayHook(self.faraday_conn_id)
        with naming(self):
            field_names(self.fields)
            source = tasks.look_up(hook, parse_source(self))
            self._found = resources = tasks.list_resources(hook, source, self.tables)
        self.log.info("Faraday returned %s", count_by_status(source.type, resources))
        attach_builds(context, self.outlets, source.type, resources)
        return select_fields(source.type, resources, self.fields, self.log)

    def _lineage(self) -> Lineage:
        from airflow_provider_faraday.lineage import Lineage, resource_node

        return Lineage(inputs=[resource_node(self.resource_type, resource) for resource in self._found])


class ForceUpdateResourcesOperator(ReportsLineage, BaseOperator):
    """Force Faraday to rebuild resources, and optionally wait for those builds.

    Faraday rebuilds a resource when it detects upstream changes. Use this operator to rebuild it immediately,
    for example after a load. Archived resources and previews are skipped. If Faraday rejects a request, the
    others are still sent, and the error names the rejected ones.

    Returns ``{"resource_ids": […], "requested_at": {"<id>": "<ISO 8601>", …}}``. Each entry is also a
    separate XCom: pass ``operator.output["requested_at"]`` to a sensor as ``updated_after``. The times come
    from Faraday's clock and are later than the previous build, so a previous ``ready`` or ``error`` does not
    end the wait. Most have whole seconds: a build that ends within that second, after the resource was
    listed, counts. A build that is already running does not count if Faraday's ``last_read_input_at`` shows
    that it read its input before the request. The log names such resources.

    If Airflow retries the task, it requests the rebuilds again. Faraday cannot cancel a rebuild: clearing or
    failing the task does not stop it.

    https://faraday.ai/docs/reference

    :param resource_type: the type, such as ``datasets``.
    :param connection_id: UUID or name of a Faraday connection: update all its resources of the type
        (templated).
    :param scope_id: UUID or name of a scope: update all its resources of the type (templated).
    :param resource_ids: update these: UUIDs, names, or dicts with an ``id`` as a list operator returns them;
        a list or a single one (templated). Pass exactly one of ``connection_id``, ``scope_id`` and
        ``resource_ids``.
    :param allow_empty: succeed if there is nothing to update, instead of failing.
    :param wait_for_completion: wait until the builds finish.
    :param include_upstream: while waiting, also wait until all upstream resources are up to date; see
        :class:`~airflow_provider_faraday.sensors.resources.ResourcesReadySensor`.
    :param fail_on_error: while waiting, fail as soon as a build fails; False keeps waiting.
    :param checks: while waiting, limits for fields of the ready resources, with the keys of Airflow's
        ``SQLColumnCheckOperator``, such as ``{"row_count": {"geq_to": 1000}}``; nested fields have dotted
        names.
    :param poke_interval: while waiting, seconds between polls.
    :param timeout: while waiting, seconds until it times out; by default Airflow's ``[sensors]
        default_timeout``.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :param deferrable: wait in the triggerer. The default is Airflow's ``[operators] default_deferrable``.
    :raises NothingToWaitForError: if there is nothing to update.
    :raises ResourcesFailedError: if a build that is waited for fails.
    :raises ChecksFailedError: if a build that is waited for does not pass ``checks``.
    :raises AirflowSensorTimeout: if waiting times out.
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayLookupError: if a name does not identify one resource.
    :raises FaradayApiError: if a request fails.
    """

    template_fields: Sequence[str] = ("connection_id", "scope_id", "resource_ids", "faraday_conn_id")
    ui_color = "#c3b4f0"

    tables: Sequence[str] | str | None = None
    """Only datasets are updated by table."""

    _ids_argument: ClassVar[str] = "resource_ids"
    """The argument that names the resources themselves, and their key in what is returned."""

    _found: Sequence[dict[str, Any]] = ()
    """The resources that the task updates, for lineage."""

    _wait: Wait | None = None

    def __init__(
        self,
        *,
        resource_type: str,
        connection_id: str | None = None,
        scope_id: str | None = None,
        resource_ids: Sequence[str | dict[str, Any]] | None = None,
        allow_empty: bool = False,
        wait_for_completion: bool = False,
        include_upstream: bool = False,
        fail_on_error: bool = True,
        checks: Mapping[str, Mapping[str, float]] | None = None,
        poke_interval: float = 60.0,
        timeout: float | None = None,
        faraday_conn_id: str = "faraday_default",
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # So that .output["requested_at"] is what a sensor's updated_after takes.
        self.multiple_outputs = True
        self.resource_type = resource_type
        self.connection_id = connection_id
        self.scope_id = scope_id
        self.resource_ids = resource_ids
        self.allow_empty = allow_empty
        self.wait_for_completion = wait_for_completion
        self.include_upstream = include_upstream
        self.fail_on_error = fail_on_error
        self.faraday_conn_id = faraday_conn_id
        given = {"timeout": timeout, "deferrable": deferrable}
        self._ignored = [name for name, value in given.items() if value and not wait_for_completion]
        if timeout is None:
            timeout = conf.getfloat("sensors", "default_timeout")
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable
        with naming(self):
            self.poke_interval = seconds(poke_interval, "poke_interval")
            self.timeout = seconds(timeout, "timeout")
            check_source(self)
            self.checks = parse_checks(checks)
            self._given = check_literals(self)
            check_upstream(self)
            if wait_for_completion:
                check_builds("wait_for_completion cannot be used with", resource_type)
            elif include_upstream or self.checks:
                raise FaradayInputError(
                    "include_upstream and checks are for a task that waits.\n"
                    "Set wait_for_completion=True, or remove them."
                )

    def execute(self, context: Context) -> dict[str, Any]:
        """Request the rebuilds, and wait for them with ``wait_for_completion``."""
        # Not at the top: run-time dependencies are not loaded when a DAG file is parsed.
        from airflow_provider_faraday.waiting import rebuild, tasks

        hook = tasks.FaradayHook(self.faraday_conn_id)
        with naming(self):
            source = tasks.look_up(hook, parse_source(self))
            found = tasks.list_resources(hook, source, self.tables, unread_allowed=self.allow_empty)
        rebuilds = rebuild.Rebuilds(source, found, self.log)
        self._found = rebuilds.resources
        if self._ignored:
            self.log.warning("Ignored without wait_for_completion=True: %s", ", ".join(self._ignored))
        requested_at = rebuilds.request(hook, allow_empty=self.allow_empty)
        if not (self.wait_for_completion and requested_at):
            return self._returned(requested_at)
        self._wait = wait = rebuild.new_wait(self, requested_at)
        if self.deferrable:
            self._defer(wait)
        wait.run()
        return self._complete(context, wait)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, wait: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Resume after the trigger's event.

        :param event: the event, see :mod:`airflow_provider_faraday.waiting.events`.
        :param wait: the wait that was deferred. If None, it is recreated from the event.
        """
        from airflow_provider_faraday.waiting import rebuild, tasks

        self._wait, outcome = tasks.resumed_wait(
            event, wait, lambda times: rebuild.new_wait(self, times), self.log
        )
        if self._wait.resume(outcome) is None:
            self._defer(self._wait)
        return self._complete(context, self._wait)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume a deferred task."""
        with deferral_timeout_as_sensor_timeout():
            return super().resume_execution(next_method, next_kwargs, context)

    def _defer(self, wait: Wait) -> NoReturn:
        from airflow_provider_faraday.triggers.resources import defer_wait

        defer_wait(self, wait)

    def _complete(self, context: Context, wait: Wait) -> dict[str, Any]:
        attach_builds(context, self.outlets, wait.source.type, wait.polled or [])
        times = wait.criteria.times
        return self._returned({id_: times[id_] for id_ in wait.source.ids or ()})

    def _returned(self, requested_at: dict[str, datetime]) -> dict[str, Any]:
        times = {id_: time.isoformat() for id_, time in requested_at.items()}
        return {self._ids_argument: list(times), "requested_at": times}

    def _lineage(self) -> Lineage:
        from airflow_provider_faraday.lineage import built_lineage, wait_lineage

        if self._wait and (self._wait.polled is not None or not self._found):
            return wait_lineage(self._wait)
        # What they are built from and when is not known before the builds have finished.
        return built_lineage(self.resource_type, self._found, is_built=False)
