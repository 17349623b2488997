"""DatasetsReadyTrigger: what a deferred DatasetsReadySensor waits with."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow_provider_faraday.api.readiness import Criteria
    from airflow_provider_faraday.triggers.feed import Waiter

_FEED = "airflow_provider_faraday.triggers.feed"

GRACE_SECONDS = 60
"""How long after its deadline a wait goes on for the poll that decides it."""


class DatasetsReadyTrigger(BaseTrigger):
    """Wait in the triggerer until all datasets of a connection, of a scope or of a list are ready.

    It sleeps first, polls every ``poke_interval`` seconds together with every other trigger that watches the
    same list, and ends with one event, a dict with ids and statuses only:

    * ``{"status": "ready", "dataset_ids": […]}``
    * ``{"status": "failed", "kind": "missing" | "failed" | "empty", "dataset_ids": […]}``
    * ``{"status": "timeout", "seconds_late": …}``: not ready at the first poll after the deadline
    * ``{"status": "error", "kind": <the exception's name>, "message": …, "status_code": …}``

    A transient failure of the API is logged and waited out.

    :param faraday_conn_id: the Airflow connection of type ``faraday``.
    :param connection_id: UUID of a Faraday connection, or None.
    :param scope_id: UUID of a scope, or None.
    :param dataset_ids: UUIDs of datasets, or None.
    :param updated_after: only a build at or after this time counts; ISO 8601 with an offset, or None.
    :param fail_on_error: whether a dataset in status ``error`` ends the wait.
    :param allow_empty: whether nothing to wait for counts as ready.
    :param poke_interval: seconds between polls.
    :param deadline: when the wait times out, in seconds since the epoch: a restart does not extend it.
    """

    def __init__(
        self,
        *,
        faraday_conn_id: str,
        connection_id: str | None = None,
        scope_id: str | None = None,
        dataset_ids: Sequence[str] | None = None,
        updated_after: str | None = None,
        fail_on_error: bool = True,
        allow_empty: bool = False,
        poke_interval: float,
        deadline: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.faraday_conn_id = faraday_conn_id
        self.connection_id = connection_id
        self.scope_id = scope_id
        self.dataset_ids = None if dataset_ids is None else list(dataset_ids)
        self.updated_after = updated_after
        self.fail_on_error = fail_on_error
        self.allow_empty = allow_empty
        self.poke_interval = poke_interval
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the class path and the arguments, from which Airflow makes the trigger again."""
        return (
            "airflow_provider_faraday.triggers.datasets.DatasetsReadyTrigger",
            {
                "faraday_conn_id": self.faraday_conn_id,
                "connection_id": self.connection_id,
                "scope_id": self.scope_id,
                "dataset_ids": self.dataset_ids,
                "updated_after": self.updated_after,
                "fail_on_error": self.fail_on_error,
                "allow_empty": self.allow_empty,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the one event."""
        # The feed is left before the event goes out: Airflow may never come back for this generator's end.
        yield TriggerEvent(await self._wait())  # type: ignore[no-untyped-call,unused-ignore]

    async def _wait(self) -> dict[str, Any]:
        if _FEED not in sys.modules:
            # Loading aiohttp takes longer than the event loop may be held.
            await asyncio.to_thread(importlib.import_module, _FEED)
        from airflow_provider_faraday.api.readiness import Criteria
        from airflow_provider_faraday.triggers.feed import Watch, joined

        watch = Watch(
            faraday_conn_id=self.faraday_conn_id,
            connection_id=self.connection_id,
            scope_id=self.scope_id,
            interval=self.poke_interval,
        )
        ids = None if self.dataset_ids is None else tuple(self.dataset_ids)
        criteria = Criteria(
            updated_after=datetime.fromisoformat(self.updated_after) if self.updated_after else None,
            fail_on_error=self.fail_on_error,
            allow_empty=self.allow_empty,
            wanted_ids=ids,
        )
        left = max(0.0, self.deadline - time.time()) + self.poke_interval + GRACE_SECONDS
        try:
            async with asyncio.timeout(left), joined(watch, ids or ()) as waiter:
                return await self._judge(waiter, criteria)
        except TimeoutError:
            # Not even a poll came to an end: the API is stuck, and so are all retries.
            return {"status": "timeout", "seconds_late": time.time() - self.deadline}

    async def _judge(self, waiter: Waiter, criteria: Criteria) -> dict[str, Any]:
        from airflow_provider_faraday.api.retries import is_transient
        from airflow_provider_faraday.exceptions import error_event

        said = ""
        warned_of: set[str] = set()
        while True:
            poll = await waiter.next_poll()
            if poll.error is None:
                verdict = poll.verdict(criteria)
                # What has not changed is not said again: a wait of hours stays readable, and cheap.
                if (line := verdict.description) != said:
                    self.log.info("%s", line)
                    said = line
                for status in sorted(verdict.unknown_statuses - warned_of):
                    self.log.warning(
                        "This provider does not know the status '%s'; it counts as not ready.", status
                    )
                warned_of |= verdict.unknown_statuses
                if verdict.is_ready:
                    return {"status": "ready", "dataset_ids": [state.id for state in verdict.ready]}
                if verdict.problem:
                    problem = verdict.problem
                    return {
                        "status": "failed",
                        "kind": problem.kind,
                        "dataset_ids": list(problem.dataset_ids),
                    }
            elif is_transient(poll.error):
                said = ""
                self.log.warning("Not ready yet, because Faraday could not be asked: %s", poll.error)
            else:
                return {"status": "error", **error_event(poll.error)}
            if (now := time.time()) > self.deadline:
                return {"status": "timeout", "seconds_late": now - self.deadline}
