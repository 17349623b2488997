"""The log lines and error messages of a wait."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.api.text import first_of, one_line
from airflow_provider_faraday.waiting.events import Failed

if TYPE_CHECKING:
    from airflow_provider_faraday.api.readiness import Problem, Verdict
    from airflow_provider_faraday.waiting.source import Source

_REMEDIES = {
    "missing": "Check the ids, and that the Airflow connection is for the account that owns them.",
    "failed": "Fix it in Faraday and clear this task, or set fail_on_error=False to wait until it is fixed.",
    "empty": "Check the ids, or set allow_empty=True to continue anyway.",
}


class Progress:
    """Log each change of a wait's verdict.

    :param source: what is waited for.
    :ivar pending: the resources that are not ready, in a sentence.
    :ivar changes_at: when the last verdict changes, even if no resource does, on the clock of the polls.
    """

    def __init__(self, log: Any, source: Source) -> None:
        self.pending = ""
        self.changes_at = math.inf
        self._log = log
        self._logged = ""
        # Until the first successful poll of this process.
        self._waiting = first_of(source.ids) if source.ids else source.label

    def polled(self, verdict: Verdict, began_at: float = 0.0) -> None:
        """Log the verdict of a poll that began at a given time."""
        self.pending = self._waiting = verdict.pending
        self.changes_at = began_at + verdict.changes_in
        if verdict.description != self._logged:
            self._logged = verdict.description
            self._log.info("%s", self._logged)

    def poll_failed(self, error: Exception) -> None:
        """Log a transient error of a poll."""
        text = one_line(str(error)).rstrip(".")
        self.pending = f"{self._waiting}. The last poll failed: {text}"
        self._logged = ""
        self._log.warning("Poll failed, retrying until the timeout: %s", text)


def failed(problem: Problem, source: Source) -> Failed:
    """Return the event for a problem. Its message has a remedy on the second line."""
    message = f"{problem.message} (Waited for the {source.label}.)\n{_REMEDIES[problem.kind]}"
    return Failed(problem.kind, message, problem.logged)
