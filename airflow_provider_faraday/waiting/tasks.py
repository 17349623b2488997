"""Run-time dependencies of operators and sensors, which are not imported when a DAG file is parsed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.api.readiness import Criteria
from airflow_provider_faraday.api.responses import decode_resources
from airflow_provider_faraday.api.tables import select_by_table, table_names, table_of
from airflow_provider_faraday.api.text import first_of, one_line
from airflow_provider_faraday.exceptions import FaradayNotFoundError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.waiting import events
from airflow_provider_faraday.waiting.wait import Wait, look_up

if TYPE_CHECKING:
    from airflow_provider_faraday.waiting.source import Source

__all__ = ["Criteria", "FaradayHook", "Wait", "list_resources", "look_up", "resumed_wait"]


def list_resources(
    hook: FaradayHook, source: Source, tables: object = None, *, unread_allowed: bool = False
) -> list[dict[str, Any]]:
    """Return the resources of a source as Faraday sent them.

    :param tables: for datasets, return only those that read these tables; None for all.
    :param unread_allowed: log tables that no dataset reads, instead of raising an error.
    :raises FaradayNotFoundError: if no dataset reads one of ``tables``.
    """
    names = None if tables is None else table_names(tables)
    listed = [
        resource
        for endpoint in source.endpoints()
        for resource in hook.client.fetch(endpoint, decode_resources).value
    ]
    if names is None:
        return listed
    found, unread = select_by_table(listed, names)
    if unread:
        message = f"None of the {len(listed)} {source.label} reads {first_of(unread)}."
        if not unread_allowed:
            existing = sorted({table for dataset in listed if (table := table_of(dataset))})
            remedy = one_line(f"They read {first_of(existing) or 'no tables'}. Check tables.")
            raise FaradayNotFoundError(message, remedy=remedy)
        hook.log.warning("%s", message)
    return found


def resumed_wait(
    payload: object, saved: dict[str, Any] | None, new: Callable[[dict[str, datetime]], Wait], log: Any
) -> tuple[Wait, events.Event]:
    """Return the wait of a task that its trigger has resumed, and the trigger's event.

    :param payload: the event as Airflow passes it.
    :param saved: the wait that was deferred. ``airflow dags test`` passes only the event.
    :param new: makes a wait from the task's arguments and the event's times by id, in case there is none.
    :raises FaradayError: if the event is missing or unknown.
    """
    event = events.from_payload(payload)
    times = event.criteria.times if isinstance(event, events.Ready) else {}
    # The criteria and the deadline of the event replace those of a new wait.
    return Wait.from_json(saved or new(times).as_json | events.to_payload(event), log), event
