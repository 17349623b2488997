"""The one retry policy of both transports: what is transient, how long to wait, when to stop."""

from __future__ import annotations

import logging
from typing import Any

from tenacity import RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from airflow_provider_faraday.api.errors import (
    FaradayApiError,
    FaradayConnectionError,
    FaradayResponseError,
)

log = logging.getLogger(__name__)

TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

MAX_RETRY_AFTER_SECONDS = 120.0
"""The longest ``Retry-After`` that is waited for; a longer one ends the call with its error."""

_backoff = wait_exponential(multiplier=0.5, max=30) + wait_random(0, 0.5)


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may well succeed later."""
    match error:
        case FaradayConnectionError():
            return True
        case FaradayResponseError():
            return error.broken
        case FaradayApiError():
            return error.status_code in TRANSIENT_STATUSES
    return False


def may_be_sent_again(error: BaseException) -> bool:
    """Tell whether a request may be repeated: a GET after any transient failure, a POST only where Faraday
    cannot have taken it."""
    if not is_transient(error) or not isinstance(error, FaradayApiError):
        return False
    if error.method == "GET":
        return True
    never_arrived = isinstance(error, FaradayConnectionError) and not error.request_sent
    return never_arrived or error.status_code == 429


def policy(max_attempts: int) -> dict[str, Any]:
    """Give the arguments of a ``tenacity.Retrying`` or ``AsyncRetrying``.

    The last attempt's own error is raised, with its ``attempts`` counted.

    :param max_attempts: requests at the most, 1 or more.
    """
    attempts_spent = stop_after_attempt(max_attempts)
    return {
        "retry": retry_if_exception(may_be_sent_again),
        "stop": lambda state: attempts_spent(state) or _asked_wait(state) > MAX_RETRY_AFTER_SECONDS,
        "wait": lambda state: max(_asked_wait(state), _backoff(state)),
        "before_sleep": _log_wait,
        "retry_error_callback": _give_up,
    }


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _asked_wait(state: RetryCallState) -> float:
    error = _error(state)
    return (error.retry_after or 0.0) if isinstance(error, FaradayApiError) else 0.0


def _log_wait(state: RetryCallState) -> None:
    seconds = state.next_action.sleep if state.next_action else 0.0
    log.warning("%s Attempt %d failed; trying again in %.1f s.", _error(state), state.attempt_number, seconds)


def _give_up(state: RetryCallState) -> Any:
    error = _error(state)
    if isinstance(error, FaradayApiError):
        error.attempts = state.attempt_number
    if error is not None:
        raise error
    return None
