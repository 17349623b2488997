"""The events with which a trigger ends a wait: typed structs, plain JSON in Airflow's database."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from airflow_provider_faraday.api import errors
from airflow_provider_faraday.api.errors import FaradayApiError, FaradayError
from airflow_provider_faraday.api.readiness import Criteria


class Ready(msgspec.Struct, frozen=True, tag_field="status", tag="ready"):
    """Everything is ready.

    ``airflow dags test`` passes only the event to the resumed task, so it contains the criteria and the
    deadline.
    """

    criteria: Criteria
    deadline: float


class Failed(msgspec.Struct, frozen=True, tag_field="status", tag="failed"):
    """The wait failed because of a :class:`~airflow_provider_faraday.api.readiness.Problem`."""

    kind: Literal["missing", "failed", "empty"]
    message: str
    logged: tuple[str, ...] = ()


class TimedOut(msgspec.Struct, frozen=True, tag_field="status", tag="timeout"):
    """The deadline has passed. ``pending`` describes the resources that were not ready."""

    pending: str


class Errored(msgspec.Struct, frozen=True, tag_field="status", tag="error"):
    """An exception ended the wait. ``kind`` is the name of its class."""

    kind: str
    message: str
    status_code: int | None

    @classmethod
    def from_error(cls, error: FaradayError) -> Errored:
        """Return the event for an error."""
        return cls(type(error).__name__, str(error), getattr(error, "status_code", None))

    @property
    def error(self) -> FaradayError:
        """The error, for the resumed task."""
        error: FaradayError = getattr(errors, self.kind, FaradayError)(self.message)
        if isinstance(error, FaradayApiError):
            error.status_code = self.status_code
        return error


Event = Ready | Failed | TimedOut | Errored


def to_payload(event: Event) -> dict[str, Any]:
    """Return an event as a trigger yields it."""
    payload: dict[str, Any] = msgspec.to_builtins(event, order="deterministic")
    return payload


def from_payload(payload: object) -> Event:
    """Return the event that a task was resumed with.

    :raises FaradayError: if it is missing or unknown.
    """
    try:
        event: Event = msgspec.convert(payload, Event)
        return event
    except msgspec.ValidationError:
        raise FaradayError(
            f"Unexpected trigger event: {payload!r}.\n"
            "Check that the worker and the triggerer run the same version of airflow-provider-faraday."
        ) from None
