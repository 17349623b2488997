"""DatasetsReadyTrigger, with which deferred sensors wait, and DatasetUpdatedTrigger, which starts DAGs."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException
from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_faraday.api import calls
from airflow_provider_faraday.api.errors import FaradayInputError

if TYPE_CHECKING:
    from airflow_provider_faraday.api.readiness import Criteria
    from airflow_provider_faraday.triggers.feed import Poll, Waiter, Watch
    from airflow_provider_faraday.triggers.marks import MarkStore

_FEED = "airflow_provider_faraday.triggers.feed"

GRACE_SECONDS = 60
"""How long after its deadline a wait goes on for the poll that decides it."""

LONGEST_PAUSE_SECONDS = 900.0
"""How long a watcher pauses at most after failures, unless its ``poke_interval`` is longer."""


class DatasetsReadyTrigger(BaseTrigger):
    """Wait in the triggerer until all datasets of a connection, of a scope or of a list are ready.

    It sleeps first, polls every ``poke_interval`` seconds together with every other trigger that watches the
    same list, and ends with one event, a dict with ids and statuses only:

    * ``{"status": "ready", "dataset_ids": […]}``, and ``updated_after`` where it waited for such builds
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
        await _load_feed()
        from airflow_provider_faraday.api.readiness import Criteria
        from airflow_provider_faraday.triggers.feed import joined

        ids = None if self.dataset_ids is None else tuple(self.dataset_ids)
        criteria = Criteria(
            updated_after=datetime.fromisoformat(self.updated_after) if self.updated_after else None,
            fail_on_error=self.fail_on_error,
            allow_empty=self.allow_empty,
            wanted_ids=ids,
        )
        left = max(0.0, self.deadline - time.time()) + self.poke_interval + GRACE_SECONDS
        try:
            async with asyncio.timeout(left), joined(_watch(self), ids or ()) as waiter:
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
                    ids = [state.id for state in verdict.ready]
                    since = {"updated_after": self.updated_after} if self.updated_after else {}
                    return {"status": "ready", "dataset_ids": ids, **since}
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


class DatasetUpdatedTrigger(BaseEventTrigger):
    """Watch datasets for an asset: one event each time Faraday has rebuilt one of them.

    For an ``AssetWatcher`` of Airflow 3.0 and later;
    :func:`airflow_provider_faraday.assets.datasets.dataset_asset` makes one for a single dataset.

    A dataset was rebuilt where its ``status`` is ``ready`` and its ``last_updated_output_at`` has moved
    forward, which is what Faraday's webhooks call ready with an update. The event's payload is a dict with
    ``id``, ``name``, ``status``, ``last_updated_output_at`` and ``row_count``, and ``status_error`` where
    ``status`` is ``error``.

    No build is announced twice. Airflow 3.3 and later keep how far each dataset was announced with the asset:
    a build that ended while no triggerer ran is announced afterwards. Earlier ones keep nothing: each start
    of a triggerer is a first sight, so that what was built before its first poll is not announced.

    Watchers and deferred sensors in a triggerer that poll the same list every ``poke_interval`` seconds share
    the poll. A failure of the API is logged, and the pauses grow to 15 minutes until it is over; it never
    ends the trigger.

    https://faraday.ai/docs/reference/getconnectiondatasets

    :param connection_id: UUID of a Faraday connection: watch all its datasets.
    :param scope_id: UUID of a scope: watch the datasets behind it.
    :param dataset_ids: UUIDs of the datasets to watch. Exactly one of the three must be given.
    :param on_error: also give an event each time a dataset goes into status ``error``.
    :param on_first_sight: also give an event for what a dataset is when it is seen for the first time; else
        that is where watching begins.
    :param poke_interval: seconds between polls.
    :param faraday_conn_id: the Airflow connection of type ``faraday``.
    :raises FaradayInputError: where an argument cannot be used.
    :raises AirflowOptionalProviderFeatureException: on Airflow 2, which has no asset watchers.
    """

    def __init__(
        self,
        *,
        connection_id: str | None = None,
        scope_id: str | None = None,
        dataset_ids: Sequence[str] | None = None,
        on_error: bool = False,
        on_first_sight: bool = False,
        poke_interval: float = 60.0,
        faraday_conn_id: str = "faraday_default",
    ) -> None:
        if BaseEventTrigger is BaseTrigger:
            raise AirflowOptionalProviderFeatureException(
                "DatasetUpdatedTrigger needs Airflow 3.0 or newer: this one has no asset watchers. On "
                "Airflow 2, schedule the DAG by time, and begin it with a DatasetsReadySensor."
            )
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        given = {"connection_id": connection_id, "scope_id": scope_id, "dataset_ids": dataset_ids}
        names = [name for name, value in given.items() if value is not None]
        if len(names) != 1 or dataset_ids in ([], ()):
            raise FaradayInputError(
                "DatasetUpdatedTrigger takes exactly one of connection_id, scope_id and dataset_ids (one "
                f"dataset or more), but got {' and '.join(names) or 'none of them'}."
            )
        seconds: object = poke_interval
        if not isinstance(seconds, (int, float)) or not seconds > 0:
            raise FaradayInputError(
                f"poke_interval must be a number of seconds above 0, but is {poke_interval!r}."
            )
        self.connection_id = self.scope_id = self.dataset_ids = None
        if connection_id is not None:
            self.connection_id = calls.faraday_id(connection_id, "connection_id")
        elif scope_id is not None:
            self.scope_id = calls.faraday_id(scope_id, "scope_id")
        else:
            self.dataset_ids = calls.dataset_ids(dataset_ids, "dataset_ids")
        self.on_error = on_error
        self.on_first_sight = on_first_sight
        self.poke_interval = poke_interval
        self.faraday_conn_id = faraday_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the class path and the arguments, by which Airflow also tells whether watchers are equal."""
        return (
            "airflow_provider_faraday.triggers.datasets.DatasetUpdatedTrigger",
            {
                "connection_id": self.connection_id,
                "scope_id": self.scope_id,
                "dataset_ids": self.dataset_ids,
                "on_error": self.on_error,
                "on_first_sight": self.on_first_sight,
                "poke_interval": self.poke_interval,
                "faraday_conn_id": self.faraday_conn_id,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch for ever, and yield an event for each build."""
        await _load_feed()
        from airflow_provider_faraday.triggers.feed import joined
        from airflow_provider_faraday.triggers.marks import MarkStore

        ids = tuple(self.dataset_ids or ())
        store = MarkStore(getattr(self, "asset_state_store", None))
        self._warned_of: set[str] = set()
        failures = 0
        while not await self._kept(store.load()):
            failures += 1
            await asyncio.sleep(self._pause(failures) or self.poke_interval)
        failures, pause = 0, 0.0
        while True:
            await asyncio.sleep(pause)
            async with joined(_watch(self), ids, soon=True) as waiter:
                pause = 0.0
                # Who is not in the feed while it pauses does not keep the others from polling.
                while not pause:
                    poll = await waiter.next_poll()
                    if poll.error is None:
                        failures = 0
                        for payload in await self._news(poll, store):
                            yield TriggerEvent(payload)  # type: ignore[no-untyped-call,unused-ignore]
                    else:
                        failures += 1
                        pause = self._pause(failures)
                        self.log.warning(
                            "Faraday could not be asked for updates, the next try is in %.0f seconds: %s",
                            pause or self.poke_interval,
                            poll.error,
                        )

    async def _news(self, poll: Poll, store: MarkStore) -> list[dict[str, Any]]:
        from airflow_provider_faraday.api.updates import news

        states = poll.of(self.dataset_ids)
        found = news(states, store.marks, errors=self.on_error, first_sight=self.on_first_sight)
        missing = set(self.dataset_ids or ()) - {state.id.lower() for state in states}
        self._warn(missing, "Faraday does not return dataset %s, which is to be watched.")
        unreadable = {state.label for state in found.unreadable}
        self._warn(unreadable, "The last_updated_output_at of dataset %s is no timestamp: it is not watched.")
        # Kept first: what is announced and not kept would be announced again after a restart.
        return found.events if await self._kept(store.save(found.marks)) else []

    def _warn(self, about: set[str], text: str) -> None:
        for each in sorted(about - self._warned_of):
            self.log.warning(text, each)
        self._warned_of |= about

    async def _kept(self, exchange: Awaitable[None]) -> bool:
        try:
            await exchange
        except Exception as error:  # whatever Airflow's API or a state backend raises while it is away
            self.log.warning(
                "Airflow's state of the asset could not be read or written, which is tried again: %s: %s",
                type(error).__name__,
                error,
            )
            return False
        return True

    def _pause(self, failures: int) -> float:
        """Give the seconds to stay away after so many failures: none after the first, then ever longer."""
        longest = max(LONGEST_PAUSE_SECONDS, self.poke_interval)
        return min(self.poke_interval * (2.0 ** min(failures - 1, 20) - 1), longest)


async def _load_feed() -> None:
    if _FEED not in sys.modules:
        # Loading aiohttp takes longer than the event loop may be held.
        await asyncio.to_thread(importlib.import_module, _FEED)


def _watch(trigger: DatasetsReadyTrigger | DatasetUpdatedTrigger) -> Watch:
    from airflow_provider_faraday.triggers.feed import Watch

    return Watch(
        faraday_conn_id=trigger.faraday_conn_id,
        connection_id=trigger.connection_id,
        scope_id=trigger.scope_id,
        interval=trigger.poke_interval,
    )
