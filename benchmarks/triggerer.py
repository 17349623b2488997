"""Measure waiting and resuming in a real `airflow triggerer`, with a metadata database and deferred tasks."""

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
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import psutil
from environment import environment
from server import Counter
from subjects import SUBJECTS, connections

DAG_ID = "waiting"
SIZE = 100
CONTROL = "no polling"
COMPARED = ("faraday", "dbt-cloud")
DAG_FILE = """
from airflow.sdk import DAG, BaseOperator

with DAG("{dag_id}", schedule=None):
    for number in range({waiters}):
        BaseOperator(task_id=f"wait_{{number}}")
"""

PHASES = (3, 0, 5, 1, 6, 2, 4)
"""The order of the moments, spread evenly between two polls, at which the resources become ready."""


def _airflow(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


def defer_all(name: str, interval: float, number: int) -> None:
    """Defer all tasks of a DAG run in the database, each with a trigger of its sensor.

    :param number: the list or job that all of them wait for.
    """
    from airflow.models.dagbag import DBDagBag
    from airflow.models.dagrun import DagRun
    from airflow.models.trigger import Trigger
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger
    from airflow.sdk import timezone
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    now = timezone.utcnow()
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == DAG_ID))
        if run is None:
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
            if name == CONTROL:
                waits: Any = DateTimeTrigger(now + timedelta(hours=1))
                kwargs: dict[str, Any] = {}
            else:
                waits = SUBJECTS[name].trigger(number, SIZE, interval)
                kwargs = SUBJECTS[name].kwargs(waits)
            trigger = Trigger.from_object(waits)
            session.add(trigger)
            session.flush()
            instance.state = TaskInstanceState.DEFERRED
            instance.trigger_id = trigger.id
            instance.next_method = "execute_complete"
            instance.next_kwargs = kwargs
            instance.start_date = now
            instance.scheduled_dttm = None
            instance.try_number = 1


DEFERRED = "SELECT count(*) FROM task_instance WHERE state = 'deferred'"
NOT_STARTED = 'SELECT count(*) FROM "trigger" WHERE triggerer_id IS NULL'
RESUMED_AT = "SELECT scheduled_dttm FROM task_instance WHERE scheduled_dttm IS NOT NULL ORDER BY 1"


class Triggerer:
    """Runs `airflow triggerer` for one subject, with a database of its own.

    :param name: the subject.
    :param home: its ``AIRFLOW_HOME``, with a migrated database.
    """

    def __init__(
        self, name: str, home: Path, env: dict[str, str], counter: Counter, waiters: int, interval: float
    ) -> None:
        self.name, self.waiters, self.interval = name, waiters, interval
        self._home, self._env, self._counter = home, env, counter

    def __enter__(self) -> Self:
        self._rows = subprocess.Popen(
            [sys.executable, __file__, "rows", self.name, str(self.interval)],
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._log = self._home / "triggerer.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                _airflow("triggerer", "--skip-serve-logs"),
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.communicate()
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def defer(self, number: int) -> None:
        """Defer all tasks, and wait until their triggers poll.

        :param number: the list or job that all of them wait for.
        """
        begun = self._counter.ask()["requests"]
        assert self._rows.stdin
        assert self._rows.stdout
        self._rows.stdin.write(f"{number}\n")
        self._rows.stdin.flush()
        while (line := self._rows.stdout.readline()) != "deferred\n":
            if not line:
                raise RuntimeError("The tasks could not be deferred. See above.")
        self._until("poll", lambda: not self._query(NOT_STARTED)[0][0])
        self._started_at = time.time()
        expected = {CONTROL: 0, "faraday": 1}.get(self.name, self.waiters)
        self._until("poll", lambda: self._counter.ask()["requests"] - begun >= expected)

    def poll(self, rounds: int) -> dict[str, Any]:
        """Measure the cost of polling."""
        time.sleep(2.5 * self.interval)
        root = psutil.Process(self._process.pid)
        tree = [root, *root.children(recursive=True)]
        before, cpu, at = self._counter.ask(), _cpu(tree), time.perf_counter()
        time.sleep(rounds * self.interval)
        spent = [late - early for early, late in zip(cpu, _cpu(tree), strict=True)]
        elapsed, after = time.perf_counter() - at, self._counter.ask()
        intervals = elapsed / self.interval
        return {
            "kind": "triggerer",
            "subject": self.name,
            "waiters": self.waiters,
            "interval": self.interval,
            "processes": len(tree),
            "cpu_ms_per_interval": 1000 * sum(spent) / intervals,
            "cpu_ms_per_interval_by_process": [round(1000 * one / intervals, 1) for one in spent],
            "cpu_share": sum(spent) / elapsed,
            "requests_per_interval": (after["requests"] - before["requests"]) / intervals,
            "connections_per_interval": (after["connections"] - before["connections"]) / intervals,
            "memory_mb": sum(process.memory_full_info().uss for process in tree) / 1e6,
            "deferred": self._query(DEFERRED)[0][0],
            "log_kb": sum(file.stat().st_size for file in (self._home / "logs").rglob("*.log")) / 1e3,
        }

    def resume(self, number: int, phase: float) -> dict[str, Any]:
        """Measure how long the tasks take to resume after their list or job has become ready.

        :param phase: when that happens, as a fraction of the interval after the beginning of a poll.
        """
        began = 0.0

        def has_begun() -> bool:
            nonlocal began
            began = self._counter.ask()["round_began_at"]
            # A round of polls with all triggers, of which ours ignore their first second.
            return began > max(self._started_at + 1, time.time() - 0.2)

        self._until("poll again", has_begun, every=0.01)
        time.sleep(max(0.0, began + phase * self.interval - time.time()))
        at = self._counter.ask([SUBJECTS[self.name].path(number, SIZE)])["at"]
        self._until("end", lambda: not self._query(DEFERRED)[0][0])
        took = [
            datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() - at
            for (text,) in self._query(RESUMED_AT)
        ]
        return {
            "kind": "resumed",
            "subject": self.name,
            "waiters": self.waiters,
            "interval": self.interval,
            "phase": phase,
            "ready_after_poll_s": at - began,
            "first_s": took[0],
            "half_s": took[(len(took) - 1) // 2],
            "last_s": took[-1],
        }

    def _query(self, query: str) -> list[tuple[Any, ...]]:
        uri = f"file:{self._home / 'airflow.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
            return connection.execute(query).fetchall()

    def _until(self, verb: str, is_so: Callable[[], bool], every: float = 0.1) -> None:
        deadline = time.monotonic() + 120
        while not is_so():
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"The triggers of {self.name} do not {verb}: {text}")
            time.sleep(every)


def _cpu(tree: list[psutil.Process]) -> list[float]:
    return [sum(process.cpu_times()[:2]) for process in tree]


def main(quick: bool) -> None:
    """Measure the subjects, each in a triggerer with a database of its own, and print JSON lines."""
    _, tls_port, control_port = json.loads(os.environ["BENCH_PORTS"])
    trusted = Path(os.environ["SSL_CERT_FILE"])
    counter = Counter(control_port)
    waiters, interval, rounds = (50, 2.0, 3) if quick else (500, 5.0, 3)
    with tempfile.TemporaryDirectory(prefix="faraday-bench-") as directory, ExitStack() as running:
        template = Path(directory) / "template"
        (template / "dags").mkdir(parents=True)
        (template / "dags" / "waiting.py").write_text(DAG_FILE.format(dag_id=DAG_ID, waiters=waiters))

        def env_of(home: Path) -> dict[str, str]:
            env = environment(home, trusted=trusted) | connections(tls_port, tls=True)
            # Keep the default log level, because writing logs is part of the cost.
            del env["AIRFLOW__LOGGING__LOGGING_LEVEL"]
            key = "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="
            return env | {"AIRFLOW__CORE__FERNET_KEY": key}

        def triggerer(name: str) -> Triggerer:
            home = Path(directory) / name.replace(" ", "-")
            shutil.copytree(template, home)
            return Triggerer(name, home, env_of(home), counter, waiters, interval)

        for command in (("db", "migrate"), ("dags", "reserialize")):
            subprocess.run(_airflow(*command), env=env_of(template), check=True, capture_output=True)
        if not quick:
            with triggerer(CONTROL) as control:
                control.defer(0)
                print(json.dumps(control.poll(rounds)), flush=True)
        # The triggerers go on for all rounds. One that has no triggers costs the others next to nothing.
        subjects = []
        for number, position in enumerate(PHASES[:2] if quick else PHASES):
            for name in COMPARED:
                if number == 0:
                    subjects.append(running.enter_context(triggerer(name)))
            for subject in subjects:
                subject.defer(number)
                if number == 0:
                    print(json.dumps(subject.poll(rounds)), flush=True)
                phase = (position + 0.5) / len(PHASES)
                print(json.dumps(subject.resume(number, phase)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["rows"]:
        for line in sys.stdin:
            defer_all(sys.argv[2], float(sys.argv[3]), int(line))
            print("deferred", flush=True)
    else:
        main("--quick" in sys.argv[1:])
