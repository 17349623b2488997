"""Parsing a DAG file loads no HTTP library: checked on what our modules import, in a new process.

Airflow has some of these libraries loaded before any DAG file is parsed (requests on 2.11, httpx on 3). So
what ours add is compared with what was there, and importing any of the libraries from then on is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from airflow import __version__ as airflow_version

from support.forks import Ran, forking

ROOT = Path(__file__).parents[2]
REFUSED = [
    *("aiohttp", "fastapi", "httpx", "requests", "starlette", "urllib3", "uvicorn", "yarl"),
    # Nor OpenLineage, which may not be installed.
    "openlineage",
]
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


def added_by(run: Run, *modules: str, files: tuple[Path, ...] = ()) -> list[str]:
    """Import modules, run DAG files, and give the names of all modules that this loaded."""
    ran = run(LOAD.format(refused=REFUSED, modules=modules, files=[str(path) for path in files]))
    assert ran.exit_status == 0, ran.output
    return list(ran.result)


def modules_in(*rooms: str) -> list[str]:
    paths = [path for room in rooms for path in (ROOT / "airflow_provider_faraday" / room).glob("*.py")]
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths
    ]


def test_operators_and_sensors_add_nothing_but_our_own_modules(after_airflow: Run) -> None:
    modules = modules_in("operators", "sensors", "transfers", "assets")
    assert "airflow_provider_faraday.sensors.datasets" in modules

    added = added_by(after_airflow, *modules)

    assert [name for name in added if not name.startswith("airflow_provider_faraday")] == []
    assert not any(name.startswith("airflow_provider_faraday.sandbox") for name in added)


def test_openlineage_is_loaded_only_if_airflow_asks_for_lineage() -> None:
    # Whoever creates an asset makes Airflow look up the converters of all providers.
    asset = (
        "from airflow.providers.common.compat.sdk import Asset\n"
        "from airflow_provider_faraday.lineage import asset_to_openlineage\n"
        "Asset(uri='faraday://datasets/d0000000-0000-4000-8000-000000000001')"
    )
    with forking(asset) as run:
        added = added_by(run, "airflow_provider_faraday.lineage")

    assert [name for name in added if "lineage" in name] == []


def test_lineage_is_loaded_only_if_airflow_asks_for_it(after_airflow: Run) -> None:
    modules = [f"airflow_provider_faraday.{name}" for name in ("operators.resources", "sensors.resources")]
    modules += [f"airflow_provider_faraday.transfers.{name}" for name in ("targets", "uploads")]

    added = added_by(after_airflow, *modules)

    assert "airflow_provider_faraday.openlineage" in added
    assert "airflow_provider_faraday.lineage" not in added


def test_triggers_load_no_http_library_until_they_run(after_airflow: Run) -> None:
    module = "airflow_provider_faraday.triggers.datasets"
    assert module in added_by(after_airflow, module)


def test_the_hook_loads_no_http_library_until_it_is_used(after_airflow: Run) -> None:
    module = "airflow_provider_faraday.hooks.faraday"
    assert module in added_by(after_airflow, module)


@pytest.mark.parametrize("path", sorted((ROOT / "example_dags").glob("*.py")), ids=lambda path: path.stem)
def test_parsing_an_example_loads_no_http_library(path: Path, after_airflow: Run) -> None:
    if airflow_version.startswith("2.") and "watch_every" in path.read_text():
        pytest.skip("Airflow 2 has no asset watchers, and the example says so when it is parsed.")
    added = added_by(after_airflow, files=(path,))

    assert any(name.startswith("airflow_provider_faraday.") for name in added)


def test_provider_info_imports_nothing() -> None:
    with forking("import __future__, json, pathlib, typing") as run:
        added = added_by(run, "airflow_provider_faraday.get_provider_info")

    assert added == ["airflow_provider_faraday", "airflow_provider_faraday.get_provider_info"]
