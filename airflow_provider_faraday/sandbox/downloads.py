"""The files of targets: CSV with a row per person. The same target always has the same rows."""

from __future__ import annotations

STATES = ("CA", "CO", "IL", "MA", "NY", "TX", "VA", "VT", "WA")


def target_file(count: int) -> bytes:
    """Return a file with this many rows."""
    rows = "".join(_row(number) for number in range(count))
    return f"person_id,email,state,probability,percentile\n{rows}".encode()


def _row(number: int) -> str:
    percentile = f"{number * 37 % 99 + 1:02d}"
    state = STATES[number % len(STATES)]
    return f"P{number:08d},p{number:08d}@example.com,{state},0.{percentile},{percentile}\n"
