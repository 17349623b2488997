"""Thirty deferred sensors in a real triggerer: the requests they send, and the failures they survive."""

from __future__ import annotations

import secrets
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_faraday.sandbox import Sandbox
from support.cluster import cluster
from support.ids import CUSTOMERS, ORDERS, RETURNS, SCOPE, UPLOADS
from support.run_dag import AIRFLOW_3_3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cluster import Cluster

pytestmark = [
    pytest.mark.skipif(not AIRFLOW_3_3, reason="Each earlier Airflow starts its processes differently."),
    pytest.mark.timeout(480),
]

SCOPE_PATH = f"/v1/scopes/{SCOPE}/datasets"
UPLOADS_PATH = f"/v1/connections/{UPLOADS}/datasets"
SENSORS = 30
INTERVAL = 1.0
POLLS = 8
TIMEOUT_SECONDS = 120

DAG_FILE = f"""
from datetime import datetime, timezone

from airflow.sdk import DAG

from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

with DAG("waiting", schedule="@once", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False):
    every = {{"deferrable": True, "poke_interval": {INTERVAL}, "retries": 0}}
    DatasetsReadySensor.partial(task_id="wait", scope_id="{SCOPE}", timeout=3600, **every).expand(
        fields=[["id", "name"] if number % 2 else ["id", "status"] for number in range({SENSORS})]
    )
    DatasetsReadySensor(
        task_id="time_out", connection_id="{UPLOADS}", timeout={TIMEOUT_SECONDS}, fields=["id"], **every
    )
"""


@pytest.fixture
def faraday() -> Iterator[Sandbox]:
    with Sandbox(api_key=f"old-{secrets.token_hex(16)}") as sandbox:
        for dataset_id, status in ((CUSTOMERS, "ready"), (ORDERS, "running"), (RETURNS, "running")):
            sandbox.set_dataset(dataset_id, status=status)
        yield sandbox


@pytest.fixture
def airflow(another_airflow_home: Path, tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "waiting.py").write_text(DAG_FILE)
    with cluster(another_airflow_home, tmp_path / "dags") as created:
        yield created


def test_thirty_sensors_share_one_poll_and_survive_a_kill_and_a_key_rotation(
    airflow: Cluster, faraday: Sandbox
) -> None:
    old_key, new_key = faraday.api_key, f"new-{secrets.token_hex(16)}"
    airflow.store_connection(host=faraday.url, password=old_key)
    airflow.start_all()
    airflow.until(lambda: airflow.states("time_out") == ["deferred"], 120, "the lone sensor is deferred")
    airflow.until(lambda: airflow.states() == ["deferred"] * SENSORS, 120, "all sensors are deferred")

    # They share one poll per interval.
    _assert_one_poll_an_interval(airflow, faraday)

    # The key is not stored with them.
    airflow.assert_stored_nowhere(old_key)

    # After a kill and a restart, they still wait and share one poll.
    waiting = airflow.query("SELECT classpath, kwargs FROM trigger ORDER BY id")
    assert all('"deadline": ' in kwargs for _, kwargs in waiting)
    airflow.end("triggerer", signal.SIGKILL)
    faraday.clear_requests()
    time.sleep(3 * INTERVAL)
    assert faraday.requests() == []
    airflow.start("triggerer")
    airflow.until(lambda: bool(faraday.requests(SCOPE_PATH)), 60, "the new triggerer polls")
    # On a busy machine, some triggers subscribe seconds after the first. The lone sensor is the last.
    airflow.until(lambda: bool(faraday.requests(UPLOADS_PATH)), 60, "all triggers have subscribed")
    _assert_one_poll_an_interval(airflow, faraday)
    assert airflow.states() == ["deferred"] * SENSORS
    assert airflow.query("SELECT classpath, kwargs FROM trigger ORDER BY id") == waiting

    # After a key rotation, one 401 makes them use the new key, unless they have looked it up before that.
    airflow.store_connection(host=faraday.url, password=new_key)
    faraday.clear_requests()
    faraday.rotate_key(new_key)
    airflow.until(lambda: bool(_succeeded(faraday, SCOPE_PATH)), 30, "polls succeed with the new key")
    assert len([r for r in faraday.requests(SCOPE_PATH) if r["status"] == 401]) <= 1
    assert airflow.states() == ["deferred"] * SENSORS
    airflow.assert_stored_nowhere(old_key, new_key)

    # Once the datasets are ready, each sensor succeeds on its first try with its own fields.
    faraday.set_dataset(ORDERS, status="ready")
    airflow.until(lambda: airflow.states() == ["success"] * SENSORS, 120, "all sensors succeed")
    assert {each["try_number"] for each in airflow.api.task_instances()} == {1}
    both = [faraday.dataset(CUSTOMERS), faraday.dataset(ORDERS)]
    assert {entry["map_index"]: value for entry, value in airflow.api.returned("waiting")} == {
        number: [
            {"id": d["id"], **({"name": d["name"]} if number % 2 else {"status": "ready"})} for d in both
        ]
        for number in range(SENSORS)
    }

    # The restart has not extended the timeout of the lone sensor.
    airflow.until(lambda: airflow.states("time_out") == ["failed"], 240, "the lone sensor times out")
    airflow.assert_stored_nowhere(old_key, new_key)


def _succeeded(faraday: Sandbox, path: str) -> list[dict[str, Any]]:
    return [request for request in faraday.requests(path) if request["status"] == 200]


def _assert_one_poll_an_interval(airflow: Cluster, faraday: Sandbox) -> None:
    faraday.clear_requests()
    started = time.monotonic()
    airflow.until(lambda: len(_succeeded(faraday, SCOPE_PATH)) >= POLLS, 120, f"there are {POLLS} polls")
    intervals = (time.monotonic() - started) / INTERVAL
    # Thirty polls per interval would be far more. A slow machine may poll less often, never more.
    assert len(faraday.requests(SCOPE_PATH)) <= 1.5 * intervals + 2
