"""What every test needs: an Airflow of the test session's own, a fresh sandbox, a way to run DAGs."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fresh_airflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_faraday.sandbox.server import Sandbox
    from airflow_rig import DagRunResult

# Airflow reads its settings when it is imported, which is when the first test module is collected: too early
# for a fixture. The DAGs folder stays empty; DAGs that run in this process are built by the tests.
_HOME = Path(tempfile.mkdtemp(prefix="airflow-provider-faraday-tests-"))
(_HOME / "dags").mkdir()
_ENVIRONMENT = fresh_airflow.environment(_HOME, _HOME / "dags")
os.environ.clear()
os.environ.update(_ENVIRONMENT)

# It puts a warning filter of its own, which matches our modules too, in front of those that are there; now is
# before pytest puts ours there, so that a deprecation fails the collection, too.
import airflow.configuration  # noqa: E402, F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)
    # What may take longest begins first, and the other processes do the rest meanwhile.
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """Give the ``AIRFLOW_HOME`` of this process, with its metadata database made."""
    fresh_airflow.migrate(_ENVIRONMENT)
    shutil.copy(_HOME / "airflow.db", _HOME / "migrated.db")
    return _HOME


@pytest.fixture
def another_airflow_home(airflow_home: Path, tmp_path: Path) -> Path:
    """Give an ``AIRFLOW_HOME`` for a process of its own, with a metadata database that nobody has used."""
    home = tmp_path / "airflow"
    home.mkdir()
    shutil.copy(airflow_home / "migrated.db", home / "airflow.db")
    return home


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Give a local Faraday API, a hundred times as fast as a person would watch it, on a port of its own."""
    from airflow_provider_faraday.sandbox import Sandbox

    with Sandbox(speed=100) as running:
        yield running


@pytest.fixture
def faraday_default(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Point the Airflow connection ``faraday_default`` at the sandbox; call it to change fields of it."""
    import json

    def point(**fields: Any) -> None:
        connection = {"conn_type": "faraday", "host": sandbox.url, "password": sandbox.api_key, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(connection))

    point()
    return point


@pytest.fixture
def run_dag(airflow_home: Path) -> Callable[..., DagRunResult]:
    """Give :func:`airflow_rig.run_dag`, with the metadata database in place."""
    import airflow_rig

    return airflow_rig.run_dag
