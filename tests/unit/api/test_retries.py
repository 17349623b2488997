"""Retries: which errors are transient, which requests are resent, and how long to wait."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tenacity import RetryCallState, Retrying

from airflow_provider_faraday.api import retries
from airflow_provider_faraday.api.errors import (
    FaradayApiError,
    FaradayError,
    FaradayInputError,
    FaradayResponseError,
    FaradayTransportError,
)

TRANSIENT = [
    FaradayTransportError("x"),
    FaradayResponseError("x", broken=True),
    *(FaradayApiError("x", status_code=status) for status in (408, 429, 500, 502, 599)),
]
PERMANENT = [
    FaradayResponseError("x"),
    *(FaradayApiError("x", status_code=status) for status in (400, 401, 404, 499, 501, 505, 600)),
    FaradayInputError("x"),
]


@pytest.mark.parametrize("error", [*TRANSIENT, *PERMANENT], ids=repr)
def test_resends_a_get_after_transient_errors_only(error: Any) -> None:
    error.method = "GET"
    assert retries.is_transient(error) is retries.may_resend(error) is (error in TRANSIENT)


@pytest.mark.parametrize(
    ("error", "resent"),
    [
        (FaradayTransportError("x", request_sent=False, method="POST"), True),
        (FaradayApiError("x", status_code=429, method="PATCH"), True),
        (FaradayTransportError("x", method="POST"), False),
        (FaradayApiError("x", status_code=503, method="DELETE"), False),
        (FaradayResponseError("x", broken=True, method="POST"), False),
    ],
)
def test_resends_other_methods_only_if_faraday_cannot_have_processed_them(
    error: FaradayApiError, resent: bool
) -> None:
    assert retries.may_resend(error) is resent


def waits(error: FaradayError, max_attempts: int = 5) -> list[float]:
    """Return the seconds between the attempts of a request that always fails."""
    seconds: list[float] = []

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        Retrying(**retries.policy(max_attempts), sleep=seconds.append)(fail)
    return seconds


def test_backs_off_exponentially_with_jitter() -> None:
    for pause, shortest in zip(waits(FaradayTransportError("x", method="GET")), (0.5, 1, 2, 4), strict=True):
        assert shortest <= pause <= shortest + 0.5


@pytest.mark.parametrize(
    ("retry_after", "attempts", "pauses"), [(20, 3, [20, 20]), (120, 2, [120]), (121, 5, []), (20, 1, [])]
)
def test_waits_as_long_as_retry_after_says_unless_that_is_too_long(
    retry_after: float, attempts: int, pauses: list[float]
) -> None:
    error = FaradayApiError("x", method="GET", status_code=429, retry_after=retry_after)
    assert waits(error, attempts) == pauses


@pytest.mark.parametrize(("worked", "stops"), [(9.9, False), (10.0, True)])
def test_gives_up_when_the_attempts_without_the_pauses_have_taken_too_long(
    worked: float, stops: bool
) -> None:
    state = RetryCallState(Retrying(), None, (), {})
    state.start_time, state.idle_for, state.outcome_timestamp = 0.0, 100.0, 100.0 + worked
    assert retries.policy(5, seconds=10)["stop"](state) is stops


def test_logs_each_retry_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        waits(FaradayApiError("Busy.\x1b[31m", method="GET", path="/x", status_code=503, retry_after=9), 2)
    (record,) = caplog.records
    assert record.getMessage() == "Attempt 1 failed, retrying in 9.0 s: Busy. [31m (GET /x)"
