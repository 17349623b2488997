"""Builds of datasets in a sandbox, and what an Airflow deployment that watches them was told."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox
    from support.cluster import Cluster

DAG_PER_ASSET = """
from airflow.sdk import DAG, task

for name, asset in ASSETS.items():
    with DAG(f"on_{name}", schedule=[asset], catchup=False):

        @task
        def updates(triggering_asset_events):
            return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]

        updates()
"""
"""The rest of a DAG file that defines ``ASSETS``: for each, a DAG whose runs return the payloads."""


def events(airflow: Cluster) -> list[tuple[str, str]]:
    """Return the asset events so far: the asset's name and the build's time of each."""
    found = airflow.api.items("/api/v2/assets/events", "asset_events", order_by="timestamp")
    payloads = [(event["name"], event["extra"].get("payload")) for event in found]
    # The events of outlets have none.
    return sorted((name, payload["last_updated_output_at"]) for name, payload in payloads if payload)


def received(airflow: Cluster, dag_id: str) -> list[str]:
    """Return the times of the builds that the runs of a DAG received, in the order of the builds."""
    payloads = [payload for _, value in airflow.api.returned(dag_id) for payload in value]
    times = {payload["last_updated_output_at"] for payload in payloads}
    return sorted(times, key=datetime.fromisoformat)


def rebuild(faraday: Sandbox, id_: str) -> str:
    """Rebuild a dataset and return the time of the build."""
    before = faraday.dataset(id_)["last_updated_output_at"]
    faraday.force_update(id_)
    deadline = time.monotonic() + 30
    while (built := faraday.dataset(id_))["status"] != "ready" or built["last_updated_output_at"] == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return built["last_updated_output_at"]
