"""Parsing a DAG file loads no HTTP library.

Airflow loads some of these libraries before it parses a DAG file (requests on 2.11, httpx on 3). So the tests
remove them, and make it an error to import one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from airflow_provider_faraday.compat import has_asset_watchers
from support.forks import Ran, forking

ROOT = Path(__file__).parents[2]
# OpenLineage may not be installed.
REFUSED = ["aiohttp", "fastapi", "httpx", "openlineage", "requests", "starlette", "urllib3", "yarl"]
# What any DAG file has to do with, and Airflow loads on first use only.
AIRFLOW_ITSELF = """
from airflow.providers.common.compat.sdk import (
    DAG, AirflowFailException, BaseHook, BaseOperator, BaseSensorOperator, Param, PokeReturnValue, chain, task
)
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.triggers.base import BaseTrigger
with DAG("warm", schedule=None, params={"id": Param("", type="string")}):
    @task
    def add(number): ...
    chain(SQLExecuteQueryOperator(task_id="sql", conn_id="", sql=""), add.expand(number=[1]))
"""
LOAD = """
import importlib, runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused}:
            raise ImportError(f"{{name}} is imported")

for name in [name for name in sys.modules if name.partition(".")[0] in {refused}]:
    del sys.modules[name]
sys.meta_path.insert(0, Refuse())
loaded = set(sys.modules)
for name in {modules}:
    importlib.import_module(name)
for path in {files}:
    runpy.run_path(path)
result = sorted(set(sys.modules) - loaded)
"""

Run = Callable[[str], Ran]


@pytest.fixture(scope="module")
def after_airflow() -> Iterator[Run]:
    """Return a function that runs a program where :data:`AIRFLOW_ITSELF` has run."""
    with forking(AIRFLOW_ITSELF) as run:
        yield run


def added_by(run: Run, *modules: str, files: Sequence[Path] = ()) -> list[str]:
    """Import modules, run DAG files, and give the names of all modules that this loaded."""
    ran = run(LOAD.format(refused=REFUSED, modules=modules, files=[str(path) for path in files]))
    assert ran.exit_status == 0, ran.output
    return list(ran.result)


def test_declarations_add_nothing_but_our_own_modules(after_airflow: Run) -> None:
    modules = [
        f"airflow_provider_faraday.{package}.{path.stem}"
        for package in ("operators", "sensors", "transfers", "assets")
        for path in (ROOT / "airflow_provider_faraday" / package).glob("[a-z]*.py")
    ]

    added = added_by(after_airflow, *modules)

    assert {*modules} <= {*added}
    unwanted = ("airflow_provider_faraday.lineage", "airflow_provider_faraday.sandbox")
    own = [name for name in added if name.startswith("airflow_provider_faraday")]
    assert own == added
    assert [name for name in own if name.startswith(unwanted)] == []


def test_hooks_lineage_and_triggers_load_no_http_library_and_no_openlineage(after_airflow: Run) -> None:
    modules = [
        f"airflow_provider_faraday.{name}" for name in ("hooks.faraday", "lineage", "triggers.datasets")
    ]

    assert {*modules} <= {*added_by(after_airflow, *modules)}


def test_parsing_the_examples_loads_no_http_library(after_airflow: Run) -> None:
    # Airflow 2 has no asset watchers, and the example says so when it is parsed.
    files = [
        path
        for path in sorted((ROOT / "example_dags").glob("*.py"))
        if has_asset_watchers() or "watch_every" not in path.read_text()
    ]
    added = added_by(after_airflow, files=files)

    assert "airflow_provider_faraday.sensors.resources" in added
