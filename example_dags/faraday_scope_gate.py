"""Wait until a scope and everything upstream of it are ready, then use the scope in a TaskFlow task.

The sensor succeeds when Faraday has computed the predictions. The scope's targets deliver them: to use a
delivered file or table, wait with a `TargetsReadySensor` instead. Without `include_upstream`, the sensor
would also succeed while the datasets of the scope are being rebuilt.

Requires the Airflow connection `faraday_default` (type Faraday).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_faraday.sensors.scopes import ScopesReadySensor

with DAG(
    dag_id="faraday_scope_gate",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    params={
        "scope_id": Param(
            "50000000-0000-4000-8000-000000000001",
            type="string",
            format="uuid",
            description="The Faraday scope to wait for.",
        ),
    },
    tags=["faraday", "example"],
):
    wait_until_ready = ScopesReadySensor(
        task_id="wait_until_ready",
        scopes=["{{ params.scope_id }}"],
        include_upstream=True,
        fields=["id", "name", "population_count", "last_updated_output_at"],
        # The sandbox builds in seconds. For Faraday, 60 is enough.
        poke_interval=2,
        timeout=timedelta(hours=6).total_seconds(),
        # Frees the worker slot. Deferred sensors that wait for the same list share one request per interval.
        deferrable=True,
    )

    @task(execution_timeout=timedelta(minutes=10))
    def summarize(scopes: list[dict[str, Any]]) -> dict[str, int]:
        """Return the number of people in each scope. Replace this with tasks that use the predictions."""
        return {scope["name"]: scope["population_count"] for scope in scopes}

    summarize(wait_until_ready.output)
