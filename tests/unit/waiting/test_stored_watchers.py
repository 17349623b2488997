"""Stored watchers: Airflow must take them for the same as new ones, and they keep their marks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger
from airflow_provider_faraday.triggers.resources import ResourceUpdatedTrigger
from support.accounts import Account
from support.asset_state import AssetState
from support.graphs import node
from support.ids import CUSTOMERS, ORDERS, SCOPE

pytestmark = pytest.mark.skipif(airflow_version.startswith("2."), reason="Airflow 2 has no asset watchers")

BY_SCOPE = {
    "resource_type": "datasets",
    "connection_id": None,
    "scope_id": SCOPE,
    "resource_ids": None,
    "on_error": False,
    "emit_initial": False,
    "poke_interval": 60.0,
    "faraday_conn_id": "faraday_default",
}
BY_ID = {**BY_SCOPE, "scope_id": None, "resource_ids": [ORDERS, CUSTOMERS], "on_error": True}


@pytest.mark.parametrize("stored", [BY_SCOPE, BY_ID])
def test_stored_arguments_make_the_same_watcher(stored: dict[str, Any]) -> None:
    """Airflow identifies a watcher by its class and these arguments."""
    path, arguments = ResourceUpdatedTrigger(**stored).serialize()
    assert path == "airflow_provider_faraday.triggers.resources.ResourceUpdatedTrigger"
    assert arguments == stored


def test_a_watcher_of_datasets_is_stored_as_one_of_resources() -> None:
    watcher = DatasetUpdatedTrigger(scope_id=SCOPE)
    assert watcher.serialize() == ResourceUpdatedTrigger(**BY_SCOPE).serialize()


@pytest.mark.parametrize(("stored", "key"), [(BY_SCOPE, "e0ed0e38c21f"), (BY_ID, "b55476cf6454")])
def test_stored_watchers_keep_the_key_of_their_marks(
    serve: Callable[[Account], Account], stored: dict[str, Any], key: str
) -> None:
    built = node(ORDERS, "datasets", last_updated_output_at="2026-02-01T00:00:00Z")
    serve(Account(built, waited="datasets"))
    state = AssetState()
    state.values[f"airflow-provider-faraday.{key}.0"] = {
        ORDERS: {"built": "2026-01-01T00:00:00Z", "failed": None}
    }
    trigger = ResourceUpdatedTrigger(**stored)
    trigger.asset_state_store = state.accessors

    async def first() -> Any:
        return (await anext(trigger.run())).payload

    payload = asyncio.run(asyncio.wait_for(first(), 10))
    # The build since the stored mark. Without the mark, it would be the initial state, which is no event.
    assert payload["last_updated_output_at"] == "2026-02-01T00:00:00Z"
