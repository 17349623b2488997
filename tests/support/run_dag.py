"""Run a DAG on real Airflow, in this process, and report what each of its tasks did."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.listeners import hookimpl
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

AIRFLOW = Version(airflow_version)
AIRFLOW_3 = Version("3") <= AIRFLOW
AIRFLOW_3_0 = airflow_version.startswith("3.0.")
AIRFLOW_3_3 = Version("3.3") <= AIRFLOW
# Its prereleases are included.
AIRFLOW_3_4 = AIRFLOW.release >= (3, 4)


@dataclass
class TaskRun:
    """What one task instance did.

    :param state: its final state: ``success``, ``failed``, ``skipped``, ``upstream_failed`` …
    :param xcom: its return value (XCom ``return_value``), or None
    :param errors: one exception per failed try
    :param log: the log lines of all tries and polls, each as ``LEVEL message``
    """

    state: str | None = None
    xcom: Any = None
    errors: list[BaseException | str] = field(default_factory=list)
    log: str = ""

    @property
    def error(self) -> BaseException | str | None:
        """The exception of the last failed try, or None."""
        return self.errors[-1] if self.errors else None


@dataclass
class DagRunResult:
    """A DAG run's state, and its tasks by key: ``load``, or ``load[0]`` if mapped."""

    state: str
    tasks: dict[str, TaskRun]

    def __getitem__(self, key: str) -> TaskRun:
        return self.tasks[key]

    @property
    def states(self) -> dict[str, str | None]:
        return {key: task.state for key, task in self.tasks.items()}


def run_dag(dag: Any, conf: dict[str, Any] | None = None, **arguments: Any) -> DagRunResult:
    """Run a DAG with ``dag.test()`` until it ends; triggers of deferred tasks run in this process.

    :param dag: the DAG; a DAG id can run several times per session
    :param conf: the run's configuration, which overrides ``params``
    :param arguments: other arguments of ``dag.test()``
    """
    if AIRFLOW_3:
        _patch_airflow()
        _register(dag)
    with watching_tasks() as watcher:
        dag_run = dag.test(run_conf=conf, **arguments)
    tasks = {
        _key(ti): TaskRun(
            state=str(ti.state) if ti.state else None,
            xcom=_returned(ti),
            errors=watcher.errors.get(_key(ti), []),
            log="\n".join(watcher.lines.get(_key(ti), [])),
        )
        for ti in dag_run.get_task_instances()
    }
    return DagRunResult(state=str(dag_run.state), tasks=tasks)


def stored_run() -> tuple[dict[str, str | None], dict[str, Any]]:
    """Return the states and the return values of the last run's tasks, which another process has run."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        dag_run: Any = session.scalar(select(DagRun).order_by(DagRun.id.desc()).limit(1))
        tis = dag_run.get_task_instances(session=session)
        returned = {_key(ti): _returned(ti) for ti in tis}
        states = {_key(ti): str(ti.state) if ti.state else None for ti in tis}
    return states, {key: value for key, value in returned.items() if value is not None}


def _key(ti: Any) -> str:
    return ti.task_id if ti.map_index is None or ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"


def _register(dag: Any) -> None:
    # Airflow 3 runs only DAGs that are in the metadata database. A DAG processor stores those in files; this
    # stores a DAG that is not in a file.
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    except ImportError:  # before 3.2
        from airflow.models import dagbag

        DagBag = dagbag.DagBag
        sync_bag_to_db = getattr(dagbag, "sync_bag_to_db", None) or DagBag.sync_to_db  # the latter is for 3.0

    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder="/dev/null")
    dag.relative_fileloc = dag.relative_fileloc or "not_a_file.py"
    bag.dags[dag.dag_id] = dag
    sync_bag_to_db(bag, "dags-folder", None)


@cache
def _patch_airflow() -> None:
    from airflow.sdk.execution_time import supervisor
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    # Before 3.3, each task creates an application of Airflow's API in seconds.
    supervisor.in_process_api_server = cache(supervisor.in_process_api_server)
    if AIRFLOW_3_0:
        # `dag.test()` of 3.0 returns the time as text. Real processes parse it.
        first_reschedule = RuntimeTaskInstance.get_first_reschedule_date

        def as_time(ti: Any, context: Any) -> datetime | None:
            value: Any = first_reschedule(ti, context)
            return datetime.fromisoformat(value) if isinstance(value, str) else value

        RuntimeTaskInstance.get_first_reschedule_date = as_time  # type: ignore[method-assign]


def _returned(ti: Any) -> Any:
    if not AIRFLOW_3:
        return ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index)
    from airflow.models.xcom import XComModel
    from airflow.sdk.execution_time.xcom import XCom
    from airflow.utils.session import create_session
    from sqlalchemy import select

    stored = select(XComModel).where(
        XComModel.dag_id == ti.dag_id,
        XComModel.run_id == ti.run_id,
        XComModel.task_id == ti.task_id,
        XComModel.map_index == ti.map_index,
        XComModel.key == "return_value",
    )
    with create_session() as session:
        row = session.scalar(stored)
        return None if row is None else XCom.deserialize_value(row)


class _Watcher(logging.Handler):
    """Record errors (as an Airflow listener) and log lines (as a log handler) by task."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.current: str | None = None
        self.lines: dict[str, list[str]] = {}
        self.errors: dict[str, list[BaseException | str]] = {}

    @hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:
        self.current = _key(task_instance)

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        self.errors.setdefault(_key(task_instance), []).append(error)

    def record_line(self, level: str, text: str) -> None:
        if self.current is not None:
            self.lines.setdefault(self.current, []).append(f"{level} {text}")

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        self.record_line(record.levelname, text)

    def process(self, logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        """Record a line of structlog: Airflow 3 logs with both structlog and the standard library."""
        text = str(event.get("event"))
        if exc_info := event.get("exc_info"):
            exc_info = sys.exc_info() if exc_info is True else exc_info
            error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
            text += f"\n{type(error).__name__}: {error}"
        self.record_line(str(event.get("level", method)).upper(), text)
        return event


@contextmanager
def watching_tasks() -> Iterator[_Watcher]:
    """Record the errors and log lines of the tasks that run meanwhile."""
    try:
        from airflow.sdk.listener import get_listener_manager
    except ImportError:  # before 3.2
        from airflow.listeners.listener import get_listener_manager

    watcher = _Watcher()
    listeners = get_listener_manager()
    listeners.add_listener(watcher)
    # On Airflow 2, the parent of all task loggers may not propagate to the root logger.
    loggers = [logging.getLogger(), logging.getLogger("airflow.task")]
    if loggers[1].propagate:
        loggers.pop()
    for logger in loggers:
        logger.addHandler(watcher)
    processors: list[Any] = []
    if AIRFLOW_3:
        import structlog

        # Insert it before the renderer, in place: existing loggers share this list.
        processors = structlog.get_config()["processors"]
        processors.insert(len(processors) - 1, watcher.process)
    try:
        yield watcher
    finally:
        if processors:
            processors.remove(watcher.process)
        for logger in loggers:
            logger.removeHandler(watcher)
        listeners.pm.unregister(watcher)
