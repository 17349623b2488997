"""Run a sensor through a wait on an Airflow that behaves as if its processes were separate."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any
from unittest import mock

from airflow.providers.common.compat.sdk import DAG
from airflow.triggers.base import TriggerEvent

from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from support.run_dag import AIRFLOW_3, run_dag
from support.waits import missing, playing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.run_dag import TaskRun
    from support.waits import Scene, Wait

MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke", "deferrable": False},
    "reschedule": {"mode": "reschedule", "deferrable": False},
    "deferrable": {"deferrable": True},
}


@dataclass
class SensorRun:
    """What a sensor did.

    :ivar task: the state, return value, exceptions and log of its task
    :ivar executions: how many times a worker executed it
    :ivar triggers: the arguments of its triggers, as JSON
    :ivar events: the events of its triggers, as JSON
    :ivar script_errors: what went wrong with the changes of the scene
    :ivar requests: how many requests the sandbox received, without those for the reasons of a failure
    """

    executions: int = 0
    triggers: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    task: TaskRun = field(init=False)
    script_errors: list[Exception] = field(init=False)
    requests: int = field(init=False)

    @property
    def everything_shown(self) -> str:
        """What Airflow stores in clear text or shows to users."""
        errors = map(repr, self.task.errors)
        return "".join([*self.triggers, *self.events, repr(self.task.xcom), *errors, self.task.log])

    def logs_line(self, words: tuple[str, ...]) -> bool:
        """Return whether a log line has all of these words."""
        return any(not missing(words, line) for line in self.task.log.splitlines())


def run_sensor(name: str, wait: Wait, scene: Scene, *, mode: str) -> SensorRun:
    """Run a sensor through a wait.

    :param name: distinguishes its DAG from others
    """

    def build() -> Any:
        arguments = {"poke_interval": 0.1, "timeout": 240, "retry_delay": timedelta(0)}
        # With a pause, ``dag.test()`` would sleep for a second before it runs the task again.
        arguments |= {"poke_interval": 0} if mode == "reschedule" else {}
        with DAG(dag_id, schedule=None) as dag:
            DatasetsReadySensor(task_id="wait", **{**arguments, **MODES[mode], **wait.sensor})
        return dag

    dag_id = re.sub(r"[^\w.-]", "_", f"{name}-{mode}")
    scene.sandbox.clear_requests()
    wait.start(scene)
    with playing(wait.changes, scene) as script_errors, _separate_processes(build) as run:
        run.task = run_dag(build())["wait"]
    run.script_errors = script_errors
    run.requests = sum(not each["path"].endswith("/logs/ingress") for each in scene.sandbox.requests())
    return run


@contextmanager
def _separate_processes(build: Callable[[], Any]) -> Iterator[SensorRun]:
    """Run each execution with a new task, and pass triggers and events on as JSON.

    ``dag.test()`` uses one task object throughout, and on Airflow 2 one trigger object. Between the processes
    of a real Airflow, their attributes would be lost.
    """
    run = SensorRun()

    def new_task(task_id: str) -> Any:
        run.executions += 1
        return build().get_task(task_id)

    def run_trigger(trigger: Any, *args: Any) -> Any:
        classpath, kwargs = trigger.serialize()
        run.triggers.append(json.dumps(kwargs))
        event = run_inline_trigger(resolve_name(classpath)(**json.loads(run.triggers[-1])), *args)
        run.events.append(json.dumps(event.payload))
        return TriggerEvent(json.loads(run.events[-1]))

    with _new_task_per_execution(new_task) as dag_module:
        run_inline_trigger = dag_module._run_inline_trigger
        with mock.patch.object(dag_module, "_run_inline_trigger", run_trigger):
            yield run


@contextmanager
def _new_task_per_execution(new_task: Callable[[str], Any]) -> Iterator[Any]:
    if not AIRFLOW_3:
        from airflow.models import dag as dag_module
        from airflow.models.taskinstance import TaskInstance

        run_raw_task = TaskInstance._run_raw_task

        def run_new_raw_task(self: Any, *args: Any, **kwargs: Any) -> Any:
            self.task = new_task(self.task_id)
            return run_raw_task(self, *args, **kwargs)

        with mock.patch.object(TaskInstance, "_run_raw_task", run_new_raw_task):
            yield dag_module
        return

    from airflow.sdk.definitions import dag as dag_module
    from airflow.sdk.execution_time import supervisor

    run_task = supervisor.run_task_in_process

    def run_new_task(ti: Any, task: Any, **rest: Any) -> Any:
        return run_task(ti=ti, task=new_task(task.task_id), **rest)

    with mock.patch.object(supervisor, "run_task_in_process", run_new_task):
        yield dag_module
