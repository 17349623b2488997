"""Log the failures of a watcher, and describe them for the state of its assets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.api.retries import is_transient
from airflow_provider_faraday.api.text import first_of, one_line
from airflow_provider_faraday.api.times import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_faraday.api.errors import FaradayError
    from airflow_provider_faraday.api.states import ResourceState
    from airflow_provider_faraday.waiting.source import Source

FAILURES_TO_REPORT = 3
"""After how many failed polls in a row a watcher reports a transient error. Others are reported at once."""


class Problems:
    """The problems of one watcher.

    :param source: what it watches.
    :param log: the trigger's logger.
    :ivar reported: the current problem in a sentence; None if there is none.
    """

    def __init__(self, source: Source, log: Any) -> None:
        self.reported: str | None = None
        self._source = source
        self._log = log
        self._missing: list[str] = []
        self._failing_since: datetime | None = None

    def poll_failed(self, error: FaradayError, failures: int, seconds: float) -> None:
        """Log the error of a poll, and report it if it is permanent or persists.

        :param failures: how many polls have failed in a row.
        :param seconds: until the next poll.
        """
        self._log.warning("Poll for updates failed, retrying in %.0f s: %s", seconds, one_line(str(error)))
        if failures >= FAILURES_TO_REPORT or not is_transient(error):
            # Without Faraday's error id, which differs each time.
            self._report(one_line(f"{error.args[0]} {getattr(error, 'remedy', '')}"))

    def polled(self, states: Iterable[ResourceState]) -> None:
        """Log and report which resources are missing.

        :param states: what a poll returned.
        """
        missing = sorted(set(self._source.ids or ()) - {state.key for state in states})
        if missing and missing != self._missing:
            kind = self._source.type.label.capitalize()
            self._log.warning("%s %s is watched, but Faraday does not return it.", kind, first_of(missing))
        self._missing = missing
        self._report(f"Faraday does not return {first_of(missing)}." if missing else None)

    def _report(self, problem: str | None) -> None:
        self._failing_since = (self._failing_since or datetime.now(UTC)) if problem else None
        since = self._failing_since
        self.reported = f"Failing since {shown(since)}: {problem}" if since else None
