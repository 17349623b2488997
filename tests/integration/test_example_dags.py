"""Each example DAG runs unchanged against the sandbox, with ``airflow dags test``."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import local_airflow
import source_tables
from airflow_provider_faraday.sandbox import Sandbox
from held_builds import builds_begin_at_request
from support.forks import LOAD_AIRFLOW, RUN_AIRFLOW, Ran, forking
from support.ids import CUSTOMERS, ORDERS, OUTCOME, SCOPE, WAREHOUSE, WEB_ORDERS
from support.run_dag import AIRFLOW_3, AIRFLOW_3_0

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = Path(__file__).parents[2] / "example_dags"
WATCHED = ("faraday_on_update", "faraday_on_predictions")
LIVE_DATASETS = {"customers", "orders", "email_subscribers", "store_visits"}
STORED = f"""
import sys

sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support.run_dag import stored_run

result = stored_run()
"""
CONNECTION_DATASETS = f"/v1/connections/{WAREHOUSE}/datasets"


@dataclass
class ExampleRun:
    """What a run returned, logged and stored."""

    exit_status: int
    log: str
    states: dict[str, str]
    xcoms: dict[str, Any]
    warehouse: Path
    sandbox: Sandbox


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="module")
def loaded_airflow(home: Path) -> Iterator[Callable[[str], Ran]]:
    """Return a function that runs a program in a new process with Airflow, but none of our modules loaded."""
    # By default, Python shows deprecations of the main module only.
    env = local_airflow.environment(home, EXAMPLES) | {"PYTHONWARNINGS": "default"}
    with forking(LOAD_AIRFLOW, env) as run:
        yield run


@pytest.fixture
def run_example(
    home: Path, airflow_home: Path, loaded_airflow: Callable[[str], Ran], tmp_path: Path
) -> Callable[..., ExampleRun]:
    shutil.copy(airflow_home / "migrated.db", home / "airflow.db")

    def run(
        dag_id: str,
        builds_begin_at: int = 1,
        prepare: Callable[[Sandbox], object] = lambda sandbox: None,
        **conf: Any,
    ) -> ExampleRun:
        warehouse = tmp_path / "warehouse.db"
        with Sandbox() as sandbox, builds_begin_at_request(sandbox, builds_begin_at):
            if dag_id == "faraday_connection_to_warehouse":
                source_tables.fill(sandbox, warehouse)
            prepare(sandbox)
            connections = {
                "faraday_default": {
                    "conn_type": "faraday",
                    "host": sandbox.url,
                    "password": sandbox.api_key,
                },
                "warehouse_default": {"conn_type": "sqlite", "host": str(warehouse)},
            }
            env = local_airflow.environment(home, EXAMPLES, connections)
            env["AIRFLOW_VAR_FARADAY_FILES"] = f"file://{tmp_path}/files"

            def airflow(*arguments: str) -> Ran:
                return loaded_airflow(RUN_AIRFLOW.format(env=env, arguments=arguments))

            if AIRFLOW_3_0:
                # `dags test` of Airflow 3.0 rejects outlets of a DAG that is not in the metadata database.
                assert airflow("dags", "reserialize").exit_status == 0
            finished = airflow("dags", "test", dag_id, *(["--conf", json.dumps(conf)] if conf else []))
        states, xcoms = loaded_airflow(STORED).result
        assert sandbox.api_key not in _without_mask_requests(finished.output)
        assert _our_warnings(finished.output) == []
        return ExampleRun(finished.exit_status, finished.output, states, xcoms, warehouse, sandbox)

    return run


def _without_mask_requests(log: str) -> str:
    """Remove the lines in which ``airflow dags test`` of 3.0 logs the secrets that it is about to mask."""
    return re.sub(r"Sending request +msg=MaskSecret\(.*\)", "", log) if AIRFLOW_3_0 else log


def _our_warnings(log: str) -> list[str]:
    """Return the log lines with a Python warning about one of our files."""
    return [
        line
        for line in log.splitlines()
        if re.search(r"(airflow_provider_faraday|example_dags)/", line) and re.search(r"\w+Warning\b", line)
    ]


def query(run: ExampleRun, sql: str) -> list[tuple[Any, ...]]:
    """Return what the warehouse has after the run."""
    with closing(sqlite3.connect(run.warehouse)) as warehouse:
        return warehouse.execute(sql).fetchall()


def test_every_example_has_a_test() -> None:
    text = Path(__file__).read_text()

    tested = {*WATCHED, *re.findall(r'run_example\("(\w+)"', text)}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


def test_connection_to_warehouse_loads_each_ready_dataset(run_example) -> None:
    # The first request lists the datasets, the second is the gate's first poll.
    run = run_example("faraday_connection_to_warehouse", builds_begin_at=2)

    assert run.exit_status == 0, run.log
    assert run.states == {
        **dict.fromkeys(("list_datasets", "wait_until_ready"), "success"),
        **{f"{task_id}[{index}]": "success" for task_id in ("load", "check_row_count") for index in range(4)},
    }
    listed = {dataset["name"] for dataset in run.xcoms["list_datasets"]}
    assert listed == LIVE_DATASETS | {"legacy_orders"}
    loaded = {dataset["name"]: dataset["row_count"] for dataset in run.xcoms["wait_until_ready"]}
    assert loaded.keys() == LIVE_DATASETS
    assert all(row_count > 0 for row_count in loaded.values())
    for name, row_count in loaded.items():
        assert query(run, f"SELECT COUNT(*) FROM loaded_{name}") == [(row_count,)]
    # One request lists the datasets, and the gate polls more than once.
    assert len(run.sandbox.requests(CONNECTION_DATASETS)) > 2


@pytest.mark.once
def test_connection_to_warehouse_fails_if_a_table_has_not_as_many_rows_as_the_dataset(
    run_example, tmp_path
) -> None:
    def remove_a_customer(sandbox: Sandbox) -> None:
        with closing(sqlite3.connect(tmp_path / "warehouse.db")) as warehouse, warehouse:
            warehouse.execute("DELETE FROM customers WHERE id = 1")

    run = run_example("faraday_connection_to_warehouse", prepare=remove_a_customer)

    assert run.exit_status != 0
    assert [run.states[f"check_row_count[{index}]"] for index in range(4)] == ["failed", *["success"] * 3]


def test_predictions_to_warehouse_loads_what_was_built_from_the_uploaded_file(run_example) -> None:
    run = run_example("faraday_predictions_to_warehouse")

    assert run.exit_status == 0, run.log
    assert set(run.states.values()) == {"success"}
    assert run.xcoms["upload"]["skipped"] is False
    uploaded_at = run.xcoms["upload"]["uploaded_at"]
    (delivered,) = run.xcoms["wait_for_predictions"]
    for resource_type, id_ in (("datasets", WEB_ORDERS), ("outcomes", OUTCOME), ("scopes", SCOPE)):
        built_at = run.sandbox.resource(resource_type, id_)["last_updated_output_at"]
        assert uploaded_at[:19] <= built_at <= delivered["last_updated_output_at"]
    assert delivered["count"] == run.xcoms["download"]["count"] > 0
    assert query(run, "SELECT COUNT(*) FROM likely_buyers") == [(delivered["count"],)]


def test_refresh_and_wait_loads_the_build_that_it_requested(run_example) -> None:
    run = run_example("faraday_refresh_and_wait")

    assert run.exit_status == 0, run.log
    tasks = ("load_new_orders", "force_update", "wait_for_that_build", "load_onward")
    assert run.states == dict.fromkeys(tasks, "success")
    (build,) = run.xcoms["wait_for_that_build"]
    requested_at = run.xcoms["force_update"]["requested_at"]
    # One time per dataset, or one for all.
    requested_at = requested_at[ORDERS] if isinstance(requested_at, dict) else requested_at
    assert build["last_updated_output_at"] >= requested_at[:19]
    # Another build may have followed.
    updates = run.sandbox.dataset(ORDERS)["updates"]
    built_at = build["last_updated_output_at"]
    assert build["row_count"] == sum(u["rows_added"] for u in updates if u["datetime"] <= built_at) > 0
    assert query(run, "SELECT * FROM builds") == [(build["last_updated_output_at"], build["row_count"])]


def test_mapped_datasets_rebuilds_each_dataset(run_example) -> None:
    run = run_example("faraday_mapped_datasets")

    assert run.exit_status == 0, run.log
    mapped = ("wait_until_ready", "refresh.force_update", "refresh.count_new_rows")
    assert run.states == {
        "list_datasets": "success",
        **{f"{task_id}[{index}]": "success" for task_id in mapped for index in range(2)},
    }
    rebuilt = [
        request["path"].split("/")[3] for request in run.sandbox.requests() if request["method"] == "POST"
    ]
    assert sorted(rebuilt) == [CUSTOMERS, ORDERS]
    assert all(run.xcoms[f"refresh.count_new_rows[{index}]"] > 0 for index in range(2))


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers: see the next test")
@pytest.mark.parametrize("dag_id", WATCHED)
def test_watched_assets_can_be_run_manually(run_example, dag_id: str) -> None:
    run = run_example(dag_id)

    assert run.exit_status == 0, run.log
    assert run.states == {"show_builds": "success"}


@pytest.mark.skipif(AIRFLOW_3, reason="is about Airflow 2")
def test_watched_assets_say_on_airflow_2_that_they_need_airflow_3(another_airflow_home: Path) -> None:
    listed = subprocess.run(
        local_airflow.airflow("dags", "list-import-errors", "--output", "json"),
        env=local_airflow.environment(another_airflow_home, EXAMPLES),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )

    failed = json.loads(listed.stdout[listed.stdout.index("[{") :])
    assert {Path(each["filepath"]).stem for each in failed} == {*WATCHED}
    for each in failed:
        assert "ResourceUpdatedTrigger requires Airflow 3.0 or later" in each["error"]


def test_scope_gate_opens_when_the_scope_is_ready(run_example) -> None:
    run = run_example("faraday_scope_gate")

    assert run.exit_status == 0, run.log
    assert run.states == {"wait_until_ready": "success", "summarize": "success"}
    (scope,) = run.xcoms["wait_until_ready"]
    assert run.xcoms["summarize"] == {"Likely buyers": scope["population_count"]}
    assert scope["last_updated_output_at"] >= run.sandbox.dataset(ORDERS)["last_updated_output_at"]
    assert len(run.sandbox.requests("/v1/scopes")) > 1


def test_list_into_sensor_waits_for_the_listed_datasets(run_example) -> None:
    run = run_example("faraday_list_into_sensor", builds_begin_at=2)

    assert run.exit_status == 0, run.log
    assert run.states == {"list_datasets": "success", "wait_until_ready": "success"}
    listed = [dataset["id"] for dataset in run.xcoms["list_datasets"]]
    ready = run.xcoms["wait_until_ready"]
    assert sorted(dataset["id"] for dataset in ready) == sorted(listed)
    assert {dataset["status"] for dataset in ready} == {"ready"}


def test_account_health_reports_the_whole_account_and_fails_on_what_is_chosen(run_example) -> None:
    def prepare(sandbox: Sandbox) -> None:
        sandbox.advance(60)
        sandbox.set_dataset(ORDERS, status="error", status_error="No such table")
        old = "2026-01-01T00:00:00.000Z"
        sandbox.set_dataset(CUSTOMERS, last_updated_output_at=old, last_updated_config_at=old)

    # The builds never begin: they would overwrite the error.
    run = run_example("faraday_account_health", builds_begin_at=99, prepare=prepare, fail_on=["in error"])

    assert run.states == {"report": "failed"}
    assert "datasets orders: No such table" in run.log
    assert "datasets customers: last built at 2026-01-01" in run.log
