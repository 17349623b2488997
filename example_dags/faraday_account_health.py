"""Report failed resources, stale resources and due rebuilds of the whole account.

One request, `GET /graph`, returns the state of each resource that has upstream or downstream resources. The
task fails if it finds a problem that `fail_on` lists. Give the DAG a schedule, such as `@daily`.

Requires the Airflow connection `faraday_default` (type Faraday).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Param, task

from airflow_provider_faraday.hooks.faraday import FaradayHook

with DAG(
    dag_id="faraday_account_health",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    params={
        "fail_on": Param(
            [],
            type="array",
            items={"enum": ["in error", "stale", "about to be rebuilt"]},
            description="The task fails if it finds these: in error, stale, about to be rebuilt.",
        ),
        "stale_after_days": Param(7, type="integer", minimum=1),
    },
    tags=["faraday", "example"],
):

    @task(execution_timeout=timedelta(minutes=10))
    def report(params: dict[str, Any]) -> dict[str, list[str]]:
        """Return the names of resources by problem."""
        resources = {
            edge[f"{end}_id"]: {name.removeprefix(f"{end}_"): value for name, value in edge.items()}
            for edge in FaradayHook().get_graph()
            for end in ("upstream", "downstream")
        }
        oldest = datetime.now(UTC) - timedelta(days=params["stale_after_days"])
        found: dict[str, list[str]] = {"in error": [], "stale": [], "about to be rebuilt": []}
        for resource in resources.values():
            built_at = resource.get("last_updated_output_at")
            configured_at = resource.get("last_updated_config_at")
            if resource.get("archived_at"):
                continue
            name = f"{resource['type']} {resource['literate']}"
            if resource["status"] == "error":
                found["in error"].append(f"{name}: {resource.get('status_error')}")
            elif built_at and configured_at and configured_at > built_at:
                found["about to be rebuilt"].append(name)
            elif built_at and datetime.fromisoformat(built_at) < oldest:
                found["stale"].append(f"{name}: last built at {built_at}")
        for what, names in found.items():
            print(f"{len(names)} {what}", *names, sep="\n  ")
        if failing := [what for what in params["fail_on"] if found[what]]:
            raise AirflowFailException(f"Faraday has resources that are {', '.join(failing)}: see the log.")
        return found

    report()
