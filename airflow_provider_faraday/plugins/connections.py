"""The Airflow connections whose webhooks are received, and the log of problems that anyone can cause."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from airflow.models.connection import Connection
from starlette.concurrency import run_in_threadpool

from airflow_provider_faraday.api.errors import lookup_error
from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.client.config import ClientConfig, client_config

log = logging.getLogger(__name__)

LOG_SECONDS = 60.0
"""How often each problem is logged at most."""

LOOKUP_SECONDS = 30.0
"""How long a looked up Airflow connection is used: forged messages must not cause a lookup each."""

LOOKUP_PATIENCE_SECONDS = 3.0
"""How long a message waits for a lookup. Faraday waits 15 seconds for the response to a message."""


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


class WebhookConnection:
    """An Airflow connection, looked up in the background at most once in 30 seconds, unless it is forgotten.

    :param conn_id: its id.
    :param problems: logs why it cannot be used.
    """

    def __init__(self, conn_id: str, problems: ThrottledLog) -> None:
        self.conn_id = conn_id
        self._problems = problems
        self._config: ClientConfig | None = None
        self._lookup: asyncio.Task[ClientConfig | None] | None = None
        self._looked_up_at = 0.0
        self._is_forgotten = False

    async def config(self) -> ClientConfig | None:
        """Return its configuration; the last one if a lookup is slow, None if it cannot be used."""
        is_outdated = time.monotonic() - self._looked_up_at >= LOOKUP_SECONDS
        if self._lookup is None or ((is_outdated or self._is_forgotten) and self._lookup.done()):
            self._looked_up_at, self._is_forgotten = time.monotonic(), False
            self._lookup = asyncio.create_task(run_in_threadpool(self._look_up))
        elif is_outdated:
            # A secret that was removed must not stay valid.
            self._config = None
            self._problems.warning(
                f"Webhooks are rejected: a lookup of the Airflow connection '{self.conn_id}' has not ended."
            )
        await asyncio.wait([self._lookup], timeout=LOOKUP_PATIENCE_SECONDS)
        if self._lookup.done():
            self._config = self._lookup.result()
        return self._config

    def forget(self) -> None:
        """Look it up again for the next message."""
        self._is_forgotten = True

    def _look_up(self) -> ClientConfig | None:
        try:
            config = client_config(Connection.get_connection_from_secrets(self.conn_id))
        except Exception as error:  # whatever a secrets backend raises
            problem = one_line(str(lookup_error(self.conn_id, error)))
        else:
            if config.webhook_secret:
                # Requests are not retried, because Faraday resends the message.
                return replace(config, max_attempts=1)
            problem = f"The Airflow connection '{self.conn_id}' has no extra 'webhook_secret'"
        self._problems.warning(f"Webhooks are rejected: {problem}")
        return None
