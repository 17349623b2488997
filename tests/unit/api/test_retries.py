"""Retries: which errors are transient, which requests are resent, and how long to wait."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tenacity import Retrying

from airflow_provider_faraday.api import retries
from airflow_provider_faraday.api.errors import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayError,
    FaradayInputError,
    FaradayResponseError,
    FaradayTransportError,
)

TRANSIENT = [
    FaradayTransportError("x"),
    FaradayTransportError("x", request_sent=False),
    FaradayResponseError("x", broken=True),
    *(
        FaradayApiError("x", status_code=status)
        for status in (408, 429, 500, 502, 503, 504, 507, 520, 524, 529, 599)
    ),
]
PERMANENT = [
    FaradayResponseError("x"),
    FaradayAuthenticationError("x", status_code=401),
    *(FaradayApiError("x", status_code=status) for status in (400, 403, 404, 409, 501, 505, 600)),
    FaradayInputError("x"),
    ValueError("x"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_resends_a_get_after_a_transient_error(error: FaradayApiError) -> None:
    error.method = "GET"
    assert retries.is_transient(error)
    assert retries.may_resend(error)


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_does_not_resend_a_get_after_a_permanent_error(error: Any) -> None:
    error.method = "GET"
    assert not retries.is_transient(error)
    assert not retries.may_resend(error)


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("error", "resent"),
    [
        (FaradayTransportError("x", request_sent=False), True),
        (FaradayApiError("x", status_code=429), True),
        (FaradayTransportError("x"), False),
        (FaradayApiError("x", status_code=503), False),
        (FaradayResponseError("x", broken=True), False),
    ],
)
def test_resends_other_methods_only_if_faraday_cannot_have_processed_them(
    error: FaradayApiError, resent: bool, method: str
) -> None:
    error.method = method
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
    first, second, third, fourth = waits(FaradayTransportError("x", method="GET"))
    assert 0.5 <= first <= 1.0
    assert 1.0 <= second <= 1.5
    assert 2.0 <= third <= 2.5
    assert 4.0 <= fourth <= 4.5


def test_waits_as_long_as_retry_after_says() -> None:
    assert waits(FaradayApiError("x", method="GET", status_code=429, retry_after=20), 3) == [20, 20]


def test_gives_up_if_retry_after_is_too_long() -> None:
    assert waits(FaradayApiError("x", method="GET", status_code=429, retry_after=121)) == []


def test_gives_up_when_the_attempts_have_taken_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pauses: list[float] = []

    def attempt() -> None:
        nonlocal now
        now += 4
        raise FaradayApiError("x", method="GET", status_code=503, retry_after=100)

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        pauses.append(seconds)

    with pytest.raises(FaradayApiError) as caught:
        Retrying(**retries.policy(5, seconds=10), sleep=sleep)(attempt)
    # Twelve seconds of work: the pauses do not count.
    assert pauses == [100, 100]
    assert caught.value.attempts == 3


def test_an_error_says_how_many_attempts_were_made() -> None:
    errors = [
        FaradayApiError("x", method="GET", status_code=404),
        FaradayApiError("x", method="GET", status_code=503),
    ]

    def attempt() -> None:
        raise errors.pop()

    with pytest.raises(FaradayApiError, match="2 attempts") as caught:
        Retrying(**retries.policy(5), sleep=lambda seconds: None)(attempt)
    assert caught.value.status_code == 404


def test_a_single_attempt_never_waits() -> None:
    assert waits(FaradayTransportError("x", method="GET"), 1) == []


def test_logs_each_retry_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        waits(FaradayApiError("Busy.\x1b[31m", method="GET", path="/x", status_code=503, retry_after=9), 2)
    (record,) = caplog.records
    assert record.getMessage() == "Attempt 1 failed, retrying in 9.0 s: Busy. [31m (GET /x)"
