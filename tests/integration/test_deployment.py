"""The examples in a real ``airflow standalone`` whose triggerer is killed and whose Faraday has an outage."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from cryptography.fernet import Fernet

import local_airflow
from support.cluster import cluster
from support.examples import (
    EXAMPLES,
    ON_PREDICTIONS,
    ON_UPDATE,
    STARTED,
    all_wait,
    announced,
    assert_each_ran_once,
    building_faraday,
    builds,
    finish_builds,
    polls,
    prepare,
    run_states,
    start_runs,
)
from support.run_dag import AIRFLOW_3_3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_faraday.sandbox import Sandbox
    from support.airflow_api import Api
    from support.cluster import Cluster

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not AIRFLOW_3_3, reason="Each earlier Airflow starts its processes differently."),
    pytest.mark.timeout(600),
]

OUTAGE_SECONDS = 60


@pytest.fixture
def faraday() -> Iterator[Sandbox]:
    with building_faraday() as sandbox:
        yield sandbox


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.db"


@pytest.fixture
def airflow(another_airflow_home: Path, faraday: Sandbox, warehouse: Path) -> Iterator[Cluster]:
    with cluster(another_airflow_home, EXAMPLES) as created:
        prepare(created, faraday, warehouse)
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
    start_runs(airflow)
    airflow.until(lambda: all_wait(airflow), 120, "every gate waits")

    # The triggerer is killed and replaced.
    kill_triggerer(airflow)
    faraday.clear_requests()
    assert all_wait(airflow)
    airflow.start("triggerer")
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

    assert_each_ran_once(airflow, faraday, warehouse)

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


def kill_triggerer(airflow: Cluster) -> None:
    children = psutil.Process(airflow.running["standalone"].pid).children()
    [triggerer] = [child for child in children if "triggerer" in child.cmdline()]
    killed = [triggerer, *triggerer.children(recursive=True)]
    for process in killed:
        process.send_signal(signal.SIGKILL)
    airflow.until(lambda: not any(map(local_airflow.is_alive, killed)), 10, "the triggerer has exited")


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
