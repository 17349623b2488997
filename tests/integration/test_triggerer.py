"""Thirty sensors that wait in a real triggerer: what they cost, and what they come through."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from airflow import __version__ as airflow_version
from cryptography.fernet import Fernet
from packaging.version import Version

import fresh_airflow
from airflow_provider_faraday.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
DEADLINE_SECONDS = 100

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


@dataclass
class Airflow:
    """A whole Airflow: scheduler, API server, DAG processor, triggerer; each a process group of its own."""

    home: Path
    env: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *command: str) -> None:
        name = command[0]
        with (self.home / f"{name}.out").open("ab") as output:
            self.running[name] = subprocess.Popen(
                fresh_airflow.airflow(*command),
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_all(self) -> None:
        for command in (["api-server"], ["dag-processor"], ["triggerer", "-s"]):
            self.start(*command)
        # A task that is run before the API server answers has failed.
        self.until(self._api_server_answers, 90, "the API server answers")
        self.start("scheduler", "-s")

    def _api_server_answers(self) -> bool:
        try:
            url = f"{self.env['AIRFLOW__API__BASE_URL']}/api/v2/monitor/health"
            return requests.get(url, timeout=10).ok
        except requests.RequestException:
            return False

    def end(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process and all that it has started, and wait for its end."""
        process = self.running[name]
        _signal_group(process, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        _signal_group(process, signal.SIGKILL)
        process.wait()
        del self.running[name]

    def set_connection(self, **fields: Any) -> None:
        """Store the Airflow connection in the metadata database, in place of the one that is there."""
        # Not below the home, which is searched for the key.
        file = self.home.parent / "connection.json"
        file.write_text(json.dumps({"faraday_default": {"conn_type": "faraday", **fields}}))
        subprocess.run(
            fresh_airflow.airflow("connections", "import", "--overwrite", str(file)),
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            check=True,
            capture_output=True,
        )
        file.unlink()

    def query(self, sql: str) -> list[Any]:
        uri = f"file:{self.home / 'airflow.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as database:
            return database.execute(sql).fetchall()

    def states(self, task_id: str = "wait") -> list[str | None]:
        sql = f"SELECT state FROM task_instance WHERE task_id = '{task_id}' ORDER BY map_index"
        return [state for (state,) in self.query(sql)]

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for a condition.

        :param what: what it is, for the message when the time is over.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            ended = [name for name, process in self.running.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                files = [(file, file.read_text(errors="replace")[-2000:]) for file in self.home.glob("*.out")]
                logs = "".join(f"\n=== {file.name}\n{text}" for file, text in files)
                tasks = self.query("SELECT task_id, map_index, state, try_number FROM task_instance")
                why = f"{ended} ended" if ended else f"not within {seconds} seconds"
                pytest.fail(f"Not: {what} ({why}). Tasks: {tasks}{logs}", pytrace=False)
            time.sleep(0.2)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # The group outlives its leader when that is killed alone.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@pytest.fixture
def faraday() -> Iterator[Sandbox]:
    with Sandbox(api_key=f"old-{secrets.token_hex(16)}") as sandbox:
        for dataset_id, status in ((CUSTOMERS, "ready"), (ORDERS, "running"), (RETURNS, "running")):
            sandbox.set_dataset(dataset_id, status=status)
        yield sandbox


@pytest.fixture
def airflow(another_airflow_home: Path, tmp_path: Path) -> Iterator[Airflow]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "waiting.py").write_text(DAG_FILE)
    settings = {
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__WORKERS": "1",
        "API__SECRET_KEY": secrets.token_hex(16),
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
        "CORE__PARALLELISM": "4",
        "WORKERS__EXECUTION_API_TIMEOUT": "30",
        # A killed triggerer is missed after six seconds, not after thirty.
        "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
    }
    env = fresh_airflow.environment(another_airflow_home, dags)
    env |= {f"AIRFLOW__{name}": value for name, value in settings.items()}
    running = Airflow(another_airflow_home, env)
    try:
        yield running
    finally:
        for name in list(running.running):
            running.end(name, signal.SIGTERM)


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
    _assert_nowhere(airflow, old_key)

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

    # Away for some seconds: all sensors still wait.
    faraday.stop()
    time.sleep(5)
    faraday.clear_requests()
    faraday.start()
    airflow.until(lambda: bool(_answered(faraday, SCOPE_PATH)), 60, "the polls go on after the outage")
    assert airflow.states() == ["deferred"] * SENSORS

    # Another key: taken up when the old one is refused.
    airflow.set_connection(host=faraday.url, password=new_key)
    faraday.clear_requests()
    faraday.rotate_key(new_key)
    airflow.until(lambda: bool(_answered(faraday, SCOPE_PATH)), 30, "the polls go on with the new key")
    assert len([r for r in faraday.requests(SCOPE_PATH) if r["status"] == 401]) == 1
    assert airflow.states() == ["deferred"] * SENSORS
    _assert_nowhere(airflow, old_key, new_key)

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
    _assert_nowhere(airflow, old_key, new_key)


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


def _assert_nowhere(airflow: Airflow, *keys: str) -> None:
    """Search every table and every file for the keys."""
    tables = [name for (name,) in airflow.query("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert "connection" in tables
    contents = {name: repr(airflow.query(f'SELECT * FROM "{name}"')) for name in tables}
    for path in airflow.home.rglob("*"):
        if path.is_file():
            contents[str(path)] = path.read_bytes().decode(errors="replace")
    assert any("Not ready yet" in text or "datasets ready" in text for text in contents.values())
    assert [place for place, text in contents.items() if any(key in text for key in keys)] == []
