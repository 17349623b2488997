"""Code that depends on Airflow's version or on its private names, with reasons."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (  # type: ignore[attr-defined]
    AirflowException,
    AirflowSensorTimeout,
    Asset,
    timezone,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger


def event_trigger_class() -> type[BaseTrigger]:
    """Return the base class of triggers that watch assets. Airflow 2 has none.

    ``common.compat`` has this since 1.21, which is newer than what many constraints files pin. Imported here
    because it takes too long for a DAG file that is parsed.
    """
    from airflow.triggers import base

    return getattr(base, "BaseEventTrigger", base.BaseTrigger)


def has_asset_watchers() -> bool:
    """Return whether assets can be watched: Airflow 3.0 and later."""
    return event_trigger_class().__name__ == "BaseEventTrigger"


def has_watcher_queues() -> bool:
    """Return whether a watcher can be assigned to a queue of triggerers: Airflow 3.4 and later."""
    return hasattr(event_trigger_class(), "queue")


def to_utc(moment: Any) -> datetime:
    """Return an aware time; one without an offset is in Airflow's default time zone."""
    # Not the pendulum.DateTime that Airflow makes of it: msgspec encodes only datetime itself.
    return datetime.fromisoformat(timezone.convert_to_utc(moment).isoformat())


def named_asset(uri: str, name: str | None, **fields: Any) -> Asset:
    """Return an asset. Airflow 2 calls it a dataset, which has a URI and no name."""
    if hasattr(Asset, "asset_type"):
        fields |= {"name": name or uri, "group": "faraday"}
    return Asset(uri=uri, **fields)


def was_rescheduled(context: Context) -> bool:
    """Return whether this try of a task has poked before, in an earlier process (mode ``reschedule``)."""
    count = context.get("task_reschedule_count")
    if count is not None:
        return bool(count)
    if "ti" not in context:
        # A test of a DAG may pass an empty context.
        return False
    # Airflow 2 keeps the count in the metadata database only.
    from airflow.models.taskreschedule import TaskReschedule
    from airflow.utils.session import create_session

    ti: Any = context["ti"]
    with create_session() as session:
        return session.scalar(TaskReschedule.stmt_for_task_instance(ti).limit(1)) is not None


@contextmanager
def deferral_timeout_as_sensor_timeout() -> Iterator[None]:
    """Turn the expiry of a deferral, the backstop of a wait, into an ``AirflowSensorTimeout``.

    Airflow 3 raises a ``TaskDeferralTimeout``. Airflow 2 has no such class, but a ``TaskDeferralError`` that
    says "timeout". Both would be retried with a new clock.
    """
    try:
        yield
    except AirflowException as error:
        if not (type(error).__name__.startswith("TaskDeferral") and "timeout" in str(error)):
            raise
        raise AirflowSensorTimeout(
            "Timed out: the triggerer did not respond.\nCheck that a triggerer is running."
        ) from None


def asset_states(trigger: Any) -> dict[str, Any]:
    """Return the state store of each asset that a trigger watches for, by the asset's name or URI.

    Empty before Airflow 3.3, which keeps no state for assets. Airflow runs equal watchers of several assets
    as one trigger that is not told its assets, and the public methods of its store take a single asset only:
    hence the private names.
    """
    accessors = getattr(trigger, "asset_state_store", None)
    if accessors is None:
        return {}
    groups: Iterable[dict[str, Any]] = (getattr(accessors, name, {}) for name in ("_by_name", "_by_uri"))
    return {asset: state for group in groups for asset, state in group.items()} or {"asset": accessors}


def store_asset_state(asset_id: int, key: str, value: Any, session: Any) -> None:
    """Write a value to the state store of an asset, in the API server. Nothing before Airflow 3.3.

    Tasks and triggers have accessors for it; the API server has the backend behind those, without a public
    name.
    """
    try:
        from airflow._shared.state import AssetScope
        from airflow.state import get_state_backend
    except ImportError:
        return
    get_state_backend().set(AssetScope(asset_id=asset_id), key, json.dumps(value), session=session)
