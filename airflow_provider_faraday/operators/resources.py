"""Operators that list resources, and that force Faraday to rebuild them."""

from __future__ import annotations

import time
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_faraday.api.errors import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayInputError,
)
from airflow_provider_faraday.api.inputs import field_names, seconds
from airflow_provider_faraday.api.inputs import resource_ids as valid_ids
from airflow_provider_faraday.api.resources import (
    check_builds,
    count_by_status,
    resource_type_named,
    select_fields,
)
from airflow_provider_faraday.assets.outlets import attach_builds
from airflow_provider_faraday.compat import deferral_timeout_as_sensor_timeout
from airflow_provider_faraday.openlineage import ReportsLineage
from airflow_provider_faraday.waiting.arguments import check_literals, check_rendered, check_upstream
from airflow_provider_faraday.waiting.source import Source, check_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_faraday.api.resources import ResourceType
    from airflow_provider_faraday.api.states import ResourceState
    from airflow_provider_faraday.hooks.faraday import FaradayHook
    from airflow_provider_faraday.lineage import Lineage
    from airflow_provider_faraday.waiting.wait import Wait


class _ResourcesOperator(ReportsLineage, BaseOperator):
    """The resources that a task lists or updates: its arguments, and how to list them."""

    ids_argument: ClassVar[str] = "resource_ids"
    """The argument that names the resources themselves."""

    _found: Sequence[dict[str, Any]] = ()
    """The resources that the task has listed or updates, for lineage."""

    def __init__(
        self,
        *,
        resource_type: str,
        connection_id: str | None,
        scope_id: str | None,
        resource_ids: Sequence[str | dict[str, Any]] | None,
        faraday_conn_id: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resource_type = resource_type
        self.connection_id = connection_id
        self.scope_id = scope_id
        setattr(self, self.ids_argument, resource_ids)
        self.faraday_conn_id = faraday_conn_id
        given = {"connection_id": connection_id, "scope_id": scope_id, self.ids_argument: resource_ids}
        # Fixed now: an argument that renders to None must not turn into "all of the account".
        self._listed_by = next((name for name, value in given.items() if value is not None), None)
        self._check_source(given)
        self._given = check_literals(self)

    @property
    def _label(self) -> str:
        return f"{type(self).__name__} '{self.task_id}'"

    def _check_source(self, given: Mapping[str, object]) -> None:
        check_source(self._label, resource_type_named(self.resource_type), given)

    def _ids(self) -> list[str]:
        return valid_ids(getattr(self, self.ids_argument), self.ids_argument)

    def _list(self, hook: FaradayHook) -> list[dict[str, Any]]:
        match self._listed_by:
            case None:
                return hook.list_resources(self.resource_type)
            case "connection_id":
                return hook.list_connection_resources(self.resource_type, self.connection_id or "")
            case "scope_id":
                return hook.list_scope_resources(self.resource_type, self.scope_id or "")
            case _:
                return hook.list_resources(self.resource_type, self._ids())


class ListResourcesOperator(_ResourcesOperator):
    """List resources and return them as a list of dicts (XCom ``return_value``).

    https://faraday.ai/docs/reference

    :param resource_type: the type, such as ``datasets``.
    :param connection_id: UUID of a Faraday connection: list its resources of the type (templated).
    :param scope_id: UUID of a scope: list its resources of the type (templated).
    :param resource_ids: list only the resources with these ids that exist (templated). Pass at most one of
        ``connection_id``, ``scope_id`` and ``resource_ids``; none of them lists all of the account.
    :param fields: the fields to return (templated); None for all but ``ResourceType.excluded_fields``.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
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
        self.fields = fields
        super().__init__(
            resource_type=resource_type,
            connection_id=connection_id,
            scope_id=scope_id,
            resource_ids=resource_ids,
            faraday_conn_id=faraday_conn_id,
            **kwargs,
        )

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List the resources."""
        # Not at the top: what only a running task needs is not loaded when a DAG file is parsed.
        from airflow_provider_faraday.api.states import states_of
        from airflow_provider_faraday.hooks.faraday import FaradayHook

        check_rendered(self, self._given)
        resource_type = resource_type_named(self.resource_type)
        field_names(self.fields)
        self._found = resources = self._list(FaradayHook(self.faraday_conn_id))
        self.log.info("Faraday returned %s", count_by_status(resource_type, resources))
        if self.outlets:
            attach_builds(context, self.outlets, states_of(resource_type, resources))
        return select_fields(resource_type, resources, self.fields, self.log)

    def _lineage(self) -> Lineage:
        from airflow_provider_faraday.lineage import Lineage, resource_node

        return Lineage(inputs=[resource_node(self.resource_type, resource) for resource in self._found])

    def _check_source(self, given: Mapping[str, object]) -> None:
        if self._listed_by:
            super()._check_source(given)
        else:
            resource_type_named(self.resource_type)


class ForceUpdateResourcesOperator(_ResourcesOperator):
    """Force Faraday to rebuild resources, and optionally wait for those builds.

    Faraday rebuilds a resource when it detects upstream changes. Use this operator to rebuild it immediately,
    for example after a load. Archived resources and previews are left out. If Faraday rejects a request, the
    others are still sent, and the error lists both groups.

    Returns ``{"resource_ids": […], "requested_at": {"<id>": "<ISO 8601>", …}}``. Each entry is also a
    separate XCom: pass ``operator.output["requested_at"]`` to a sensor as ``updated_after``. The times come
    from Faraday's clock and are later than any build that finished before the request, so a previous
    ``ready`` or ``error`` does not end the wait. A build that is already running cannot be distinguished from
    the requested one; the log names such resources.

    If Airflow retries the task, it requests the rebuilds again. Faraday cannot cancel a rebuild: clearing or
    failing the task does not stop it.

    https://faraday.ai/docs/reference

    :param resource_type: the type, such as ``datasets``.
    :param connection_id: UUID of a Faraday connection: update all its resources of the type (templated).
    :param scope_id: UUID of a scope: update all its resources of the type (templated).
    :param resource_ids: update these: ids, or dicts with an ``id`` as a list operator returns them; a list or
        a single one (templated). Pass exactly one of ``connection_id``, ``scope_id`` and ``resource_ids``.
    :param allow_empty: succeed if there is nothing to update, instead of failing.
    :param wait_for_completion: wait until the builds finish.
    :param include_upstream: while waiting, also wait until everything that the resources are built from is
        settled; see :class:`~airflow_provider_faraday.sensors.resources.ResourcesReadySensor`.
    :param fail_on_error: while waiting, fail as soon as a build fails; False keeps waiting.
    :param poke_interval: while waiting, seconds between polls.
    :param timeout: while waiting, seconds until it times out; by default Airflow's ``[sensors]
        default_timeout``.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :param deferrable: wait in the triggerer. The default is Airflow's ``[operators] default_deferrable``.
    :raises NothingToWaitForError: if there is nothing to update.
    :raises ResourcesFailedError: if a build that is waited for fails.
    :raises AirflowSensorTimeout: if waiting times out.
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayApiError: if a request fails.
    """

    template_fields: Sequence[str] = ("connection_id", "scope_id", "resource_ids", "faraday_conn_id")
    ui_color = "#c3b4f0"

    ids_key: ClassVar[str] = "resource_ids"
    """Their ids in what is returned."""

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
        poke_interval: float = 60.0,
        timeout: float | None = None,
        faraday_conn_id: str = "faraday_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            resource_type=resource_type,
            connection_id=connection_id,
            scope_id=scope_id,
            resource_ids=resource_ids,
            faraday_conn_id=faraday_conn_id,
            **kwargs,
        )
        # So that .output["requested_at"] is what a sensor's updated_after takes.
        self.multiple_outputs = True
        self.allow_empty = allow_empty
        self.wait_for_completion = wait_for_completion
        self.include_upstream = include_upstream
        self.fail_on_error = fail_on_error
        self.poke_interval = seconds(poke_interval, "poke_interval")
        if timeout is None:
            timeout = conf.getfloat("sensors", "default_timeout", fallback=7 * 24 * 3600.0)
        self.timeout = seconds(timeout, "timeout")
        self.deferrable = deferrable
        check_upstream(self._label, resource_type, include_upstream)
        if include_upstream and not wait_for_completion:
            raise FaradayInputError(
                f"{self._label} does not wait, so it cannot wait for what is upstream.\n"
                "Set wait_for_completion=True, or remove include_upstream."
            )
        if wait_for_completion:
            check_builds(f"{self._label} cannot use wait_for_completion with", resource_type)

    def execute(self, context: Context) -> dict[str, Any]:
        """Request the rebuilds, and wait for them with ``wait_for_completion``."""
        check_rendered(self, self._given)
        requested_at = self._request()
        if not (self.wait_for_completion and requested_at):
            return self._returned(requested_at)
        self._wait = wait = self._new_wait(requested_at)
        if self.deferrable:
            from airflow_provider_faraday.triggers.resources import defer_wait

            defer_wait(self, wait)
        wait.run()
        return self._complete(context, wait)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, wait: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Resume after the trigger's event.

        :param event: the event, see :mod:`airflow_provider_faraday.waiting.events`.
        :param wait: the wait that was deferred. If None, it is recreated from the event.
        """
        from airflow_provider_faraday.triggers.resources import defer_wait
        from airflow_provider_faraday.waiting import events
        from airflow_provider_faraday.waiting.wait import Wait

        outcome = events.from_payload(event)
        if wait is None:
            times = outcome.criteria.times if isinstance(outcome, events.Ready) else {}
            wait = self._new_wait(times).as_json | events.to_payload(outcome)
        self._wait = resumed = Wait.from_json(wait, self.log)
        if resumed.resume(outcome) is None:
            defer_wait(self, resumed)
        return self._complete(context, resumed)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume a deferred task."""
        with deferral_timeout_as_sensor_timeout():
            return super().resume_execution(next_method, next_kwargs, context)

    def _complete(self, context: Context, wait: Wait) -> dict[str, Any]:
        attach_builds(context, self.outlets or (), wait.ready)
        return self._returned(wait.criteria.times)

    def _lineage(self) -> Lineage:
        from airflow_provider_faraday.lineage import built_lineage, wait_lineage

        if self._wait and (self._wait.polled is not None or not self._found):
            return wait_lineage(self._wait)
        # What they are built from and when is not known before the builds have finished.
        return built_lineage(self.resource_type, self._found, is_built=False)

    def _returned(self, requested_at: dict[str, datetime]) -> dict[str, Any]:
        times = {id_: time.isoformat() for id_, time in requested_at.items()}
        return {self.ids_key: list(times), "requested_at": times}

    def _new_wait(self, requested_at: dict[str, datetime]) -> Wait:
        from airflow_provider_faraday.api.readiness import Criteria
        from airflow_provider_faraday.waiting.wait import Wait

        return Wait(
            faraday_conn_id=self.faraday_conn_id,
            source=Source(
                resource_type_named(self.resource_type),
                ids=tuple(requested_at),
                include_upstream=self.include_upstream,
            ),
            criteria=Criteria(updated_after=requested_at, fail_on_error=self.fail_on_error),
            poke_interval=self.poke_interval,
            deadline=time.time() + self.timeout,
            log=self.log,
            # Faraday has just responded: what fails from now on is worth waiting out.
            has_polled=lambda: True,
        )

    def _request(self) -> dict[str, datetime]:
        """Request the rebuilds. Return the time at which Faraday accepted each, by resource id."""
        from airflow_provider_faraday.api.states import states_of
        from airflow_provider_faraday.exceptions import NothingToWaitForError
        from airflow_provider_faraday.hooks.faraday import FaradayHook

        resource_type = resource_type_named(self.resource_type)
        hook = FaradayHook(self.faraday_conn_id)
        resources = self._list(hook)
        found = states_of(resource_type, resources)
        # A list may hold a resource twice, one of them archived: the live one counts.
        before = {state.id.lower(): state for state in sorted(found, key=lambda s: not s.why_skipped)}
        left_out = ", ".join(f"{s.label}: {s.why_skipped}" for s in before.values() if s.why_skipped)
        if left_out:
            self.log.info("Left out: %s", left_out)
        requested = self._ids() if self._listed_by == self.ids_argument else before
        ids = [id_ for id_ in requested if id_ not in before or not before[id_].why_skipped]
        pairs = zip(found, resources, strict=True)
        self._found = [resource for state, resource in pairs if not state.why_skipped]
        if not ids:
            none = f"{self.ids_argument} is empty" if requested is not before else "none found"
            why = f"all are left out: {left_out}" if left_out else none
            message = f"There are no {resource_type.plural} to update ({why})."
            if not self.allow_empty:
                raise NothingToWaitForError(
                    f"{message}\nCheck {self._listed_by}, or set allow_empty=True to continue anyway."
                )
            self.log.info("%s", message)
        running = [state.label for state in before.values() if state.status in ("starting", "running")]
        if running:
            self.log.warning(
                "Already building: %s. These builds may have read their input before this request, and "
                "cannot be distinguished from the requested ones.",
                ", ".join(running),
            )
        return self._request_each(hook, resource_type, ids, before)

    def _request_each(
        self,
        hook: FaradayHook,
        resource_type: ResourceType,
        ids: list[str],
        before: dict[str, ResourceState],
    ) -> dict[str, datetime]:
        from airflow_provider_faraday.api.states import last_change

        requested_at: dict[str, datetime] = {}
        rejected: dict[str, FaradayApiError] = {}
        for id_ in ids:
            try:
                accepted_at = hook.force_update(self.resource_type, id_)
            except FaradayApiError as error:
                rejected[id_] = error
                if isinstance(error, FaradayAuthenticationError):
                    # Not about this resource: the others would be rejected, too.
                    rejected |= dict.fromkeys(ids[ids.index(id_) :], error)
                    break
                continue
            if accepted_at is None:
                self.log.warning(
                    "Faraday's response has no Date header, so requested_at uses the worker's clock. If it "
                    "is ahead of Faraday's clock, waiting for the build may time out."
                )
                accepted_at = datetime.now(UTC)
            # The header has whole seconds: a build may have ended within that second, before the request.
            change = last_change(before[id_]) if id_ in before else None
            requested_at[id_] = (
                max(accepted_at, change + timedelta(milliseconds=1)) if change else accepted_at
            )
        labels = {id_: before[id_].label if id_ in before else id_ for id_ in ids}
        if rejected:
            raise _rejection(resource_type, labels, list(requested_at), rejected)
        self.log.info("Requested a rebuild of %s", ", ".join(labels.values()))
        return requested_at


def _rejection(
    resource_type: ResourceType,
    labels: dict[str, str],
    requested: list[str],
    rejected: dict[str, FaradayApiError],
) -> FaradayApiError:
    """Return the first error, with a message that says which rebuilds were requested and which were not."""
    first = next(iter(rejected.values()))
    if not requested and len(rejected) == 1:
        return first
    error = copy(first)
    reasons = "; ".join(f"{labels[id_]}: {reason.args[0]}" for id_, reason in rejected.items())
    error.args = (
        f"Requested a rebuild of {len(requested)} of {len(labels)} {resource_type.plural} "
        f"({', '.join(labels[id_] for id_ in requested) or 'none'}). The others failed: {reasons}",
    )
    return error
