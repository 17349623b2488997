"""A whole Airflow deployment: API server, scheduler, DAG processor, triggerer. Each can be killed."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import local_airflow

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


@dataclass
class Cluster:
    """An Airflow deployment on SQLite.

    :param home: its ``AIRFLOW_HOME``; each process writes its output to ``<command>.out`` there
    :param running: its processes by command: ``scheduler``, ``triggerer`` …
    """

    home: Path
    env: Mapping[str, str]
    api: local_airflow.Api
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *command: str) -> None:
        """Start an Airflow command in the background."""
        name = command[0]
        with (self.home / f"{name}.out").open("ab") as output:
            self.running[name] = local_airflow.start(self.env, *command, output=output)

    def start_all(self) -> None:
        """Start every component."""
        for command in (["api-server"], ["dag-processor"], ["triggerer", "-s"]):
            self.start(*command)
        # A task that starts before the API server is up fails.
        self.until(self.api.is_up, 90, "the API server is up")
        self.start("scheduler", "-s")

    def end(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process and its descendants, and wait until they have exited."""
        local_airflow.end(self.running.pop(name), how)

    def restart(self, name: str) -> None:
        """Stop a process with SIGTERM, as service managers do, and start it again with the same command."""
        process = self.running.pop(name)
        process.terminate()
        try:
            process.wait(30)
        finally:
            local_airflow.end(process, signal.SIGKILL)
        self.start(*process.args[process.args.index(name) :])

    def store_connection(self, **fields: Any) -> None:
        """Create or replace the Airflow connection ``faraday_default`` in the metadata database."""
        local_airflow.store_connections(self.env, {"faraday_default": {"conn_type": "faraday", **fields}})

    def query(self, sql: str) -> list[Any]:
        """Return the rows of a query on the metadata database."""
        uri = f"file:{self.home / 'airflow.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as database:
            return database.execute(sql).fetchall()

    def states(self, task_id: str = "wait") -> list[str | None]:
        """Return the states of a task's instances by map index."""
        sql = f"SELECT state FROM task_instance WHERE task_id = '{task_id}' ORDER BY map_index"
        return [state for (state,) in self.query(sql)]

    def assert_stored_nowhere(self, *secrets: str) -> None:
        """Assert that no table of the metadata database and no file has one of the secrets."""
        tables = [name for (name,) in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert "connection" in tables
        contents = {name: repr(self.query(f'SELECT * FROM "{name}"')) for name in tables}
        for path in self.home.rglob("*"):
            if path.is_file():
                contents[str(path)] = path.read_bytes().decode(errors="replace")
        assert any("airflow_provider_faraday" in text for text in contents.values())
        assert [place for place, text in contents.items() if any(each in text for each in secrets)] == []

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until a condition is true; fail the test with logs and task states if that takes too long.

        :param what: describes the condition in the failure message
        """
        deadline = time.monotonic() + seconds
        while not condition():
            exited = [name for name, process in self.running.items() if process.poll() is not None]
            if exited or time.monotonic() > deadline:
                why = f"{', '.join(exited)} exited" if exited else f"timed out after {seconds} seconds"
                pytest.fail(f"Not true: {what} ({why}).{self._report()}", pytrace=False)
            time.sleep(0.2)

    def _report(self) -> str:
        tasks = self.query("SELECT task_id, map_index, state, try_number FROM task_instance")
        logs = [(file.name, file.read_text(errors="replace")[-2000:]) for file in self.home.glob("*.out")]
        return f" Tasks: {tasks}" + "".join(f"\n=== {name}\n{text}" for name, text in logs)


@contextmanager
def cluster(home: Path, dags: Path) -> Iterator[Cluster]:
    """Create a deployment whose components are not started yet; on exit, kill those that were.

    :param home: its ``AIRFLOW_HOME``, with a migrated metadata database
    :param dags: its DAGs folder
    """
    settings = {
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
        # Notice a killed triggerer after 6 seconds instead of 30.
        "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
    }
    env = local_airflow.server_environment(home, dags)
    env |= {f"AIRFLOW__{name}": value for name, value in settings.items()}
    created = Cluster(home, env, local_airflow.Api(env))
    try:
        yield created
    finally:
        for name in list(created.running):
            created.end(name)
