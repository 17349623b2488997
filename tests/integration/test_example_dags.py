"""Each example DAG runs, unchanged, as a user would run it: ``airflow dags test``, against the sandbox."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fresh_airflow
from airflow_provider_faraday.sandbox import Sandbox
from held_builds import builds_begin_at_first_request

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parents[2] / "example_dags"
LIVE_DATASETS = {"customers", "orders", "email_subscribers", "store_visits"}
CONNECTION_DATASETS = "/v1/connections/c0000000-0000-4000-8000-000000000001/datasets"
SCOPE_DATASETS = "/v1/scopes/50000000-0000-4000-8000-000000000001/datasets"


@dataclass
class ExampleRun:
    """What a run left behind."""

    exit_status: int
    log: str
    states: dict[str, str]
    xcoms: dict[str, Any]
    warehouse: Path
    sandbox: Sandbox


@pytest.fixture
def run_example(another_airflow_home: Path, tmp_path: Path) -> Callable[..., ExampleRun]:
    def run(dag_id: str, **conf: str) -> ExampleRun:
        warehouse = tmp_path / "warehouse.db"
        with Sandbox() as sandbox, builds_begin_at_first_request(sandbox):
            env = fresh_airflow.environment(
                another_airflow_home,
                EXAMPLES,
                {
                    "faraday_default": {
                        "conn_type": "faraday",
                        "host": sandbox.url,
                        "password": sandbox.api_key,
                    },
                    "warehouse_default": {"conn_type": "sqlite", "host": str(warehouse)},
                },
            )
            arguments = ["dags", "test", dag_id, *(["--conf", json.dumps(conf)] if conf else [])]
            finished = subprocess.run(
                fresh_airflow.airflow(*arguments),
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=240,
            )
        states, xcoms = _left_behind(another_airflow_home)
        assert sandbox.api_key not in finished.stdout
        assert _warnings_of_ours(finished.stdout) == []
        return ExampleRun(finished.returncode, finished.stdout, states, xcoms, warehouse, sandbox)

    return run


def _warnings_of_ours(log: str) -> list[str]:
    """Give the log's lines about a Python warning that names a file of ours, in either Airflow's format."""
    return [
        line
        for line in log.splitlines()
        if re.search(r"(airflow_provider_faraday|example_dags)/", line) and re.search(r"\w+Warning\b", line)
    ]


def _left_behind(home: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Give the states and the returned values by task, read from the metadata database itself."""

    def key(task_id: str, map_index: int) -> str:
        return task_id if map_index < 0 else f"{task_id}[{map_index}]"

    def value(stored: Any) -> Any:
        # Airflow 2 stores JSON as bytes; Airflow 3 as JSON text, of which older releases encode twice.
        decoded = json.loads(stored)
        return json.loads(decoded) if isinstance(decoded, str) and decoded[:1] in '["{' else decoded

    with closing(sqlite3.connect(home / "airflow.db")) as database:
        states = database.execute("SELECT task_id, map_index, state FROM task_instance").fetchall()
        xcoms = database.execute(
            "SELECT task_id, map_index, value FROM xcom WHERE key = 'return_value'"
        ).fetchall()
    return (
        {key(task_id, map_index): state for task_id, map_index, state in states},
        {key(task_id, map_index): value(stored) for task_id, map_index, stored in xcoms},
    )


def test_every_example_has_a_test_here() -> None:
    text = Path(__file__).read_text()

    assert [path.stem for path in EXAMPLES.glob("*.py") if f'run_example("{path.stem}"' not in text] == []


def test_connection_to_warehouse_loads_each_ready_dataset_once(run_example) -> None:
    run = run_example("faraday_connection_to_warehouse")

    assert run.exit_status == 0, run.log
    assert run.states == {
        "list_datasets": "success",
        "create_table": "success",
        "wait_until_ready": "success",
        **{f"load[{index}]": "success" for index in range(4)},
    }
    listed = {dataset["name"]: dataset["status"] for dataset in run.xcoms["list_datasets"]}
    assert listed.keys() == LIVE_DATASETS | {"legacy_orders"}
    assert {dataset["name"] for dataset in run.xcoms["wait_until_ready"]} == LIVE_DATASETS
    with closing(sqlite3.connect(run.warehouse)) as warehouse:
        rows = warehouse.execute("SELECT id, name, row_count, last_updated_output_at FROM faraday_datasets")
        loaded = {row[0]: row[1:] for row in rows}
    assert loaded == {
        dataset["id"]: (dataset["name"], dataset["row_count"], dataset["last_updated_output_at"])
        for dataset in run.xcoms["wait_until_ready"]
    }
    assert all(row_count > 0 for _, row_count, _ in loaded.values())
    # One for the list, and a gate that opened at its first poll would have tested nothing.
    assert len(run.sandbox.requests(CONNECTION_DATASETS)) > 2


def test_scope_gate_hands_the_ready_datasets_to_a_taskflow_task(run_example) -> None:
    run = run_example("faraday_scope_gate")

    assert run.exit_status == 0, run.log
    assert run.states == {"wait_until_ready": "success", "summarize": "success"}
    assert run.xcoms["summarize"].keys() == {"customers", "orders"}
    assert all("sample" not in dataset for dataset in run.xcoms["wait_until_ready"])
    assert len(run.sandbox.requests(SCOPE_DATASETS)) > 1


def test_list_into_sensor_waits_for_the_listed_datasets(run_example) -> None:
    run = run_example("faraday_list_into_sensor")

    assert run.exit_status == 0, run.log
    assert run.states == {"list_datasets": "success", "wait_until_ready": "success"}
    listed = [dataset["id"] for dataset in run.xcoms["list_datasets"]]
    ready = run.xcoms["wait_until_ready"]
    assert sorted(dataset["id"] for dataset in ready) == sorted(listed)
    assert {dataset["status"] for dataset in ready} == {"ready"}


def test_params_choose_another_connection_whose_failed_dataset_stops_the_run(run_example) -> None:
    run = run_example("faraday_connection_to_warehouse", connection_id="c0000000-0000-4000-8000-000000000002")

    assert run.exit_status != 0
    assert run.states["wait_until_ready"] == "failed"
    assert "load[0]" not in run.states
    assert "return_date" in run.log
