"""Start by itself whenever Faraday has rebuilt a dataset; no DAG polls. Needs Airflow 3.0 or newer.

The asset stands for the dataset, and its watcher polls in the triggerer: one request per interval, however
many assets are watched with the same interval. Each build is one event of the asset, with the build's time
and row count, and starts this DAG. Airflow may start it once for several events.

Needs the Airflow connection `faraday_default` (type Faraday).
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_faraday.assets.datasets import dataset_asset

# The sandbox builds in seconds; for Faraday, once a minute is plenty. Keep an asset that is watched in one
# module, and import it wherever else it is named: Airflow takes a watcher away that another file leaves out.
CUSTOMERS = dataset_asset("d0000000-0000-4000-8000-000000000001", name="customers (Faraday)", watch_every=2)

with DAG(
    dag_id="faraday_on_update",
    doc_md=__doc__,
    schedule=[CUSTOMERS],
    catchup=False,
    tags=["faraday", "example"],
):

    @task
    def show_builds(triggering_asset_events: Any) -> list[dict[str, Any]]:
        """Give the builds that started this run; the place of whatever needs the new data."""
        builds = [event.extra["payload"] for event in triggering_asset_events[CUSTOMERS]]
        for build in builds:
            print(f"{build['name']}: {build['row_count']} rows, built {build['last_updated_output_at']}")
        return builds

    show_builds()
