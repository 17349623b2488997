"""Rate-limited warnings about problems that unauthenticated senders can cause."""

from __future__ import annotations

import logging
import time
from collections import Counter

log = logging.getLogger(__name__)

LOG_SECONDS = 60.0
"""How often each problem is logged at most."""


class ThrottledLog:
    """Logs each problem at most once a minute, with the number of times it has occurred since."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._next: dict[str, float] = {}

    def warning(self, problem: str, detail: str = "") -> None:
        """Log a problem.

        :param problem: identifies it. It contains nothing that an unauthenticated sender chose.
        :param detail: what may differ each time.
        """
        self._counts[problem] += 1
        now = time.monotonic()
        if now >= self._next.get(problem, 0.0):
            self._next[problem] = now + LOG_SECONDS
            count = self._counts.pop(problem)
            log.warning("%s", f"{problem} {detail}".rstrip() + (f" ({count} times)" if count > 1 else ""))
