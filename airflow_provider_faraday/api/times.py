"""Parse the times in Faraday's responses."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

import msgspec


@lru_cache(maxsize=32_768)
def timestamp(text: str | None) -> datetime | None:
    """Parse an RFC 3339 timestamp to UTC; None if it is not valid. One without an offset is in UTC."""
    try:
        moment = msgspec.convert(text, datetime)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (msgspec.ValidationError, OverflowError):
        return None


@lru_cache(maxsize=16)
def http_date(text: str) -> datetime | None:
    """Parse the value of a ``Date`` header to UTC; None if it is not valid."""
    try:
        date = parsedate_to_datetime(text)
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


@lru_cache(maxsize=1024)
def shown(moment: datetime) -> str:
    """Return a time in UTC for messages, as Faraday writes it: ``2026-01-31T06:00:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
