"""The examples in a real ``airflow standalone`` whose triggerer is killed and whose Faraday has an outage."""

from __future__ import annotations

import re
import secrets
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from cryptography.fernet import Fernet

import local_airflow
import source_tables
from airflow_provider_faraday.sandbox import Sandbox
from support.cluster import cluster
from support.ids import CUSTOMERS, ORDERS, WAREHOUSE
from support.run_dag import AIRFLOW_3_3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local_airflow import Api
    from support.cluster import Cluster

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not AIRFLOW_3_3, reason="Each earlier Airflow starts its processes differently."),
    pytest.mark.timeout(600),
]

EXAMPLES = Path(__file__).parents[2] / "example_dags"
# Faraday's builds start these; the test starts the others.
ON_UPDATE, ON_PREDICTIONS = "faraday_on_update", "faraday_on_predictions"
STARTED = sorted({path.stem for path in EXAMPLES.glob("*.py")} - {ON_UPDATE, ON_PREDICTIONS})
OUTAGE_SECONDS = 60
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
# What the sensors poll. What the graph does not say is requested only once.
POLLED = [
    f"/v1/connections/{WAREHOUSE}/datasets",
    *(f"/v1/{name}" for name in ("datasets", "scopes", "targets", "graph")),
]


@pytest.fixture
def faraday() -> Iterator[Sandbox]:
    """Return a Faraday whose builds run until :func:`finish_builds`."""
    with Sandbox(api_key=f"key-{secrets.token_hex(16)}") as sandbox:
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


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.db"


@pytest.fixture
def airflow(another_airflow_home: Path, faraday: Sandbox, warehouse: Path) -> Iterator[Cluster]:
    with cluster(another_airflow_home, EXAMPLES) as created:
        connections = {
            "faraday_default": {"conn_type": "faraday", "host": faraday.url, "password": faraday.api_key},
            "warehouse_default": {"conn_type": "sqlite", "host": str(warehouse)},
        }
        local_airflow.store_connections(created.env, connections)
        source_tables.fill(faraday, warehouse)
        created.env["AIRFLOW_VAR_FARADAY_FILES"] = f"file://{warehouse.parent}/files"
        yield created


def test_every_run_succeeds_once_despite_a_killed_triggerer_and_an_outage(
    airflow: Cluster, faraday: Sandbox, warehouse: Path
) -> None:
    assert faraday.api_key not in repr(airflow.env)
    sql = "SELECT password FROM connection WHERE conn_id = 'faraday_default'"
    [(stored,)] = airflow.query(sql)
    fernet = Fernet(airflow.env["AIRFLOW__CORE__FERNET_KEY"])
    assert fernet.decrypt(stored).decode() == faraday.api_key

    airflow.start("standalone")
    airflow.until(airflow.api.is_healthy, 120, "Airflow is healthy")
    airflow.until(
        lambda: dags(airflow.api) == {*STARTED, ON_UPDATE, ON_PREDICTIONS}, 60, "the examples are loaded"
    )
    watched = "SELECT count(DISTINCT asset_id) FROM asset_state_store"
    airflow.until(lambda: airflow.query(watched) == [(2,)], 60, "customers and a target are watched")
    for dag_id in STARTED:
        airflow.api.post(f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None})
    airflow.until(lambda: all_wait(airflow), 120, "every gate waits")

    # The triggerer is killed and replaced.
    kill_triggerer(airflow)
    faraday.clear_requests()
    assert all_wait(airflow)
    airflow.start("triggerer", "-s")
    airflow.until(lambda: polls(faraday) > 3, 60, "the new triggerer polls")
    assert all_wait(airflow)

    # Faraday is down for a minute. Meanwhile, no page of Airflow's API shows the key.
    faraday.stop()
    back_at = time.monotonic() + OUTAGE_SECONDS
    tested = press_test(airflow.api)
    assert tested["status"] is False
    pages = {"/api/v2/connections/test": str(tested), **all_pages(airflow.api)}
    assert [path for path, text in pages.items() if faraday.api_key in text] == []
    time.sleep(max(0.0, back_at - time.monotonic()))
    assert all_wait(airflow)
    faraday.clear_requests()
    faraday.start()
    airflow.until(lambda: polls(faraday) > 3, 60, "polling continues after the outage")
    assert all_wait(airflow)

    finish_builds(faraday)
    airflow.until(lambda: run_states(airflow) == {"success"}, 180, "all runs succeed")
    airflow.until(lambda: announced(airflow.api) == builds(faraday), 60, "each build is announced")
    airflow.until(lambda: run_states(airflow) == {"success"}, 60, "all runs succeed")

    # Every task ran once, and nothing happened twice in Faraday or in the warehouse.
    others = f"('{ON_UPDATE}', '{ON_PREDICTIONS}')"
    runs = airflow.query(f"SELECT dag_id FROM dag_run WHERE dag_id NOT IN {others} ORDER BY dag_id")
    assert runs == [(dag_id,) for dag_id in STARTED]
    assert airflow.query("SELECT DISTINCT state, try_number FROM task_instance") == [("success", 1)]
    assert airflow.query("SELECT * FROM task_instance_history") == []
    posted = sorted(request["path"] for request in faraday.requests() if request["method"] == "POST")
    assert posted == [f"/v1/datasets/{id_}/force_update" for id_ in (CUSTOMERS, ORDERS)]
    with closing(sqlite3.connect(warehouse)) as database:
        tables = ("new_orders", "builds", "loaded_store_visits")
        counts = {name: database.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in tables}
    assert counts == {"new_orders": 1, "builds": 1, "loaded_store_visits": 2310}

    # The key is stored encrypted in the Airflow connection, and nowhere else.
    airflow.assert_stored_nowhere(faraday.api_key)
    assert airflow.query(sql) == [(stored,)]
    assert press_test(airflow.api)["status"] is True
    pages = all_pages(airflow.api)
    assert [path for path, text in pages.items() if faraday.api_key in text] == []
    found = {path.partition("?")[0] for path, text in pages.items() if text.startswith("200 ")}
    for end in ("/connections/faraday_default", "/logs/1", "/xcomEntries/return_value", "/assets/events"):
        assert any(path.endswith(end) for path in found)


def dags(api: Api) -> set[str]:
    return {dag["dag_id"] for dag in api.get("/api/v2/dags").json()["dags"]}


def all_wait(airflow: Cluster) -> bool:
    tasks = airflow.query("SELECT dag_id, task_id, map_index, state FROM task_instance")
    states = {(dag_id, task_id, map_index): state for dag_id, task_id, map_index, state in tasks}
    return all(states.get(gate) in waiting for gate, waiting in WAITING.items())


def run_states(airflow: Cluster) -> set[str]:
    return {state for (state,) in airflow.query("SELECT state FROM dag_run")}


def polls(faraday: Sandbox) -> int:
    """Return the number of successful requests for the polled list that got the fewest."""
    paths = [request["path"] for request in faraday.requests() if request["status"] == 200]
    return min(map(paths.count, POLLED))


def kill_triggerer(airflow: Cluster) -> None:
    children = psutil.Process(airflow.running["standalone"].pid).children()
    [triggerer] = [child for child in children if "triggerer" in child.cmdline()]
    killed = [triggerer, *triggerer.children(recursive=True)]
    for process in killed:
        process.send_signal(signal.SIGKILL)
    airflow.until(lambda: not any(map(local_airflow.is_alive, killed)), 10, "the triggerer has exited")


def builds(faraday: Sandbox) -> list[str]:
    """Return the time of each build of the watched dataset."""
    return [move["at"] for move in faraday.history() if (move["id"], move["status"]) == (CUSTOMERS, "ready")]


def announced(api: Api) -> list[str]:
    """Return the time of each build that the runs of the watching DAG received, without duplicates."""
    entries = api.get(f"/api/v2/dags/{ON_UPDATE}/dagRuns/~/taskInstances/~/xcomEntries").json()[
        "xcom_entries"
    ]
    return sorted(
        {
            build["last_updated_output_at"]
            for entry in entries
            if entry["key"] == "return_value"
            for build in api.get(
                f"/api/v2/dags/{ON_UPDATE}/dagRuns/{entry['run_id']}/taskInstances/{entry['task_id']}"
                "/xcomEntries/return_value"
            ).json()["value"]
        }
    )


def press_test(api: Api) -> dict[str, Any]:
    """Send what the Test button of the stored Airflow connection sends."""
    stored = api.get("/api/v2/connections/faraday_default").json()
    fields = {name: stored[name] for name in ("connection_id", "conn_type", "host", "password")}
    return api.post("/api/v2/connections/test", fields).json()


# The lists whose items have their own pages: for each path parameter of those, the field of the item.
LISTS = {
    "/api/v2/connections": {"connection_id": "connection_id"},
    "/api/v2/assets": {"asset_id": "id"},
    "/api/v2/eventLogs": {"event_log_id": "event_log_id"},
    "/api/v2/dags": {"dag_id": "dag_id"},
    "/api/v2/dags/~/dagRuns": {"dag_id": "dag_id", "dag_run_id": "dag_run_id", "run_id": "dag_run_id"},
    "/api/v2/dags/~/dagRuns/~/taskInstances": {
        "dag_id": "dag_id",
        "dag_run_id": "dag_run_id",
        "task_id": "task_id",
        "map_index": "map_index",
        "task_try_number": "try_number",
        "try_number": "try_number",
    },
    "/api/v2/dags/~/dagRuns/~/taskInstances/~/xcomEntries": {
        "dag_id": "dag_id",
        "dag_run_id": "run_id",
        "task_id": "task_id",
        "xcom_key": "key",
        "map_index": "map_index",
    },
}


def all_pages(api: Api) -> dict[str, str]:
    """Return the response to every GET of Airflow's OpenAPI schema, by path."""
    known = []
    for path, parameters in LISTS.items():
        items = next(value for value in api.get(path, limit=100).json().values() if isinstance(value, list))
        known += [{name: str(item[field]) for name, field in parameters.items()} for item in items]
    paths = set()
    for template, methods in api.get("/openapi.json").json()["paths"].items():
        needed = set(re.findall(r"{(\w+)}", template))
        # One of the pages below /auth logs out.
        if "get" in methods and not template.startswith("/api/v2/auth/"):
            for each in ({}, *known):
                if needed <= each.keys():
                    query = f"map_index={each['map_index']}" if "task_id" in needed else "limit=100"
                    paths.add(f"{template.format(**each)}?{query}")
    return {path: api.text(path) for path in sorted(paths)}
