"""A whole Airflow in a test: API server, scheduler, DAG processor and triggerer, each killed at will."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import airflow_server
import fresh_airflow

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


@dataclass
class Airflow:
    """A whole Airflow: scheduler, API server, DAG processor, triggerer; each a process group of its own."""

    home: Path
    env: Mapping[str, str]
    api: airflow_server.Api
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *command: str) -> None:
        name = command[0]
        with (self.home / f"{name}.out").open("ab") as output:
            self.running[name] = fresh_airflow.start(self.env, *command, output=output)

    def start_all(self) -> None:
        for command in (["api-server"], ["dag-processor"], ["triggerer", "-s"]):
            self.start(*command)
        # A task that is run before the API server answers has failed.
        self.until(self.api.answers, 90, "the API server answers")
        self.start("scheduler", "-s")

    def end(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process and all that it has started, and wait for their end."""
        fresh_airflow.end(self.running.pop(name), how)

    def set_connection(self, **fields: Any) -> None:
        """Store the Airflow connection in the metadata database, in place of the one that is there."""
        fresh_airflow.store_connections(self.env, {"faraday_default": {"conn_type": "faraday", **fields}})

    def query(self, sql: str) -> list[Any]:
        uri = f"file:{self.home / 'airflow.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as database:
            return database.execute(sql).fetchall()

    def states(self, task_id: str = "wait") -> list[str | None]:
        sql = f"SELECT state FROM task_instance WHERE task_id = '{task_id}' ORDER BY map_index"
        return [state for (state,) in self.query(sql)]

    def assert_nowhere(self, *keys: str) -> None:
        """Search every table and every file for the keys."""
        tables = [name for (name,) in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert "connection" in tables
        contents = {name: repr(self.query(f'SELECT * FROM "{name}"')) for name in tables}
        for path in self.home.rglob("*"):
            if path.is_file():
                contents[str(path)] = path.read_bytes().decode(errors="replace")
        assert any("airflow_provider_faraday" in text for text in contents.values())
        assert [place for place, text in contents.items() if any(key in text for key in keys)] == []

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


@contextmanager
def whole_airflow(home: Path, dags: Path) -> Iterator[Airflow]:
    """Give an Airflow of which nothing runs yet, and end what has been started of it.

    :param home: its ``AIRFLOW_HOME``, with a metadata database.
    :param dags: its DAGs folder.
    """
    settings = {
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
        # A killed triggerer is missed after six seconds, not after thirty.
        "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
    }
    env = airflow_server.environment(home, dags)
    env |= {f"AIRFLOW__{name}": value for name, value in settings.items()}
    running = Airflow(home, env, airflow_server.Api(env))
    try:
        yield running
    finally:
        for name in list(running.running):
            running.end(name)
