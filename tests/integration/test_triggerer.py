"""Thirty sensors that wait in a real triggerer: what they cost, and what they come through."""

from __future__ import annotations

import json
import secrets
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version
from packaging.version import Version

from airflow_provider_faraday.sandbox import Sandbox
from whole_airflow import whole_airflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whole_airflow import Airflow

pytestmark = [
    pytest.mark.skipif(
        Version(airflow_version) < Version("3.3"),
        reason="Each earlier release starts its processes in another way; once on the newest is enough.",
    ),
    pytest.mark.timeout(480),
]

SCOPE = "50000000-0000-4000-8000-000000000001"
SCOPE_PATH = f"/v1/scopes/{SCOPE}/datasets"
UPLOADS = "c0000000-0000-4000-8000-000000000002"
UPLOADS_PATH = f"/v1/connections/{UPLOADS}/datasets"
CUSTOMERS = "d0000000-0000-4000-8000-000000000001"
ORDERS = "d0000000-0000-4000-8000-000000000002"
RETURNS = "d0000000-0000-4000-8000-000000000006"

SENSORS = 30
INTERVAL = 1.0
DEADLINE_SECONDS = 80

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
        task_id="wait_in_vain", connection_id="{UPLOADS}", timeout={DEADLINE_SECONDS}, fields=["id"], **every
    )
"""


@pytest.fixture
def faraday() -> Iterator[Sandbox]:
    with Sandbox(api_key=f"old-{secrets.token_hex(16)}") as sandbox:
        for dataset_id, status in ((CUSTOMERS, "ready"), (ORDERS, "running"), (RETURNS, "running")):
            sandbox.set_dataset(dataset_id, status=status)
        yield sandbox


@pytest.fixture
def airflow(another_airflow_home: Path, tmp_path: Path) -> Iterator[Airflow]:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "waiting.py").write_text(DAG_FILE)
    with whole_airflow(another_airflow_home, tmp_path / "dags") as running:
        yield running


def test_thirty_sensors_share_one_poll_and_come_through_whatever_happens(
    airflow: Airflow, faraday: Sandbox
) -> None:
    old_key, new_key = faraday.api_key, f"new-{secrets.token_hex(16)}"
    airflow.set_connection(host=faraday.url, password=old_key)
    airflow.start_all()
    airflow.until(lambda: airflow.states("wait_in_vain") == ["deferred"], 120, "the lone sensor waits")
    deferred_at = time.monotonic()
    airflow.until(lambda: airflow.states() == ["deferred"] * SENSORS, 120, "all sensors wait")

    # One poll an interval and one TCP connection, not thirty.
    _assert_one_poll_an_interval(faraday)

    # Nothing secret waits in the database either.
    airflow.assert_nowhere(old_key)

    # Killed and started again: the sensors still wait, and share one poll as before.
    waiting = airflow.query("SELECT classpath, kwargs FROM trigger ORDER BY id")
    assert all('"deadline": ' in kwargs for _, kwargs in waiting)
    airflow.end("triggerer", signal.SIGKILL)
    faraday.clear_requests()
    time.sleep(3 * INTERVAL)
    assert faraday.requests() == []
    restarted_after = time.monotonic() - deferred_at
    airflow.start("triggerer", "-s")
    airflow.until(lambda: bool(faraday.requests(SCOPE_PATH)), 60, "the new triggerer polls")
    # By now every trigger has joined; on a busy machine some come seconds after the first.
    airflow.until(lambda: len(faraday.requests(UPLOADS_PATH)) > 3, 30, "all triggers have joined")
    _assert_one_poll_an_interval(faraday)
    assert airflow.states() == ["deferred"] * SENSORS
    assert airflow.query("SELECT classpath, kwargs FROM trigger ORDER BY id") == waiting

    # Another key: taken up when the old one is refused.
    airflow.set_connection(host=faraday.url, password=new_key)
    faraday.clear_requests()
    faraday.rotate_key(new_key)
    airflow.until(lambda: bool(_answered(faraday, SCOPE_PATH)), 30, "the polls go on with the new key")
    assert len([r for r in faraday.requests(SCOPE_PATH) if r["status"] == 401]) == 1
    assert airflow.states() == ["deferred"] * SENSORS
    airflow.assert_nowhere(old_key, new_key)

    # Ready: each sensor ends well, once, with its own fields.
    faraday.set_dataset(ORDERS, status="ready")
    airflow.until(lambda: airflow.states() == ["success"] * SENSORS, 120, "all sensors succeed")
    tries = airflow.query("SELECT try_number FROM task_instance WHERE task_id = 'wait'")
    assert tries == [(1,)] * SENSORS
    assert airflow.query("SELECT * FROM task_instance_history") == []
    returned = dict(
        airflow.query("SELECT map_index, value FROM xcom WHERE task_id = 'wait' AND key = 'return_value'")
    )
    both = [faraday.dataset(CUSTOMERS), faraday.dataset(ORDERS)]
    assert {index: json.loads(value) for index, value in returned.items()} == {
        number: [
            {"id": d["id"], **({"name": d["name"]} if number % 2 else {"status": "ready"})} for d in both
        ]
        for number in range(SENSORS)
    }

    # The one whose time is over ends then; a deadline that began anew with the triggerer would be later.
    airflow.until(lambda: airflow.states("wait_in_vain") == ["failed"], 120, "the lone sensor times out")
    waited = time.monotonic() - deferred_at
    assert DEADLINE_SECONDS - 5 < waited < DEADLINE_SECONDS + restarted_after
    airflow.assert_nowhere(old_key, new_key)


def _answered(faraday: Sandbox, path: str) -> list[dict[str, Any]]:
    return [request for request in faraday.requests(path) if request["status"] == 200]


def _assert_one_poll_an_interval(faraday: Sandbox) -> None:
    faraday.clear_requests()
    intervals = 8
    time.sleep(intervals * INTERVAL)
    for path in (SCOPE_PATH, UPLOADS_PATH):
        polls = faraday.requests(path)
        assert intervals / 2 <= len(polls) <= intervals + 1
        assert {poll["status"] for poll in polls} == {200}
        # None was opened for a poll: all went over the connection of the first.
        assert len({poll["client"] for poll in polls}) == 1
