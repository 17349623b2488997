"""Run a test of feeds in an event loop, and check that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from airflow_provider_faraday.waiting import account


@asynccontextmanager
async def nothing_left_behind() -> AsyncIterator[None]:
    """Check that a block ends with the tasks, feeds and sockets that it started with."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert not account._accounts.get(asyncio.get_running_loop())
    gc.collect()  # an unclosed session warns when it is collected, which pytest turns into a failure


def run(test: Callable[[], Any]) -> None:
    """Run a test in an event loop of its own."""

    async def checked() -> None:
        async with nothing_left_behind():
            await test()

    asyncio.run(asyncio.wait_for(checked(), 20))
