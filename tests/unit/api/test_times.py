"""Timestamps: every form of RFC 3339, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_faraday.api.times import http_date, timestamp


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T00:00:00Z",
        "2026-01-02 00:00:00z",
        "2026-01-02T00:00:00.000000000Z",
        "2026-01-02T05:30:00+05:30",
        "2026-01-02T00:00:00",
    ],
)
def test_equivalent_timestamps_are_equal(text: str) -> None:
    assert timestamp(text) == datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("text", ["now", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+05:00", "2026-01-02"])
def test_invalid_timestamps_are_none(text: str) -> None:
    assert timestamp(text) is None


FORM = r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{0,12})?(Z|[+-]\d\d:\d\d)?"


@settings(derandomize=True, deadline=None, database=None)
@given(st.text(max_size=40) | st.from_regex(FORM))
def test_any_text_is_a_time_in_utc_or_none(text: str) -> None:
    for read in (timestamp(text), http_date(text)):
        assert read is None or read.tzinfo is UTC
