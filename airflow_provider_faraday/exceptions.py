"""What can go wrong, and which Airflow base decides what ``soft_fail`` and ``retries`` make of it.

API, authentication, configuration and input errors are plain exceptions: the task fails, is retried, and is
never skipped. What a wait itself can end in derives from ``AirflowFailException``: no retries, and a skip
under ``soft_fail``. A wait that takes too long ends in Airflow's own ``AirflowSensorTimeout``.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_faraday.api.errors import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayConfigurationError,
    FaradayConnectionError,
    FaradayError,
    FaradayInputError,
    FaradayNotFoundError,
    FaradayResponseError,
)


class DatasetsFailedError(AirflowFailException):
    """A dataset that is waited for is in status ``error``: waiting longer does not help."""


class NothingToWaitForError(AirflowFailException):
    """There is no dataset to wait for, or only archived ones."""


PROBLEM_ERRORS: dict[str, type[Exception]] = {
    "missing": FaradayNotFoundError,
    "failed": DatasetsFailedError,
    "empty": NothingToWaitForError,
}
"""What a :class:`~airflow_provider_faraday.api.readiness.Problem` of each kind is raised as."""

EVENT_ERRORS: dict[str, type[FaradayError]] = {
    error.__name__: error
    for error in (
        FaradayApiError,
        FaradayAuthenticationError,
        FaradayConfigurationError,
        FaradayConnectionError,
        FaradayInputError,
        FaradayNotFoundError,
        FaradayResponseError,
    )
}
"""The errors that a trigger's event can describe, by its ``kind``."""


def error_event(error: FaradayError) -> dict[str, Any]:
    """Give the part of a trigger's event that says which error ended the wait."""
    return {
        "kind": type(error).__name__,
        "message": str(error),
        "status_code": getattr(error, "status_code", None),
    }


def error_from_event(kind: str, message: str, status_code: int | None) -> FaradayError:
    """Give the error that :func:`error_event` described."""
    error = EVENT_ERRORS[kind](message)
    if isinstance(error, FaradayApiError):
        error.status_code = status_code
    return error


__all__ = [
    "EVENT_ERRORS",
    "PROBLEM_ERRORS",
    "DatasetsFailedError",
    "FaradayApiError",
    "FaradayAuthenticationError",
    "FaradayConfigurationError",
    "FaradayConnectionError",
    "FaradayError",
    "FaradayInputError",
    "FaradayNotFoundError",
    "FaradayResponseError",
    "NothingToWaitForError",
    "error_event",
    "error_from_event",
]
