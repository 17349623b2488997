"""Public exceptions. Their base decides what Airflow does: retry, skip under ``soft_fail``, or fail.

API, authentication, configuration, input and look-up errors are plain exceptions: the task fails, is
retried, and is never skipped. Failures of a wait derive from ``AirflowFailException``: the task is not
retried, and skipped under ``soft_fail``. A wait that times out raises Airflow's ``AirflowSensorTimeout``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_faraday.api.errors import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayConfigurationError,
    FaradayError,
    FaradayInputError,
    FaradayLookupError,
    FaradayNotFoundError,
    FaradayResponseError,
    FaradayTransportError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class ResourcesFailedError(AirflowFailException):
    """A resource that the task waits for has the status ``error``."""


class DatasetsFailedError(ResourcesFailedError):
    """A dataset that the task waits for has the status ``error``."""


class NothingToWaitForError(AirflowFailException):
    """There is no resource to wait for, or only archived ones and previews."""


class ChecksFailedError(AirflowFailException):
    """Resources are ready, but do not pass the ``checks`` of the task.

    :ivar resource_ids: ids of the resources that do not pass.
    """

    def __init__(self, message: str, resource_ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.resource_ids = list(resource_ids)


__all__ = [
    "ChecksFailedError",
    "DatasetsFailedError",
    "FaradayApiError",
    "FaradayAuthenticationError",
    "FaradayConfigurationError",
    "FaradayError",
    "FaradayInputError",
    "FaradayLookupError",
    "FaradayNotFoundError",
    "FaradayResponseError",
    "FaradayTransportError",
    "NothingToWaitForError",
    "ResourcesFailedError",
]
