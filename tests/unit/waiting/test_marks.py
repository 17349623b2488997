"""Marks of a watcher: when they are recorded."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from airflow_provider_faraday.api.updates import Mark, Updates
from airflow_provider_faraday.waiting.marks import AssetStates, MarkStore

DATASET = "d0000000-0000-4000-8000-000000000001"


class SlowState:
    """The state store of an asset, which writes when it is told to."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] = {}
        self.writing: asyncio.Future[None] | None = None

    async def aget(self, key: str) -> Any:
        return self.stored.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.writing = asyncio.get_running_loop().create_future()
        await self.writing
        self.stored[key] = value

    async def write(self) -> None:
        while self.writing is None:  # noqa: ASYNC110 (it happens in another task)
            await asyncio.sleep(0)
        self.writing.set_result(None)
        self.writing = None


def test_what_is_announced_while_a_record_ends_is_recorded_too() -> None:
    async def test() -> None:
        state = SlowState()
        store = MarkStore(AssetStates({"asset": state}, {}, logging.getLogger(__name__)), None)
        await store.load()

        def announce(built: str) -> None:
            store.announce(Updates([], {DATASET: Mark(built=built, failed=None)}))

        announce("2026-01-01T00:00:00Z")
        await state.write()
        # Runs in the turn of the event loop in which the first record ends.
        asyncio.get_running_loop().call_soon(announce, "2026-01-02T00:00:00Z")
        await asyncio.wait_for(state.write(), 5)
        await asyncio.sleep(0.01)
        (stored,) = state.stored.values()
        assert stored[DATASET]["built"] == "2026-01-02T00:00:00Z"

    asyncio.run(test())
