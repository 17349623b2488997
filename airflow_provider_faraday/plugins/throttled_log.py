"""Rate-limited warnings about problems that unauthenticated senders can cause."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

LOG_SECONDS = 60.0
"""How often each problem is logged at most."""


class ThrottledLog:
    """Logs each problem at most once a minute."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def warning(self, problem: str, detail: str = "") -> None:
        """Log a problem.

        :param problem: identifies it. It contains nothing that an unauthenticated sender chose.
        :param detail: what may differ each time.
        """
        now = time.monotonic()
        if now >= self._next.get(problem, 0.0):
            self._next[problem] = now + LOG_SECONDS
            log.warning("%s", f"{problem} {detail}".rstrip())
