"""Run triggers together in one event loop, as a triggerer does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger
from airflow_provider_faraday.triggers.resources import ResourcesReadyTrigger
from support.accounts import Account
from support.ids import SCOPE


def waiting_for(
    *ids: str, poke_interval: float = 0.05, criteria: Any = None, **source: Any
) -> ResourcesReadyTrigger:
    """Return the trigger of a deferred wait: for targets by id, or for those of another source."""
    fields = {"resource_type": "targets", **({"resource_ids": list(ids)} if ids else {}), **source}
    return ResourcesReadyTrigger(
        faraday_conn_id="faraday_default",
        source=fields,
        criteria=criteria or {},
        poke_interval=poke_interval,
        deadline=time.time() + 3600,
    )


class Watcher:
    """A running watcher of datasets.

    :ivar events: the payloads of its events.
    """

    def __init__(self, states: States | None, arguments: dict[str, Any]) -> None:
        trigger = DatasetUpdatedTrigger(**{"scope_id": SCOPE, "poke_interval": 0.03} | arguments)
        if states:
            trigger.asset_state_store = states.accessors
        self.events: list[dict[str, Any]] = []
        self.task = asyncio.create_task(self._run(trigger))

    async def _run(self, trigger: DatasetUpdatedTrigger) -> None:
        async for event in trigger.run():
            self.events.append(event.payload)

    @property
    def builds(self) -> list[tuple[str, str]]:
        """The name and the date of each build."""
        return [(event["name"], event["last_updated_output_at"][:10]) for event in self.events]

    async def stop(self) -> None:
        """Stop the watcher, as a triggerer does."""
        self.task.cancel()
        await asyncio.wait([self.task])


class Waiting:
    """Triggers that were started."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    def start(self, trigger: ResourcesReadyTrigger) -> asyncio.Task[Any]:
        """Start a trigger. The task returns the payload of its event."""
        task = asyncio.create_task(_first(trigger))
        self.tasks.append(task)
        return task

    async def event(self, trigger: ResourcesReadyTrigger) -> Any:
        """Run a trigger, and return the payload of its event."""
        return await self.start(trigger)

    def watch(self, states: States | None = None, **arguments: Any) -> Watcher:
        """Start a watcher, by default of a scope."""
        watcher = Watcher(states, arguments)
        self.tasks.append(watcher.task)
        return watcher

    async def stop(self) -> None:
        """Cancel the triggers that are still running."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def _first(trigger: ResourcesReadyTrigger) -> Any:
    events = aiter(trigger.run())
    try:
        return (await anext(events)).payload
    finally:
        await events.aclose()  # type: ignore[attr-defined]


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that another thread or task fulfills."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def polled(account: Account, times: int = 1) -> None:
    """Wait until a feed has delivered polls that began after this call."""
    # One poll may be in progress. The request of the next one shows that a poll was delivered.
    expected = account.polls + times + 1
    await until(lambda: account.polls >= expected)


class States:
    """The state of assets, as Airflow 3.3 and later pass it to a trigger. It outlives triggers.

    :ivar values: what is stored, by asset and key.
    :ivar calls: the calls for announced builds that succeeded or failed: ``get``, ``set`` or ``failed``.
    :ivar is_down: whether all calls fail.
    :ivar may_write: lets writes end.
    :ivar read_only: the names of assets whose state cannot be written.
    """

    def __init__(self, *assets: str) -> None:
        self.values: dict[str, dict[str, Any]] = {name: {} for name in assets}
        self.calls: list[str] = []
        self.is_down = False
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.read_only: set[str] = set()

    @property
    def accessors(self) -> Any:
        """The value that Airflow sets as ``asset_state_store`` of a trigger."""
        named = {name: _State(self, name) for name in self.values}
        return type("Accessors", (), {"_by_name": named, "_by_uri": {}})()

    def builds(self, asset: str) -> dict[str, str]:
        """Return the dates of the recorded builds by dataset id."""
        marks = next((value for key, value in self.values[asset].items() if key.endswith(".0")), {})
        return {id_: mark["built"][:10] for id_, mark in marks.items()}

    @property
    def problem(self) -> str:
        """The reported problem of the first asset."""
        values = next(iter(self.values.values()))
        return next((value for key, value in values.items() if key.endswith(".problem")), "")


class _State:
    """The state of one asset."""

    def __init__(self, states: States, name: str) -> None:
        self._states = states
        self._name = name
        self._values = states.values[name]

    async def aget(self, key: str, default: Any = None) -> Any:
        self._call("get", key)
        return self._values.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        await self._states.may_write.wait()
        self._call("set", key)
        self._values[key] = value

    async def adelete(self, key: str) -> None:
        self._call("delete", key)
        self._values.pop(key, None)

    def _call(self, name: str, key: str) -> None:
        fails = self._states.is_down or (name != "get" and self._name in self._states.read_only)
        if key.endswith(".0"):
            self._states.calls.append("failed" if fails else name)
        if fails:
            raise ConnectionError("the API server is away")
