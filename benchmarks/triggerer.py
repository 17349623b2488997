"""Measure waiting in a real `airflow triggerer`, with a metadata database and deferred tasks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from environment import environment
from server import Counter
from subjects import SUBJECTS, connections

DAG_ID = "waiting"
SIZE = 100
CONTROL = "no polling"
DAG_FILE = """
from airflow.sdk import DAG, BaseOperator

with DAG("{dag_id}", schedule=None):
    for number in range({waiters}):
        BaseOperator(task_id=f"wait_{{number}}")
"""


def _airflow(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


def make_rows(name: str, waiters: int, interval: float) -> None:
    """Create a DAG run of deferred tasks in the database, each with the trigger of its sensor."""
    from airflow.models.dagbag import DBDagBag
    from airflow.models.trigger import Trigger
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger
    from airflow.sdk import timezone
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    now = timezone.utcnow()
    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag(DAG_ID, session=session)
        run = dag.create_dagrun(
            run_id="waiting",
            logical_date=now,
            data_interval=(now, now),
            run_after=now,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            session=session,
        )
        for instance in run.get_task_instances(session=session):
            waits = (
                DateTimeTrigger(now + timedelta(hours=1))
                if name == CONTROL
                else SUBJECTS[name].trigger(0, SIZE, interval)
            )
            trigger = Trigger.from_object(waits)
            session.add(trigger)
            session.flush()
            instance.state = TaskInstanceState.DEFERRED
            instance.trigger_id = trigger.id
            instance.next_method = "execute_complete"
            instance.next_kwargs = {}
            instance.start_date = now
            instance.try_number = 1


DEFERRED = "SELECT count(*) FROM task_instance WHERE state = 'deferred'"
NOT_STARTED = 'SELECT count(*) FROM "trigger" WHERE triggerer_id IS NULL'


def _count(database: Path, query: str) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        count: int = connection.execute(query).fetchone()[0]
    return count


def _cpu(tree: list[psutil.Process]) -> list[float]:
    return [sum(process.cpu_times()[:2]) for process in tree]


def _stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _measure(
    name: str, home: Path, env: dict[str, str], counter: Counter, waiters: int, interval: float, rounds: int
) -> dict[str, Any]:
    subprocess.run(
        [sys.executable, __file__, "rows", name, str(waiters), str(interval)],
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    database = home / "airflow.db"
    log = home / "triggerer.log"
    begun = counter.ask()["requests"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            _airflow("triggerer", "--skip-serve-logs"),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        expected = {CONTROL: 0, "faraday": 1}.get(name, waiters)
        deadline = time.monotonic() + 120
        while _count(database, NOT_STARTED) or counter.ask()["requests"] - begun < expected:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The triggers do not poll: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        time.sleep(2.5 * interval)
        root = psutil.Process(process.pid)
        tree = [root, *root.children(recursive=True)]
        before, cpu, at = counter.ask(), _cpu(tree), time.perf_counter()
        time.sleep(rounds * interval)
        spent = [late - early for early, late in zip(cpu, _cpu(tree), strict=True)]
        elapsed, after = time.perf_counter() - at, counter.ask()
        intervals = elapsed / interval
        result = {
            "subject": name,
            "waiters": waiters,
            "interval": interval,
            "processes": len(tree),
            "cpu_ms_per_interval": 1000 * sum(spent) / intervals,
            "cpu_ms_per_interval_by_process": [round(1000 * one / intervals, 1) for one in spent],
            "cpu_share": sum(spent) / elapsed,
            "requests_per_interval": (after["requests"] - before["requests"]) / intervals,
            "connections_per_interval": (after["connections"] - before["connections"]) / intervals,
            "memory_mb": sum(process.memory_full_info().uss for process in tree) / 1e6,
            "deferred": _count(database, DEFERRED),
            "log_kb": sum(file.stat().st_size for file in (home / "logs").rglob("*.log")) / 1e3,
        }
        if name != CONTROL:
            at = counter.ask([SUBJECTS[name].path(0, SIZE)])["at"]
            deadline = time.time() + 60
            while _count(database, DEFERRED) > waiters / 2 and time.time() < deadline:
                time.sleep(0.05)
            result["ready_to_half_resumed_s"] = time.time() - at
            while (left := _count(database, DEFERRED)) and time.time() < deadline:
                time.sleep(0.05)
            result |= {"ready_to_last_resumed_s": time.time() - at, "not_resumed": left}
    finally:
        _stop(process)
    return result


def main(quick: bool) -> None:
    """Measure each subject in a new triggerer with a new database, and print one JSON object per line."""
    _, tls_port, control_port = json.loads(os.environ["BENCH_PORTS"])
    trusted = Path(os.environ["SSL_CERT_FILE"])
    counter = Counter(control_port)
    waiters, interval, rounds = (50, 2.0, 3) if quick else (500, 5.0, 3)
    with tempfile.TemporaryDirectory(prefix="faraday-bench-") as directory:
        template = Path(directory) / "template"
        (template / "dags").mkdir(parents=True)
        (template / "dags" / "waiting.py").write_text(DAG_FILE.format(dag_id=DAG_ID, waiters=waiters))

        def env_of(home: Path) -> dict[str, str]:
            env = environment(home, trusted=trusted) | connections(tls_port, tls=True)
            # Keep the default log level, because writing logs is part of the cost.
            del env["AIRFLOW__LOGGING__LOGGING_LEVEL"]
            key = "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="
            return env | {"AIRFLOW__CORE__FERNET_KEY": key}

        for command in (("db", "migrate"), ("dags", "reserialize")):
            subprocess.run(_airflow(*command), env=env_of(template), check=True, capture_output=True)
        for name in (CONTROL, "faraday", "dbt-cloud") if not quick else ("faraday", "dbt-cloud"):
            home = Path(directory) / name.replace(" ", "-")
            shutil.copytree(template, home)
            result = _measure(name, home, env_of(home), counter, waiters, interval, rounds)
            print(json.dumps({"kind": "triggerer", **result}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["rows"]:
        make_rows(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    else:
        main("--quick" in sys.argv[1:])
