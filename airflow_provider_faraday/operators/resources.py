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
from airflow_provider_faraday.api.resources import count_by_status, resource_type_named, select_fields
from airflow_provider_faraday.assets.resources import attach_builds
from airflow_provider_faraday.compat import deferral_timeout_as_sensor_timeout
from airflow_provider_faraday.waiting.source import Source, check_literals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_faraday.api.readiness import ResourceState
    from airflow_provider_faraday.api.resources import ResourceType
    from airflow_provider_faraday.hooks.faraday import FaradayHook
    from airflow_provider_faraday.waiting.wait import Wait


class ListResourcesOperator(BaseOperator):
    """List resources and return them as a list of dicts (XCom ``return_value``).

    https://faraday.ai/docs/reference

    :param resource_type: the type, such as ``datasets``.
    :param resource_ids: list only the resources with these ids that exist; None for all of the account
        (templated).
    :param fields: the fields to return (templated); None for all but ``ResourceType.excluded_fields``.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayApiError: if the request fails.
    """

    template_fields: Sequence[str] = ("resource_ids", "faraday_conn_id", "fields")
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        resource_type: str,
        resource_ids: Sequence[str | dict[str, Any]] | None = None,
        fields: Sequence[str] | None = None,
        faraday_conn_id: str = "faraday_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resource_type = resource_type
        self.resource_ids = resource_ids
        self.fields = fields
        self.faraday_conn_id = faraday_conn_id
        resource_type_named(resource_type)
        check_literals(self, "resource_ids")

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List the resources."""
        # Not at the top: what only a running task needs is not loaded when a DAG file is parsed.
        from airflow_provider_faraday.api.readiness import states_of
        from airflow_provider_faraday.hooks.faraday import FaradayHook

        resource_type = resource_type_named(self.resource_type)
        field_names(self.fields)
        resources = self._list(FaradayHook(self.faraday_conn_id))
        self.log.info("Faraday returned %s", count_by_status(resource_type, resources))
        if self.outlets:
            attach_builds(context, self.outlets, states_of(resource_type, resources))
        return select_fields(resource_type, resources, self.fields, self.log)

    def _list(self, hook: FaradayHook) -> list[dict[str, Any]]:
        ids = None if self.resource_ids is None else valid_ids(self.resource_ids, "resource_ids")
        return hook.list_resources(self.resource_type, ids)


class ForceUpdateResourcesOperator(BaseOperator):
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
    :param resource_ids: ids, or dicts with an ``id`` as a list operator returns them; a list or a single one
        (templated).
    :param resources: an alias of ``resource_ids``, which cannot be mapped: Airflow's operators have an
        argument of that name.
    :param wait_for_completion: wait until the builds finish.
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

    template_fields: Sequence[str] = ("resource_ids", "faraday_conn_id")
    ui_color = "#c3b4f0"

    ids_argument: ClassVar[str] = "resource_ids"
    """The argument that names the resources themselves."""
    ids_key: ClassVar[str] = "resource_ids"
    """Their ids in what is returned."""

    def __init__(
        self,
        *,
        resource_type: str,
        resource_ids: Sequence[str | dict[str, Any]] | None = None,
        resources: Sequence[str | dict[str, Any]] | None = None,
        wait_for_completion: bool = False,
        fail_on_error: bool = True,
        poke_interval: float = 60.0,
        timeout: float | None = None,
        faraday_conn_id: str = "faraday_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # So that .output["requested_at"] is what a sensor's updated_after takes.
        self.multiple_outputs = True
        self.resource_type = resource_type
        ids = resources if resource_ids is None else resource_ids
        setattr(self, self.ids_argument, ids)
        self.wait_for_completion = wait_for_completion
        self.fail_on_error = fail_on_error
        self.poke_interval = seconds(poke_interval, "poke_interval")
        if timeout is None:
            timeout = conf.getfloat("sensors", "default_timeout", fallback=7 * 24 * 3600.0)
        self.timeout = seconds(timeout, "timeout")
        self.faraday_conn_id = faraday_conn_id
        self.deferrable = deferrable
        resource_type_named(resource_type)
        if ids is None:
            raise FaradayInputError(f"{type(self).__name__} '{self.task_id}' requires {self.ids_argument}.")
        check_literals(self, self.ids_argument)

    def execute(self, context: Context) -> dict[str, Any]:
        """Request the rebuilds, and wait for them with ``wait_for_completion``."""
        requested_at = self._request()
        if not self.wait_for_completion:
            return self._returned(requested_at)
        wait = self._new_wait(requested_at)
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
        resumed = Wait.from_json(wait, self.log)
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

    def _returned(self, requested_at: dict[str, datetime]) -> dict[str, Any]:
        times = {id_: time.isoformat() for id_, time in requested_at.items()}
        return {self.ids_key: list(times), "requested_at": times}

    def _new_wait(self, requested_at: dict[str, datetime]) -> Wait:
        from airflow_provider_faraday.api.readiness import Criteria
        from airflow_provider_faraday.waiting.wait import Wait

        return Wait(
            faraday_conn_id=self.faraday_conn_id,
            source=Source(resource_type=self.resource_type, resource_ids=tuple(requested_at)),
            criteria=Criteria(
                updated_after=frozenset(requested_at.items()), fail_on_error=self.fail_on_error
            ),
            poke_interval=self.poke_interval,
            deadline=time.time() + self.timeout,
            log=self.log,
            # Faraday has just responded: what fails from now on is worth waiting out.
            has_polled=lambda: True,
        )

    def _request(self) -> dict[str, datetime]:
        """Request the rebuilds. Return the time at which Faraday accepted each, by resource id."""
        from airflow_provider_faraday.api.readiness import states_of
        from airflow_provider_faraday.exceptions import NothingToWaitForError
        from airflow_provider_faraday.hooks.faraday import FaradayHook

        resource_type = resource_type_named(self.resource_type)
        ids = valid_ids(getattr(self, self.ids_argument), self.ids_argument)
        hook = FaradayHook(self.faraday_conn_id)
        found = states_of(resource_type, hook.list_resources(self.resource_type, ids))
        # A list may hold a resource twice, one of them archived: the live one counts.
        before = {state.id.lower(): state for state in sorted(found, key=lambda s: not s.why_left_out)}
        left_out = ", ".join(f"{s.label}: {s.why_left_out}" for s in before.values() if s.why_left_out)
        if left_out:
            self.log.info("Left out: %s", left_out)
        ids = [id_ for id_ in ids if id_ not in before or not before[id_].why_left_out]
        if not ids:
            why = f"all are left out: {left_out}" if left_out else f"{self.ids_argument} is empty"
            raise NothingToWaitForError(f"There are no {resource_type.plural} to update ({why}).")
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
        from airflow_provider_faraday.api.readiness import last_change

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
