"""Explain failures with ingress logs. A dataset has a log for each time that Faraday has read its input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from airflow_provider_faraday.api.text import one_line, shortened

COUNTS = ("total_row_count", "valid_row_count", "allowed_row_count")


def newest_first(logs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return logs sorted by when they started. Faraday does not document their order."""
    return sorted(logs, key=lambda log: str(log.get("started_at")), reverse=True)


def explain(logs: Sequence[dict[str, Any]]) -> str:
    """Return the reason of the last log, if it has failed, and the counts that shrank; empty without these.

    :param logs: newest first. The last one is the newest that has ended: older reasons are no longer true.
    """
    last = next((log for log in logs if log.get("status") in ("ready", "error")), {})
    failed = last.get("status") == "error" and last.get("status_error")
    parts = [f"{failed} ({last.get('finished_at') or 'not finished'})"] if failed else []
    return shortened(one_line("; ".join([*parts, *_shrunk(logs)])), 500)


def _shrunk(logs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the newest counts that are smaller than those of the last log before that succeeded."""
    shrunk = []
    for name in COUNTS:
        counts = [(log.get("status"), (log.get("metrics") or {}).get(name)) for log in logs]
        found = [(status, count) for status, count in counts if count is not None]
        before = next((count for status, count in found[1:] if status == "ready"), None)
        if before is not None and found[0][1] < before:
            shrunk.append(f"{name} fell from {before:,} to {found[0][1]:,}")
    return shrunk
