"""ResourcesReadyTrigger, which deferred tasks use, and ResourceUpdatedTrigger, which asset watchers use."""

from __future__ import annotations

import asyncio
import importlib
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.inputs import resource_id
from airflow_provider_faraday.api.resources import check_builds, resource_type_named
from airflow_provider_faraday.compat import (
    asset_states,
    event_trigger_class,
    has_asset_watchers,
    has_watcher_queues,
)
from airflow_provider_faraday.waiting.source import Source, given_source

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator
    from airflow.triggers.base import BaseEventTrigger

    from airflow_provider_faraday.waiting.wait import Wait
else:
    BaseEventTrigger = event_trigger_class()

BACKSTOP_SECONDS = 600
"""Seconds past a wait's deadline and one ``poke_interval`` until Airflow ends an unresponsive deferral."""

_loaded: set[str] = set()


class ResourcesReadyTrigger(BaseTrigger):
    """Wait in the triggerer until all resources of a source are ready.

    It polls every ``poke_interval`` seconds, starting at a random time within the first interval, and shares
    each poll with other triggers of the process that poll the same source. It ends with one of the events in
    :mod:`airflow_provider_faraday.waiting.events`. Transient failures are logged and retried.

    The arguments are those of a :class:`~airflow_provider_faraday.waiting.wait.Wait`, as JSON values.

    :param faraday_conn_id: the Airflow connection of type ``faraday``.
    :param source: the fields of a :class:`~airflow_provider_faraday.waiting.source.Source`.
    :param criteria: the fields of :class:`~airflow_provider_faraday.api.readiness.Criteria`.
    :param poke_interval: seconds between polls.
    :param deadline: when the wait times out, in seconds since the epoch. A restart does not extend it.
    """

    def __init__(
        self,
        *,
        faraday_conn_id: str,
        source: dict[str, Any],
        criteria: dict[str, Any],
        poke_interval: float,
        deadline: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.faraday_conn_id = faraday_conn_id
        self.source = source
        self.criteria = criteria
        self.poke_interval = poke_interval
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, from which Airflow recreates the trigger."""
        return f"{__name__}.ResourcesReadyTrigger", {
            "faraday_conn_id": self.faraday_conn_id,
            "source": self.source,
            "criteria": self.criteria,
            "poke_interval": self.poke_interval,
            "deadline": self.deadline,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the event that ends the wait."""
        await _load("deferred")
        from airflow_provider_faraday.waiting import deferred

        # Unsubscribed before the event goes out: Airflow may never return to this generator.
        event = await deferred.wait(**self.serialize()[1], log=self.log)
        yield TriggerEvent(event)  # type: ignore[no-untyped-call,unused-ignore]


def defer_wait(task: BaseOperator, wait: Wait) -> NoReturn:
    """Defer the task and continue its wait in the triggerer. It resumes in ``execute_complete``."""
    left = max(0.0, wait.deadline - time.time())
    task.defer(
        trigger=ResourcesReadyTrigger(**wait.trigger_arguments),
        method_name="execute_complete",
        kwargs={"wait": wait.as_json},
        timeout=timedelta(seconds=left + wait.poke_interval + BACKSTOP_SECONDS),
    )


class ResourceUpdatedTrigger(BaseEventTrigger):
    """Watch resources for an asset: one event for each build.

    For an ``AssetWatcher`` of Airflow 3.0 and later.
    :func:`~airflow_provider_faraday.assets.resources.resource_asset` makes one for a single resource.

    A resource was rebuilt if its ``status`` is ``ready`` and its ``last_updated_output_at`` is later than
    before. The event's payload is a dict with ``resource_type``, ``id``, ``name``, ``status``,
    ``last_updated_output_at`` and the type's count (``row_count`` for datasets), and with ``status_error`` if
    ``status`` is ``error``.

    Events are delivered at least once. A restart of the triggerer, or a second one that takes over, can
    repeat an event: deduplicate by ``id`` and ``last_updated_output_at``. On Airflow 3.3
    and later, the asset's state records the announced builds, so builds that finish while no triggerer is
    running are announced later. Earlier versions store nothing: builds that finish before the first poll
    of the triggerer are not announced.

    Watchers and deferred tasks that poll the same source at the same interval share each poll. Failures never
    end the watch: they are logged, shown in the asset's state on Airflow 3.3 and later, and retried with
    exponential backoff, up to 15 minutes.

    https://faraday.ai/docs/reference

    :param resource_type: the type, such as ``datasets``.
    :param connection_id: UUID of a Faraday connection: watch all its resources of the type.
    :param scope_id: UUID of a scope: watch all its resources of the type.
    :param resource_ids: UUIDs of the resources to watch. Pass exactly one of these three.
    :param on_error: also send an event when a resource goes into status ``error``.
    :param emit_initial: also send an event for each resource that is ``ready`` at the first poll, and, with
        ``on_error``, for each in ``error``.
    :param poke_interval: seconds between polls.
    :param faraday_conn_id: the Airflow connection of type ``faraday``.
    :param queue: run in triggerers that serve this queue (Airflow 3.4 and later). It is not part of the
        watcher's identity: Airflow reads it when it first stores the watcher.
    :raises FaradayInputError: if an argument is not valid.
    :raises AirflowOptionalProviderFeatureException: on Airflow 2, which has no asset watchers, and with
        ``queue`` before Airflow 3.4.
    """

    _ids_argument = "resource_ids"

    def __init__(
        self,
        *,
        resource_type: str,
        connection_id: str | None = None,
        scope_id: str | None = None,
        resource_ids: Sequence[str] | None = None,
        on_error: bool = False,
        emit_initial: bool = False,
        poke_interval: float = 60.0,
        faraday_conn_id: str = "faraday_default",
        queue: str | None = None,
    ) -> None:
        name = type(self).__name__
        if not has_asset_watchers():
            raise AirflowOptionalProviderFeatureException(
                f"{name} requires Airflow 3.0 or later: Airflow 2 has no asset watchers.\n"
                "On Airflow 2, run the DAG on a schedule, with a sensor as its first task."
            )
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        if queue is not None:
            if not has_watcher_queues():
                raise AirflowOptionalProviderFeatureException(
                    f"The argument queue of {name} requires Airflow 3.4 or later.\n"
                    "Remove it: before, every triggerer runs all watchers."
                )
            self.queue = queue
        check_builds(f"{name} cannot watch", resource_type)
        seconds: object = poke_interval
        if not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
            raise FaradayInputError(
                f"poke_interval must be a positive number of seconds, but is {seconds!r}."
            )
        kind = resource_type_named(resource_type)
        given: dict[str, Any] = {"connection_id": connection_id, "scope_id": scope_id}
        given[self._ids_argument] = resource_ids
        argument = given_source(name, kind, given)
        source = Source.parse(kind, argument, given[argument])
        watched = [source.container.id] if source.container else source.ids
        if not watched:
            raise FaradayInputError(f"{name} requires at least one id in {argument}.")
        for id_ in watched:
            # A trigger does not look up names.
            resource_id(id_, argument)
        self.source = source
        self.on_error = on_error
        self.emit_initial = emit_initial
        self.poke_interval = poke_interval
        self.faraday_conn_id = faraday_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, by which Airflow also tells whether watchers are equal."""
        # Not the subclass, whose arguments have other names.
        return f"{__name__}.ResourceUpdatedTrigger", {
            **self.source.as_json,
            "on_error": self.on_error,
            "emit_initial": self.emit_initial,
            "poke_interval": self.poke_interval,
            "faraday_conn_id": self.faraday_conn_id,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Run until cancelled, and yield an event for each build."""
        await _load("watch")
        from airflow_provider_faraday.waiting import watch

        payloads = watch.watch(
            self.faraday_conn_id,
            self.source,
            self.poke_interval,
            asset_states(self),
            self.log,
            on_error=self.on_error,
            emit_initial=self.emit_initial,
        )
        async with aclosing(payloads):
            async for payload in payloads:
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call,unused-ignore]


async def _load(module: str) -> None:
    # Not those of sys.modules, which has a module before it is loaded: importing it would then block.
    if module not in _loaded:
        # Loading aiohttp takes longer than the event loop may be blocked.
        await asyncio.to_thread(importlib.import_module, f"airflow_provider_faraday.waiting.{module}")
        _loaded.add(module)
