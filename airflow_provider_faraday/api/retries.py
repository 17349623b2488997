"""The retry policy of both clients: what is transient, how long to wait, when to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeGuard

from tenacity import RetryCallState, wait_exponential, wait_random

from airflow_provider_faraday.api.errors import FaradayApiError, FaradayResponseError, FaradayTransportError
from airflow_provider_faraday.api.text import one_line

log = logging.getLogger(__name__)

TRANSIENT_STATUSES = frozenset({408, 429, *range(500, 600)} - {501, 505})

MAX_RETRY_AFTER_SECONDS = 120.0
"""The longest ``Retry-After`` to wait for. A longer one ends the request with its error."""

BACKOFF = wait_exponential(multiplier=0.5, max=30) + wait_random(0, 0.5)
"""Seconds before the next attempt, unless ``Retry-After`` asks for more."""


def is_transient(error: BaseException) -> TypeGuard[FaradayApiError]:
    """Return whether the same request may succeed later."""
    if isinstance(error, FaradayResponseError):
        return error.broken
    if isinstance(error, FaradayTransportError):
        return True
    return isinstance(error, FaradayApiError) and error.status_code in TRANSIENT_STATUSES


def may_resend(error: BaseException) -> bool:
    """Return whether to send a request again: a GET after any transient failure, others only if Faraday
    cannot have processed it."""
    if not is_transient(error):
        return False
    never_arrived = isinstance(error, FaradayTransportError) and not error.request_sent
    return error.method in ("GET", "HEAD") or never_arrived or error.status_code == 429


def policy(
    max_attempts: int,
    seconds: float | None = None,
    resend: Callable[[BaseException], bool] = may_resend,
) -> dict[str, Any]:
    """Return the arguments of a ``tenacity.Retrying`` that raises the last error.

    :param max_attempts: 1 or more.
    :param seconds: the attempts stop when they have taken this long. The pauses between them do not count.
    :param resend: returns whether to send the request again after an error.
    """

    def retry(state: RetryCallState) -> bool:
        error = _error(state)
        if isinstance(error, FaradayApiError):
            error.attempts = state.attempt_number
        return error is not None and resend(error)

    def stop(state: RetryCallState) -> bool:
        worked = (state.seconds_since_start or 0.0) - state.idle_for
        took_too_long = seconds is not None and worked >= seconds
        no_attempt_left = state.attempt_number >= max_attempts
        return took_too_long or no_attempt_left or _retry_after(state) > MAX_RETRY_AFTER_SECONDS

    return {
        "retry": retry,
        "stop": stop,
        "wait": lambda state: max(_retry_after(state), BACKOFF(state)),
        "before_sleep": _log_retry,
        "reraise": True,
    }


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _retry_after(state: RetryCallState) -> float:
    error = _error(state)
    return (error.retry_after or 0.0) if isinstance(error, FaradayApiError) else 0.0


def _log_retry(state: RetryCallState) -> None:
    pause = state.next_action.sleep if state.next_action else 0.0
    error = one_line(str(_error(state)))
    log.warning("Attempt %d failed, retrying in %.1f s: %s", state.attempt_number, pause, error)
