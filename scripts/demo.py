"""``make demo``: run two example DAGs on Airflow against a local Faraday API, and print the events."""

from __future__ import annotations

import re
import sqlite3
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import local_airflow
import source_tables
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.resources import KINDS
from held_builds import builds_begin_at_request
from local_airflow import Failed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from typing import IO

EXAMPLES = Path(__file__).parents[1] / "example_dags"
DAGS_TEST = Path(__file__).parent / "dags_test.py"
CONNECTION_ID = "c0000000-0000-4000-8000-000000000001"
DATASET_ID = "d0000000-0000-4000-8000-000000000007"
TARGET_ID = "70000000-0000-4000-8000-000000000001"
# The demo is to take less than half a minute, most of which Airflow takes to start.
SPEED = 2.0
STEP_SECONDS = 300.0
# Lines from three sources are printed in order of time, so each waits until no earlier one can arrive.
SETTLE = timedelta(seconds=0.5)


class Part(NamedTuple):
    """One of the DAGs that the demo runs.

    :param dag_id: the DAG
    :param requests: descriptions of its requests to Faraday, by patterns of method and path
    :param tasks: descriptions of its succeeded tasks; ``{}`` is the rendered map index
    :param statuses: the statuses of Faraday's resources to print
    """

    dag_id: str
    requests: dict[str, str]
    tasks: dict[str, str]
    statuses: tuple[str, ...]


DATASETS = Part(
    "faraday_connection_to_warehouse",
    {rf"GET /v1/connections/{CONNECTION_ID}/datasets": "polls the datasets"},
    {
        "wait_until_ready": "the sensor succeeds: the input is in Faraday",
        "load": "loaded {}",
        "check_row_count": "{} has as many rows as Faraday reports",
    },
    ("starting", "running", "ready"),
)
PREDICTIONS = Part(
    "faraday_predictions_to_warehouse",
    {
        r"POST /v1/uploads/.*": "sends the file",
        r"POST /v1/datasets/.*": "forces an update of the dataset",
        r"GET /v1/graph": "polls the target and its upstream resources",
        r"GET /v1/targets/.*csv": "downloads the predictions",
    },
    {
        "extract": "wrote tonight's orders to a file",
        "upload": "verified Faraday's copy of the file",
        "wait_for_predictions": "the sensor succeeds: the predictions are delivered",
        "load": "loaded the predictions",
        "check_row_count": "the table has as many rows as Faraday reports",
    },
    ("running", "ready"),
)


class Event(NamedTuple):
    """Something that happened in Faraday or in Airflow."""

    at: datetime
    what: str


def main() -> int:
    """Run the demo.

    :return: the exit status: 0 if the warehouse has the expected tables, 1 if not, 130 after Ctrl-C
    """
    return local_airflow.run_command("demo", _run)


def _run(home: Path, output: IO[bytes]) -> None:
    with Sandbox(speed=SPEED) as sandbox:
        Demo(home, sandbox, output).run()


class Demo:
    """The demo: its Airflow, its warehouse and its Faraday.

    :param home: the ``AIRFLOW_HOME``
    :param sandbox: the local Faraday API
    :param output: the file that Airflow writes its output to
    """

    def __init__(self, home: Path, sandbox: Sandbox, output: IO[bytes]) -> None:
        self._sandbox = sandbox
        self._warehouse = home / "warehouse.db"
        self._metadata = home / "airflow.db"
        self._output = output
        connections = {
            "faraday_default": {"conn_type": "faraday", "host": sandbox.url, "password": sandbox.api_key},
            "warehouse_default": {"conn_type": "sqlite", "host": str(self._warehouse)},
        }
        self._env = local_airflow.environment(home, EXAMPLES, connections) | {
            "AIRFLOW_VAR_FARADAY_FILES": f"file://{home}/files"
        }

    def run(self) -> None:
        """Run both DAGs, and print the events.

        :raises Failed: if one of them fails, or the warehouse does not have the expected tables
        """
        print(f"1. The local Faraday API is running at {self._sandbox.url}.")
        source_tables.fill(self._sandbox, self._warehouse)
        with builds_begin_at_request(self._sandbox) as begun:
            print(f"2. Airflow {version('apache-airflow')} creates its metadata database ...", flush=True)
            local_airflow.migrate(self._env)
            print(f"3. Airflow starts and runs the DAG {DATASETS.dag_id} ...", flush=True)
            process = local_airflow.start(
                self._env, DATASETS.dag_id, PREDICTIONS.dag_id, output=self._output, script=DAGS_TEST
            )
            while not begun.wait(0.1):
                if process.poll() is not None:
                    raise Failed("Airflow did not send a request to Faraday.")
        self._show_datasets()
        self._follow(DATASETS, process)
        self._check_and_show_tables()
        print(f"\n4. Airflow runs the DAG {PREDICTIONS.dag_id} ...", flush=True)
        self._follow(PREDICTIONS, process)
        self._check_and_show_predictions()

    def _show_datasets(self) -> None:
        print(f"\nThe datasets of Faraday connection {CONNECTION_ID}:\n")
        rows = [
            (each["name"], "archived" if each["archived_at"] else "new", each["id"])
            for each in self._datasets()
        ]
        _print_table(("dataset", "status", "id"), rows)

    def _follow(self, part: Part, process: subprocess.Popen[bytes]) -> None:
        """Print status changes in Faraday, requests to it and finished tasks, as they happen.

        :raises Failed: if the DAG run does not succeed
        """
        print("\nEvents, in seconds since Airflow's first request:\n", flush=True)
        deadline = time.monotonic() + STEP_SECONDS
        printed: set[Event] = set()
        state = None
        while state is None:
            time.sleep(0.1)
            state = self._run_state(part) or ("failed" if process.poll() is not None else None)
            if time.monotonic() > deadline:
                raise Failed(f"the DAG run timed out after {STEP_SECONDS:.0f} s.")
            quiet_since = datetime.now(UTC) - SETTLE
            calls = self._calls(part)
            if not calls:
                continue
            begin = min(call.at for call in calls)
            events = {*self._moves(part, begin), *calls, *self._finished_tasks(part)} - printed
            for event in sorted(events):
                if state or event.at < quiet_since:
                    seconds = max(0.0, (event.at - begin).total_seconds())
                    print(f"{seconds:7.1f}  {event.what}", flush=True)
                    printed.add(event)
        if state != "success":
            raise Failed(f"the run of the DAG {part.dag_id} failed.")

    def _calls(self, part: Part) -> list[Event]:
        calls = [
            Event(datetime.fromisoformat(request["time"]), f"Airflow: {what}")
            for request in self._sandbox.requests()
            for pattern, what in part.requests.items()
            if re.fullmatch(pattern, f"{request['method']} {request['path']}")
        ]
        if part is DATASETS and calls:
            # The same request as those of the sensor.
            calls[0] = calls[0]._replace(what="Airflow: lists the datasets")
        return calls

    def _moves(self, part: Part, begin: datetime) -> list[Event]:
        """Return the status changes of the DAG's resources."""
        all_resources = self._sandbox.summaries()
        if part is DATASETS:
            shown = {each["id"] for each in self._datasets()}
        else:
            shown = {DATASET_ID}
            # In the order of the pipeline: upstream resources come first.
            for each in all_resources:
                if shown.intersection(each["upstream_ids"]):
                    shown.add(each["id"])
        labels = {each["id"]: _label(each) for each in all_resources}
        return [
            Event(at, f"Faraday: {labels[move['id']]} is {move['status']}")
            for move in self._sandbox.history()
            if move["id"] in shown
            and move["status"] in part.statuses
            and (at := datetime.fromisoformat(move["at"])) >= begin
        ]

    def _finished_tasks(self, part: Part) -> list[Event]:
        rows = _query(
            self._metadata,
            "SELECT end_date, task_id, rendered_map_index, state FROM task_instance "
            "WHERE dag_id = ? AND state IN ('success', 'failed') AND end_date IS NOT NULL",
            part.dag_id,
        )
        return [
            Event(
                datetime.fromisoformat(ended).replace(tzinfo=UTC),
                "Airflow: " + part.tasks[task_id].format(mapped)
                if state == "success"
                else f"Airflow: {task_id} {mapped or ''} failed",
            )
            for ended, task_id, mapped, state in rows
            if state == "failed" or task_id in part.tasks
        ]

    def _run_state(self, part: Part) -> str | None:
        """Return how the DAG run has ended, or None."""
        rows = _query(
            self._metadata,
            "SELECT state FROM dag_run WHERE dag_id = ? AND state IN ('success', 'failed')",
            part.dag_id,
        )
        return rows[0][0] if rows else None

    def _check_and_show_tables(self) -> None:
        """Print the tables that the first DAG has loaded.

        :raises Failed: if they are not one table per ready dataset, each with Faraday's row count
        """
        expected = {
            f"loaded_{each['name']}": each["row_count"]
            for each in self._datasets()
            if each["status"] == "ready" and not each["archived_at"]
        }
        names = _query(
            self._warehouse, "SELECT name FROM sqlite_master WHERE name LIKE 'loaded%' ORDER BY name"
        )
        found = {name: len(_query(self._warehouse, f'SELECT id FROM "{name}"')) for (name,) in names}
        print(f"\nThe tables that the DAG loaded into the warehouse ({self._warehouse.name}):\n")
        rows = [(name, count, expected.get(name)) for name, count in found.items()]
        _print_table(("table", "rows", "rows in Faraday"), rows)
        if not expected or found != expected:
            raise Failed(
                f"the warehouse has {len(found)} tables, which do not match the {len(expected)} datasets "
                "that are ready in Faraday."
            )

    def _check_and_show_predictions(self) -> None:
        """Print the first rows of the predictions.

        :raises Failed: if the warehouse does not have all rows of the target
        """
        expected = self._sandbox.resource("targets", TARGET_ID)["count"]
        columns = _query(self._warehouse, "SELECT name FROM pragma_table_info('likely_buyers')")
        rows = _query(self._warehouse, "SELECT * FROM likely_buyers")
        print("\nThe first predictions in the table likely_buyers of the warehouse:\n")
        _print_table(tuple(name for (name,) in columns), rows[:3])
        if not expected or len(rows) != expected:
            raise Failed(f"likely_buyers has {len(rows)} rows, but Faraday has delivered {expected}.")
        print(f"\nDone: 4 tables loaded when their datasets were ready, then {len(rows):,} predictions.")

    def _datasets(self) -> list[dict[str, Any]]:
        return [each for each in self._sandbox.datasets() if each["connection_id"] == CONNECTION_ID]


def _query(database: Path, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query, or none if Airflow is writing to the database."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, parameters).fetchall()
    except sqlite3.OperationalError:
        return []


def _label(resource: dict[str, Any]) -> str:
    kind = KINDS[resource["resource_type"]].label
    return resource["name"] if kind == "dataset" else f"{kind} '{resource['name']}'"


def _print_table(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    lines = [header, *[tuple(str(cell) for cell in row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, tuple("-" * width for width in widths))
    for line in lines:
        print("   " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
