"""A whole Airflow deployment: API server, scheduler, DAG processor, triggerer. Each can be killed."""

from __future__ import annotations

import base64
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import requests
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

import local_airflow
from support.airflow_api import Api

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from sqlalchemy import Engine

# A loaded machine may be several times slower than an idle one.
PATIENCE_SECONDS = 600.0
# The commands of the components. All logs are on one disk, so that no component needs to serve its own.
COMMANDS = {
    "api-server": ["api-server"],
    "dag-processor": ["dag-processor"],
    "scheduler": ["scheduler", "-s"],
    "triggerer": ["triggerer", "-s"],
    "worker": ["celery", "worker", "-s", "--without-gossip", "--without-mingle"],
}


@dataclass
class Cluster:
    """An Airflow deployment.

    :param home: its ``AIRFLOW_HOME``; each process writes its output to ``<component>.out`` there
    :param database: its metadata database
    :param running: its processes by component: ``scheduler``, ``triggerer`` …; of several, ``triggerer-1`` …
    """

    home: Path
    env: Mapping[str, str]
    api: Api
    database: Engine
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, component: str) -> None:
        """Start a component in the background."""
        command = COMMANDS[component.rstrip("-0123456789")]
        with (self.home / f"{component}.out").open("ab") as output:
            self.running[component] = local_airflow.start(self.env, *command, output=output)

    def start_all(self, *components: str) -> None:
        """Start an API server, a DAG processor and other components: by default, one of each."""
        others = components or ("triggerer", "scheduler")
        for component in ("api-server", "dag-processor", *others):
            if component.startswith("scheduler"):
                # A task that starts before the API server is up fails.
                self.until(self.api.is_up, "the API server is up")
            self.start(component)

    def end(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process and its descendants, and wait until they have exited."""
        local_airflow.end(self.running.pop(name), how)

    def restart(self, component: str) -> None:
        """Stop a component with SIGTERM, as service managers do, and start it again."""
        process = self.running.pop(component)
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            local_airflow.end(process, signal.SIGKILL)
        self.start(component)

    def store_connection(self, **fields: Any) -> None:
        """Create or replace the Airflow connection ``faraday_default`` in the metadata database."""
        local_airflow.store_connections(self.env, {"faraday_default": {"conn_type": "faraday", **fields}})

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query on the metadata database."""
        with self.database.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]

    def states(self, task_id: str = "wait") -> list[str | None]:
        """Return the states of a task's instances by map index."""
        return [each["state"] for each in self.api.task_instances() if each["task_id"] == task_id]

    def assert_stored_nowhere(self, *secrets: str) -> None:
        """Assert that no table of the metadata database and no file has one of the secrets."""
        forms = [form for secret in secrets for form in _forms(secret)]
        searched, found = [], []
        for place, content in self._contents():
            searched.append(place)
            found += [place for form in forms if form in content]
        assert {"connection", "log", "trigger", "task_instance"} <= {*searched}
        assert any(place.endswith(".log") for place in searched)
        assert found == []

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        for table in inspect(self.database).get_table_names():
            # PostgreSQL's driver returns binary values as memory views.
            rows = [
                [bytes(value) if isinstance(value, memoryview) else value for value in row]
                for row in self.query(f'SELECT * FROM "{table}"')
            ]
            yield table, repr(rows).encode()
        for path in self.home.rglob("*"):
            # A database removes its temporary files at any time.
            with suppress(FileNotFoundError):
                if path.is_file():
                    yield str(path), path.read_bytes()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition is true; fail the test with logs and task states if that takes too long.

        :param condition: not true yet if a request in it fails
        :param what: describes the condition in the failure message
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _is_true(condition):
            exited = [name for name, process in self.running.items() if process.poll() is not None]
            if exited or time.monotonic() > deadline:
                why = f"{', '.join(exited)} exited" if exited else f"timed out after {PATIENCE_SECONDS} s"
                pytest.fail(f"Not true: {what} ({why}).{self._report()}", pytrace=False)
            time.sleep(0.2)

    def _report(self) -> str:
        shown = ("task_id", "map_index", "state", "try_number")
        found = self.api.task_instances() if self.api.is_up() else []
        tasks = [[task[name] for name in shown] for task in found]
        logs = [(file.name, file.read_text(errors="replace")[-2000:]) for file in self.home.glob("*.out")]
        return f" Tasks: {tasks}" + "".join(f"\n=== {name}\n{text}" for name, text in logs)


def _is_true(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except requests.RequestException:
        return False


def _forms(secret: str) -> Iterator[bytes]:
    """Return how a secret reads, and how it reads as a part of Base64, such as a message of Celery."""
    yield secret.encode()
    for offset, prefix in enumerate(("", "-", "--")):
        plain = (prefix + secret).encode()
        # Leave out the characters that depend on what is next to the secret.
        yield base64.b64encode(plain)[(0, 2, 3)[offset] : len(plain) * 8 // 6]


@contextmanager
def cluster(home: Path, dags: Path, **settings: str) -> Iterator[Cluster]:
    """Create a deployment whose components are not started yet; on exit, kill those that were.

    :param home: its ``AIRFLOW_HOME``; unless settings name another metadata database, it has a migrated one
    :param dags: its DAGs folder
    :param settings: more of Airflow's settings, such as ``CORE__PARALLELISM``
    """
    settings = {
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
        # Notice a killed triggerer after 6 seconds instead of 30.
        "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
        **settings,
    }
    env = local_airflow.server_environment(home, dags)
    env |= {f"AIRFLOW__{name}": value for name, value in settings.items()}
    url = env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    # Return JSON as text from both databases.
    database = create_engine(url, poolclass=NullPool, json_deserializer=str)
    created = Cluster(home, env, Api(env), database)
    try:
        yield created
    finally:
        for component in list(created.running):
            created.end(component)
