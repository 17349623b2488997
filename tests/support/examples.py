"""The examples in a deployment: held at their gates by a Faraday that is building, then finished."""

from __future__ import annotations

import json
import secrets
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import local_airflow
import source_tables
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.webhooks import EndpointSpec
from support.ids import CUSTOMERS, ORDERS, WAREHOUSE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cluster import Cluster

EXAMPLES = Path(__file__).parents[2] / "example_dags"
# Faraday's builds start these; a test starts the others.
ON_UPDATE, ON_PREDICTIONS = "faraday_on_update", "faraday_on_predictions"
STARTED = sorted({path.stem for path in EXAMPLES.glob("*.py")} - {ON_UPDATE, ON_PREDICTIONS})
# The states in which each example's gate waits; one is mapped over the two datasets of its scope.
WAITING = {
    ("faraday_connection_to_warehouse", "wait_until_ready", -1): {"deferred"},
    ("faraday_list_into_sensor", "wait_until_ready", -1): {
        "up_for_reschedule",
        "scheduled",
        "queued",
        "running",
    },
    ("faraday_predictions_to_warehouse", "wait_for_predictions", -1): {"deferred"},
    ("faraday_mapped_datasets", "wait_until_ready", 0): {"deferred"},
    ("faraday_mapped_datasets", "wait_until_ready", 1): {"deferred"},
    ("faraday_refresh_and_wait", "wait_for_that_build", -1): {"deferred"},
    ("faraday_scope_gate", "wait_until_ready", -1): {"deferred"},
}
# What the sensors poll. Resources that the graph does not have are requested only once.
POLLED = [
    f"/v1/connections/{WAREHOUSE}/datasets",
    *(f"/v1/{name}" for name in ("datasets", "scopes", "targets", "graph")),
]


@contextmanager
def building_faraday() -> Iterator[Sandbox]:
    """Run a Faraday whose builds run until :func:`finish_builds`."""
    # Nothing else takes this port while Faraday is down.
    with Sandbox(api_key=f"key-{secrets.token_hex(16)}", port=local_airflow.free_port()) as sandbox:
        for dataset in sandbox.datasets():
            if dataset["archived_at"] is None:
                sandbox.set_dataset(dataset["id"], rebuild=True, sandbox={"starting": 0.1, "running": 3600})
        yield sandbox


def finish_builds(faraday: Sandbox) -> None:
    """Finish all builds now, and slow down later ones for the sake of Airflow's scheduler.

    A busy scheduler fails a task that resumes before the scheduler has seen it defer.
    """
    for dataset in faraday.datasets():
        if dataset["status"] == "running":
            faraday.set_dataset(dataset["id"], status="ready", sandbox={"running": 12})


def prepare(airflow: Cluster, faraday: Sandbox, warehouse: Path) -> str:
    """Fill the warehouse, and connect Airflow with it and with Faraday. Return the secret of the webhooks."""
    url = f"{airflow.api.url}/faraday/webhooks/faraday_default"
    endpoint = faraday.webhooks.create(EndpointSpec(url=url, enabled_events=["resource.ready_with_update"]))
    connections = {
        "faraday_default": {
            "conn_type": "faraday",
            "host": faraday.url,
            "password": faraday.api_key,
            "extra": json.dumps({"webhook_secret": endpoint["secret"]}),
        },
        "warehouse_default": {"conn_type": "sqlite", "host": str(warehouse)},
    }
    local_airflow.store_connections(airflow.env, connections)
    source_tables.fill(faraday, warehouse)
    airflow.env["AIRFLOW_VAR_FARADAY_FILES"] = f"file://{warehouse.parent}/files"
    return str(endpoint["secret"])


def start_runs(airflow: Cluster, *dag_ids: str) -> None:
    """Start a run of each of these DAGs."""
    for dag_id in dag_ids:
        airflow.api.post(f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None})


def all_wait(airflow: Cluster) -> bool:
    """Return whether each example waits at its gate."""
    states = {
        (task["dag_id"], task["task_id"], task["map_index"]): task["state"]
        for task in airflow.api.task_instances()
    }
    return all(states.get(gate) in waiting for gate, waiting in WAITING.items())


def run_states(airflow: Cluster) -> set[str]:
    """Return the states that runs are in."""
    return {state for (state,) in airflow.query("SELECT DISTINCT state FROM dag_run")}


def polls(faraday: Sandbox) -> int:
    """Return the number of successful requests for the polled list that got the fewest."""
    paths = [request["path"] for request in faraday.requests() if request["status"] == 200]
    return min(map(paths.count, POLLED))


def builds(faraday: Sandbox) -> list[str]:
    """Return the time of each build of the watched dataset."""
    return [move["at"] for move in faraday.history() if (move["id"], move["status"]) == (CUSTOMERS, "ready")]


def assert_each_ran_once(airflow: Cluster, faraday: Sandbox, warehouse: Path) -> None:
    """Assert that every task ran once, and that nothing happened twice in Faraday or in the warehouse."""
    runs = [dag_id for (dag_id,) in airflow.query("SELECT dag_id FROM dag_run ORDER BY dag_id")]
    assert [dag_id for dag_id in runs if dag_id in STARTED] == STARTED
    assert {(each["state"], each["try_number"]) for each in airflow.api.task_instances()} == {("success", 1)}
    posted = sorted(request["path"] for request in faraday.requests() if request["method"] == "POST")
    assert posted == [f"/v1/datasets/{id_}/force_update" for id_ in (CUSTOMERS, ORDERS)]
    with closing(sqlite3.connect(warehouse)) as database:
        tables = ("new_orders", "builds", "loaded_store_visits")
        counts = {name: database.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in tables}
    assert counts == {"new_orders": 1, "builds": 1, "loaded_store_visits": 2310}
