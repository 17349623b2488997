"""Run triggers together in one event loop, as a triggerer does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from airflow_provider_faraday.triggers.resources import ResourcesReadyTrigger


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


class Waiting:
    """Triggers that were started, and their events."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    def start(self, trigger: ResourcesReadyTrigger) -> asyncio.Task[Any]:
        """Start a trigger; the task returns the payload of its event."""
        task = asyncio.create_task(_first(trigger))
        self.tasks.append(task)
        return task

    async def event(self, trigger: ResourcesReadyTrigger, seconds: float = 5.0) -> Any:
        """Run a trigger, and return the payload of its event."""
        return await asyncio.wait_for(asyncio.shield(self.start(trigger)), seconds)


@asynccontextmanager
async def triggerer() -> AsyncIterator[Waiting]:
    """Start triggers, and cancel those that are still running at the end."""
    waiting = Waiting()
    try:
        yield waiting
    finally:
        for task in waiting.tasks:
            task.cancel()
        await asyncio.gather(*waiting.tasks, return_exceptions=True)


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for a condition that another thread or task fulfills."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def run(test: Callable[[], Awaitable[None]], seconds: float = 30.0) -> None:
    """Run a test in an event loop of its own."""
    asyncio.run(asyncio.wait_for(test(), seconds))


async def _first(trigger: ResourcesReadyTrigger) -> Any:
    events = aiter(trigger.run())
    try:
        return (await anext(events)).payload
    finally:
        await events.aclose()  # type: ignore[attr-defined]
