"""Watchers by id keep their marks while Faraday does not return their resources."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_faraday.triggers.resources import ResourceUpdatedTrigger
from support.accounts import Account, id_of
from support.asset_state import AssetState
from support.graphs import node

Serve = Callable[[Account], Account]

pytestmark = pytest.mark.skipif(airflow_version.startswith("2."), reason="Airflow 2 has no asset watchers")

ORDERS, RETURNS = id_of(13, 1), id_of(13, 2)
SECOND = "2026-01-03T00:00:00Z"


class Watcher:
    """A running watcher of two datasets, and the builds that it has announced."""

    def __init__(self, state: AssetState) -> None:
        trigger = ResourceUpdatedTrigger(
            resource_type="datasets", resource_ids=[ORDERS, RETURNS], poke_interval=0.03
        )
        trigger.asset_state_store = state.accessors
        self.builds: list[tuple[str, str]] = []
        self._task = asyncio.create_task(self._run(trigger))

    async def _run(self, trigger: ResourceUpdatedTrigger) -> None:
        async for event in trigger.run():
            self.builds.append((event.payload["id"], event.payload["last_updated_output_at"]))

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def polls(account: Account, number: int) -> None:
    """Wait until so many further polls have been processed."""
    seen = account.polls
    while account.polls < seen + number:  # noqa: ASYNC110  the account is in another thread
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.03)


async def recorded(state: AssetState) -> None:
    while not any(ORDERS in value for value in state.values.values()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 15))


@pytest.mark.parametrize("returned", ["nothing", "the other one"])
def test_a_build_after_a_time_with_another_accounts_key_is_announced_after_a_restart(
    serve: Serve, returned: str
) -> None:
    orders, others = node(ORDERS, "datasets", "Orders"), [node(RETURNS, "datasets", "Returns")]
    account = serve(Account(orders, *others, waited="datasets"))
    state = AssetState()

    async def test() -> None:
        watcher = Watcher(state)
        await recorded(state)
        account.resources = [] if returned == "nothing" else others
        await polls(account, 3)
        await watcher.stop()
        account.resources = [orders, *others]
        orders["last_updated_output_at"] = SECOND
        again = Watcher(state)
        await polls(account, 3)
        assert watcher.builds == []
        assert again.builds == [(ORDERS, SECOND)]
        await again.stop()

    run(test)


def test_an_announced_build_is_not_repeated_after_a_time_with_another_accounts_key(
    serve: Serve,
) -> None:
    orders = node(ORDERS, "datasets", "Orders")
    account = serve(Account(orders, waited="datasets"))
    state = AssetState()

    async def test() -> None:
        watcher = Watcher(state)
        await recorded(state)
        account.resources = []
        await polls(account, 3)
        await watcher.stop()
        account.resources = [orders]
        again = Watcher(state)
        await polls(account, 3)
        assert again.builds == []
        await again.stop()

    run(test)


def test_a_dataset_that_disappears_and_returns_is_announced_once_per_build(serve: Serve) -> None:
    orders = node(ORDERS, "datasets", "Orders")
    account = serve(Account(orders, waited="datasets"))

    async def test() -> None:
        watcher = Watcher(AssetState())
        await polls(account, 2)
        account.resources = []
        await polls(account, 2)
        account.resources = [orders]
        await polls(account, 2)
        orders["last_updated_output_at"] = SECOND
        await polls(account, 3)
        assert watcher.builds == [(ORDERS, SECOND)]
        await watcher.stop()

    run(test)
