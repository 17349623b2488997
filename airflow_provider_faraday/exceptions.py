"""What can go wrong, and which Airflow base decides what ``soft_fail`` and ``retries`` make of it.

API, authentication, configuration and input errors are plain exceptions: the task fails, is retried, and is
never skipped. What a wait itself can end in derives from ``AirflowFailException``: no retries, and a skip
under ``soft_fail``. A wait that takes too long ends in Airflow's own ``AirflowSensorTimeout``.
"""

from __future__ import annotations

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

__all__ = [
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
]
