"""Run seconds after Faraday has delivered new predictions. Requires Airflow 3.0 or later.

The asset represents a target. If Faraday sends webhooks to this Airflow, each build creates an asset event
immediately. The watcher polls every 15 minutes, and announces builds whose webhook was lost. Without
webhooks, use a shorter `watch_every`.

Requires the Airflow connection `faraday_default` (type Faraday).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_faraday.assets.resources import resource_asset

LIKELY_BUYERS = resource_asset(
    "targets",
    "70000000-0000-4000-8000-000000000001",
    name="likely buyers (Faraday)",
    watch_every=timedelta(minutes=15).total_seconds(),
)

with DAG(
    dag_id="faraday_on_predictions",
    doc_md=__doc__,
    schedule=[LIKELY_BUYERS],
    catchup=False,
    tags=["faraday", "example"],
):

    @task(execution_timeout=timedelta(minutes=10))
    def show_builds(triggering_asset_events: Any) -> list[dict[str, Any]]:
        """Return the builds that started this run. Replace this with tasks that use the predictions."""
        builds = [event.extra["payload"] for event in triggering_asset_events[LIKELY_BUYERS]]
        for build in builds:
            print(f"{build['name']}: {build['count']} people, delivered at {build['last_updated_output_at']}")
        return builds

    show_builds()
