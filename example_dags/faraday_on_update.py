"""Run when Faraday has rebuilt a dataset. Requires Airflow 3.0 or later.

The asset represents the dataset. Its watcher polls Faraday in the triggerer. Up to 100 assets of datasets
with the same `watch_every` share one request per interval. Each build creates an asset event with its time
and row count, and the event starts this DAG. Airflow may start one run for several events.

Requires the Airflow connection `faraday_default` (type Faraday).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_faraday.assets.datasets import dataset_asset

# The sandbox builds in seconds. For Faraday, 60 is enough. Define a watched asset in one module and import it
# elsewhere: if another DAG file defines it without the watcher, Airflow removes the watcher.
CUSTOMERS = dataset_asset("d0000000-0000-4000-8000-000000000001", name="customers (Faraday)", watch_every=2)

with DAG(
    dag_id="faraday_on_update",
    doc_md=__doc__,
    schedule=[CUSTOMERS],
    catchup=False,
    tags=["faraday", "example"],
):

    @task(execution_timeout=timedelta(minutes=10))
    def show_builds(triggering_asset_events: Any) -> list[dict[str, Any]]:
        """Return the builds that started this run. Replace this with tasks that use the new data."""
        builds = [event.extra["payload"] for event in triggering_asset_events[CUSTOMERS]]
        for build in builds:
            print(f"{build['name']}: {build['row_count']} rows, built at {build['last_updated_output_at']}")
        return builds

    show_builds()
