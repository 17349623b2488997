"""``make demo``: run the main example DAG on Airflow against a local Faraday API, and show what happens."""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import local_airflow
from airflow_provider_faraday.sandbox import Sandbox, SandboxError
from held_builds import builds_begin_at_request

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = Path(__file__).parents[1] / "example_dags"
DAG_ID = "faraday_connection_to_warehouse"
CONNECTION_ID = "c0000000-0000-4000-8000-000000000001"
STEP_SECONDS = 300.0
# Lines from three sources are printed in order of time, so each waits until no earlier one can arrive.
SETTLE = timedelta(seconds=0.5)


class DemoFailed(Exception):
    """Raised if the demo does not succeed; the message says why."""


class Event(NamedTuple):
    """Something that happened in Faraday or in Airflow."""

    at: datetime
    what: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    :return: the exit status: 0 if the warehouse has the expected tables, 1 if not, 130 after Ctrl-C
    """
    parser = argparse.ArgumentParser(description="Run the main example DAG against a local Faraday API.")
    parser.add_argument(
        "--port", type=int, default=0, help="port of the local Faraday API (default: a free port)"
    )
    port = parser.parse_args(arguments).port

    with local_airflow.throw_away_home("faraday-demo-") as home:
        log = home / "airflow.log"
        try:
            with Sandbox(port=port) as sandbox, log.open("wb") as output:
                _run(sandbox, Demo(home, sandbox, output.fileno()))
        except KeyboardInterrupt:
            print("\nStopping; Airflow exits and its files are removed.")
            return 130
        except (DemoFailed, SandboxError) as error:
            print(f"\nThe demo failed: {error}", file=sys.stderr)
            local_airflow.keep_log(log, "faraday-demo-log-")
            return 1
    return 0


class Demo:
    """The Airflow that runs the DAG: its directory, its processes and its metadata database.

    :param home: its ``AIRFLOW_HOME``
    :param sandbox: the local Faraday API that its Airflow connection points to
    :param output: the file descriptor that Airflow writes its output to
    """

    def __init__(self, home: Path, sandbox: Sandbox, output: int) -> None:
        self.warehouse = home / "warehouse.db"
        self._metadata = home / "airflow.db"
        self._output = output
        self._env = local_airflow.environment(
            home,
            EXAMPLES,
            {
                "faraday_default": {"conn_type": "faraday", "host": sandbox.url, "password": sandbox.api_key},
                "warehouse_default": {"conn_type": "sqlite", "host": str(self.warehouse)},
            },
        )

    def airflow(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start an Airflow command in the background."""
        return local_airflow.start(self._env, *arguments, output=self._output)

    def finished_tasks(self) -> list[Event]:
        """Return an event for each finished task of the gate and the load."""
        query = (
            "SELECT end_date, task_id, rendered_map_index, state FROM task_instance "
            "WHERE task_id IN ('wait_until_ready', 'load', 'check_row_count') "
            "AND state IN ('success', 'failed') AND end_date IS NOT NULL"
        )
        try:
            with closing(sqlite3.connect(f"file:{self._metadata}?mode=ro", uri=True)) as database:
                rows = database.execute(query).fetchall()
        except sqlite3.OperationalError:
            # Airflow is writing to it, or has not created it yet.
            return []
        texts = {
            ("wait_until_ready", "success"): "Airflow: the gate opens",
            ("load", "success"): "Airflow: loaded {}",
            ("check_row_count", "success"): "Airflow: {} has as many rows as Faraday reports",
        }
        return [
            Event(
                datetime.fromisoformat(ended).replace(tzinfo=UTC),
                texts.get((task_id, state), f"Airflow: {task_id} {{}} {state}").format(mapped or ""),
            )
            for ended, task_id, mapped, state in rows
        ]


def _run(sandbox: Sandbox, demo: Demo) -> None:
    print(f"1. The local Faraday API is running at {sandbox.url}.")
    with builds_begin_at_request(sandbox) as begun:
        airflow_version = version("apache-airflow")
        print(f"2. Airflow {airflow_version} creates its metadata database (SQLite) ...", flush=True)
        _wait(demo.airflow("db", "migrate"), "airflow db migrate")
        print(f"3. Airflow starts and runs the DAG {DAG_ID} ...", flush=True)
        process = demo.airflow("dags", "test", DAG_ID)
        deadline = time.monotonic() + STEP_SECONDS
        while not begun.wait(0.1):
            if process.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed("Airflow did not send a request to Faraday.")
        _show_datasets(sandbox)
        _follow(sandbox, demo, process)
        _wait(process, f"airflow dags test {DAG_ID}")
    _check_and_show_rows(sandbox, demo.warehouse)


def _show_datasets(sandbox: Sandbox) -> None:
    datasets = _connection_datasets(sandbox)
    print(f"\nThe datasets of Faraday connection {CONNECTION_ID}:\n")
    rows = [(each["name"], "archived" if each["archived_at"] else "new", each["id"]) for each in datasets]
    _print_table(("dataset", "status", "id"), rows)


def _follow(sandbox: Sandbox, demo: Demo, process: subprocess.Popen[bytes]) -> None:
    """Print status changes in Faraday, requests to it and finished tasks, as they happen."""
    print("\nWhat happened, in seconds since Airflow's first call:\n", flush=True)
    begin = datetime.fromisoformat(sandbox.requests()[0]["time"])
    deadline = time.monotonic() + STEP_SECONDS
    printed: set[Event] = set()
    ended = False
    while not ended:
        time.sleep(0.1)
        ended = process.poll() is not None
        if time.monotonic() > deadline:
            raise DemoFailed(f"the DAG run timed out after {STEP_SECONDS:.0f} s.")
        settled = datetime.now(UTC) - SETTLE
        events = {*_moves(sandbox, begin), *_calls(sandbox), *demo.finished_tasks()} - printed
        for event in sorted(events):
            if ended or event.at < settled:
                seconds = max(0.0, (event.at - begin).total_seconds())
                print(f"{seconds:7.1f}  {event.what}", flush=True)
                printed.add(event)


def _moves(sandbox: Sandbox, begin: datetime) -> list[Event]:
    ours = {each["id"] for each in _connection_datasets(sandbox)}
    moves = [(datetime.fromisoformat(move["at"]), move) for move in sandbox.history()]
    return [
        Event(at, f"Faraday: {move['name']} is {move['status']}")
        for at, move in moves
        if move["id"] in ours and at >= begin
    ]


def _calls(sandbox: Sandbox) -> list[Event]:
    first, *others = [datetime.fromisoformat(request["time"]) for request in sandbox.requests()]
    polls = [Event(at, "Airflow: the gate asks whether all are ready") for at in others]
    return [Event(first, "Airflow: lists the datasets"), *polls]


def _check_and_show_rows(sandbox: Sandbox, warehouse: Path) -> None:
    """Print the tables that the load wrote.

    :raises DemoFailed: if they are not one table per ready dataset, each with Faraday's row count
    """
    try:
        with closing(sqlite3.connect(f"file:{warehouse}?mode=ro", uri=True)) as database:
            log = database.execute(
                "SELECT loaded_into, last_updated_output_at, dataset_id FROM faraday_loads ORDER BY 3"
            ).fetchall()
            count = "SELECT COUNT(*) FROM {}"
            rows = [(table, *database.execute(count.format(table)).fetchone(), *rest) for table, *rest in log]
    except sqlite3.OperationalError as error:
        raise DemoFailed(f"the warehouse cannot be read: {error}.") from error
    expected = [
        (f'"loaded_{each["name"]}"', each["row_count"], each["last_updated_output_at"], each["id"])
        for each in _connection_datasets(sandbox)
        if each["status"] == "ready" and not each["archived_at"]
    ]
    print(f"\nThe tables that the load wrote into the warehouse ({warehouse.name}):\n")
    _print_table(("table", "rows", "last_updated_output_at", "dataset"), rows)
    if not expected or rows != sorted(expected, key=lambda row: row[3]):
        raise DemoFailed(
            f"the warehouse has {len(rows)} tables, which do not match the {len(expected)} datasets that are "
            "ready in Faraday."
        )
    print(f"\nDone: {len(rows)} ready datasets, {len(rows)} tables loaded, and the archived one left out.")


def _connection_datasets(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [each for each in sandbox.datasets() if each["connection_id"] == CONNECTION_ID]


def _print_table(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    lines = [header, *[tuple(str(cell) for cell in row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, tuple("-" * width for width in widths))
    for line in lines:
        print("   " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _wait(process: subprocess.Popen[bytes], what: str) -> None:
    try:
        status = process.wait(STEP_SECONDS)
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"'{what}' timed out after {STEP_SECONDS:.0f} s.") from None
    if status != 0:
        raise DemoFailed(f"'{what}' exited with status {status}.")


if __name__ == "__main__":
    sys.exit(main())
