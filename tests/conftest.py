"""What every test needs: an Airflow for this test session, a new sandbox per test, a way to run DAGs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import local_airflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_faraday.sandbox.server import Sandbox
    from support.run_dag import DagRunResult

    SharedDirectory = Callable[[str, Callable[[Path], object]], Path]

# Airflow reads its settings on import, which happens when the first test module is collected, before any
# fixture runs. The DAGs folder stays empty, since tests build the DAGs that run in this process.
_HOME = Path(tempfile.mkdtemp(prefix="airflow-provider-faraday-tests-"))
(_HOME / "dags").mkdir()
_ENVIRONMENT = local_airflow.environment(_HOME, _HOME / "dags")
os.environ.clear()
os.environ.update(_ENVIRONMENT)

# On import, Airflow puts a warning filter that matches our modules in front of the existing ones. Import it
# before pytest adds ours, so that ours win during collection, too.
import airflow.configuration  # noqa: E402, F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)
    # pytest-xdist gives each process a part of the list. Each part begins with a share of the longest tests.
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    longest = [item for item in items if item.get_closest_marker("timeout")]
    others = [item for item in items if item not in longest]
    size = len(others) // processes + 1
    items[:] = [
        item
        for part in range(processes)
        for item in (*longest[part::processes], *others[part * size : (part + 1) * size])
    ]


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory: pytest.TempPathFactory) -> SharedDirectory:
    """Return a function that returns a directory, which the first process that needs it fills for all.

    Filling takes seconds of CPU time, and pytest-xdist has a process for each part of the tests.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def shared(name: str, fill: Callable[[Path], object]) -> Path:
        directory, filled = root / name, root / f"{name}.filled"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not filled.exists():
                shutil.rmtree(directory, ignore_errors=True)
                directory.mkdir()
                fill(directory)
                filled.touch()
        return directory

    return shared


@pytest.fixture(scope="session")
def airflow_home(shared_directory: SharedDirectory) -> Path:
    """Return the ``AIRFLOW_HOME`` of this process, with a migrated metadata database."""

    def migrate(directory: Path) -> None:
        local_airflow.migrate(_ENVIRONMENT)
        shutil.copy(_HOME / "airflow.db", directory)

    migrated = shared_directory("migrated", migrate)
    shutil.copy(migrated / "airflow.db", _HOME / "airflow.db")
    shutil.copy(migrated / "airflow.db", _HOME / "migrated.db")
    return _HOME


@pytest.fixture
def another_airflow_home(airflow_home: Path, tmp_path: Path) -> Path:
    """Return an ``AIRFLOW_HOME`` for other processes, with a migrated, unused metadata database."""
    home = tmp_path / "airflow"
    home.mkdir()
    shutil.copy(airflow_home / "migrated.db", home / "airflow.db")
    return home


@pytest.fixture
def faraday_sandbox_age() -> float:
    """Let everything begin to build when a test starts."""
    return 0.0


@pytest.fixture
def faraday_poke_interval() -> None:
    """Leave the intervals alone: they are what is tested."""


@pytest.fixture
def sandbox(faraday_sandbox: Sandbox) -> Sandbox:
    """Return a running sandbox whose builds are 100 times as fast as by default."""
    return faraday_sandbox


@pytest.fixture
def faraday_default(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Point the Airflow connection ``faraday_default`` at the sandbox; call it to change its fields."""

    def set_connection(**fields: Any) -> None:
        connection = {**sandbox.airflow_connection, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(connection))

    set_connection()
    return set_connection


@pytest.fixture
def run_dag(airflow_home: Path) -> Callable[..., DagRunResult]:
    """Return :func:`support.run_dag.run_dag`; the metadata database is in place."""
    from support.run_dag import run_dag

    return run_dag
