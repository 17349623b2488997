"""Poke, reschedule and deferrable mode end alike: a table of waits, each run in every mode on Airflow."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import pairwise
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSensorTimeout
from airflow.triggers.base import TriggerEvent
from airflow.utils.session import create_session
from sqlalchemy import func, select

from airflow_provider_faraday.exceptions import (
    DatasetsFailedError,
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayInputError,
    FaradayNotFoundError,
    FaradayResponseError,
    NothingToWaitForError,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_rig import AIRFLOW_3, AIRFLOW_3_0

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_faraday.sandbox import Sandbox
    from airflow_rig import DagRunResult, TaskRun

    Step = Callable[["Scene"], object]

MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke", "deferrable": False},
    "reschedule": {"mode": "reschedule", "deferrable": False},
    "deferrable": {"deferrable": True},
}

CONNECTION = "c0000000-0000-4000-8000-000000000001"
EMPTY = "c0000000-0000-4000-8000-000000000003"
SCOPE = "50000000-0000-4000-8000-000000000001"
CUSTOMERS = "d0000000-0000-4000-8000-000000000001"
ORDERS = "d0000000-0000-4000-8000-000000000002"
SUBSCRIBERS = "d0000000-0000-4000-8000-000000000003"
VISITS = "d0000000-0000-4000-8000-000000000004"
NOWHERE = "d0000000-0000-4000-8000-00000000dead"

SCOPE_PATH = f"/scopes/{SCOPE}/datasets"
OLD_KEY = "faraday-sandbox-key"
NEW_KEY = "the-key-after-the-rotation"

CHRONICLES = "d0000000-0000-4000-8000-0000000c0001"
MANY = [f"e0000000-0000-4000-8000-{number:012x}" for number in range(150)]


@dataclass(frozen=True)
class Scene:
    """The sandbox, and the Airflow connection that points to it."""

    sandbox: Sandbox
    connect: Callable[..., None]


def orders(**changes: Any) -> Step:
    """Change the dataset that nearly every wait here waits for."""
    return lambda scene: scene.sandbox.set_dataset(ORDERS, **changes)


def answers(times: int = 1, **fault: Any) -> Step:
    """Make the next answers go wrong."""
    return lambda scene: scene.sandbox.fail_next(times=times, **fault)


def steps(*several: Step) -> Step:
    return lambda scene: [step(scene) for step in several]


def revoke_key(scene: Scene) -> None:
    scene.sandbox.rotate_key(NEW_KEY)


def rotate_key(scene: Scene) -> None:
    scene.sandbox.rotate_key(NEW_KEY)
    scene.connect(password=NEW_KEY)


def remove_orders(scene: Scene) -> None:
    scene.sandbox.remove_dataset(ORDERS)


def add_many(scene: Scene) -> None:
    for dataset_id in MANY:
        scene.sandbox.add_dataset(id=dataset_id, name="one of many", status="ready")


def add_to_empty(scene: Scene, dataset_id: str, **fields: Any) -> None:
    scene.sandbox.add_dataset(id=dataset_id, name="chronicles", connection_id=EMPTY, **fields)


def go_down_for_a_while(scene: Scene) -> None:
    """Refuse TCP connections for so long that several polls find nobody."""

    def away() -> None:
        scene.sandbox.stop()
        time.sleep(1.5)
        orders(status="ready")(scene)
        scene.sandbox.start()

    # Not in the thread that serves: it is the one to be stopped.
    threading.Thread(target=away, name="outage").start()


BUILDING = orders(status="running")
READY = orders(status="ready")
ARCHIVED = orders(archived=True)
ALL_ARCHIVED = steps(ARCHIVED, lambda scene: scene.sandbox.set_dataset(CUSTOMERS, archived=True))
FAILED = orders(status="error", status_error="No such table")
BUILT_EARLIER = orders(
    last_updated_config_at="2026-01-01T00:00:00.000Z", last_updated_output_at="2026-01-31T05:59:59.999Z"
)
BUILT_JUST_IN_TIME = orders(last_updated_output_at="2026-01-31T06:00:00.000Z")


@dataclass(frozen=True)
class Wait:
    """A wait and how it must end, whatever the mode. At first every dataset is ready.

    :param name: what it is about.
    :param sensor: arguments of the sensor besides its mode.
    :param at_first: what the sandbox is like when the wait begins.
    :param after: what changes after how many requests, before the next one is answered.
    :param state: the state that the task ends in.
    :param error: the class of the exception of each failed try.
    :param text: its text; ``#`` stands for a number or id that is new each time.
    :param returned: ids of the datasets that it returns, None where it returns nothing.
    :param polls: how many polls each try takes; empty where the clock decides.
    :param calls_a_poll: how many requests a poll takes.
    :param asks_again: how many requests there are beyond these.
    :param pauses: bounds of the seconds from poll to poll.
    :param logged: what the log must say.
    """

    name: str
    sensor: dict[str, Any] = field(default_factory=lambda: {"scope_id": SCOPE})
    at_first: Step = BUILDING
    after: dict[int, Step] = field(default_factory=dict)
    state: str = "success"
    error: type[Exception] | None = None
    text: str | tuple[str, ...] = ""
    returned: tuple[str, ...] | None = None
    polls: tuple[int, ...] = ()
    calls_a_poll: int = 1
    asks_again: int = 0
    pauses: tuple[float, float] | None = None
    logged: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name.replace(" ", "_")

    @property
    def failed_tries(self) -> int:
        if self.state == "failed":
            return max(len(self.polls), 1)
        return max(len(self.polls) - 1, 0)

    def expected_xcom(self, sandbox: Sandbox) -> list[dict[str, Any]] | None:
        if self.returned is None:
            return None
        fields = self.sensor.get("fields")
        return [
            {
                name: value
                for name, value in sandbox.dataset(dataset_id).items()
                if (name != "sample" if fields is None else name in fields)
            }
            for dataset_id in self.returned
        ]


def ends_ready(name: str, **rest: Any) -> Wait:
    return Wait(name, **{"returned": (CUSTOMERS, ORDERS), **rest})


def fails(name: str, error: type[Exception], text: str, **rest: Any) -> Wait:
    return Wait(name, state="failed", error=error, text=text, **rest)


def skips(name: str, **rest: Any) -> Wait:
    return Wait(name, state="skipped", **rest)


def scope(**more: Any) -> dict[str, Any]:
    return {"scope_id": SCOPE, **more}


BY_SCOPE = f" (Waited for scope {SCOPE} by Airflow connection 'faraday_default'.)"
BY_LIST = " (Waited for the list 'datasets' by Airflow connection 'faraday_default'.)"
COULD_NOT_BUILD = (
    f"Faraday could not build 'orders' ({ORDERS}): No such table. "
    "Mend it in Faraday and clear this task, or set fail_on_error=False to wait for that." + BY_SCOPE
)
NOT_RETURNED = (
    "Faraday does not return {}. Check that the account of the Airflow connection has it." + BY_LIST
)
NOTHING = "There is nothing to wait for: {}. Set allow_empty=True if that is as good as ready."
BOTH_ARCHIVED = f"'customers' ({CUSTOMERS}) is archived; 'orders' ({ORDERS}) is archived"
TIMED_OUT = "Sensor has timed out; run duration of # seconds exceeds the specified timeout of #."
EXPIRED = (
    f"Faraday answered 401 EXPIRED_API_KEY to GET {SCOPE_PATH}: The supplied API key has expired. "
    "Put a new key in the password of Airflow connection 'faraday_default' (Faraday error id #)."
)
UNKNOWN_STATUS = "WARNING This provider does not know the status 'pending'; it counts as not ready."
NOT_ASKED = "WARNING Not ready yet, because Faraday could not be asked: "


def told(status: str, code: str, advice: str) -> str:
    """Give the error's text after the sandbox was told to answer a status, such as ``404 Not Found``."""
    return (
        f"Faraday answered {status.split()[0]} {code} to GET {SCOPE_PATH}: "
        f"The sandbox was told to answer {status}. {advice} (Faraday error id #)."
    )


TOLD_503 = told(
    "503 Service Unavailable",
    "INTERNAL_SERVER_ERROR",
    "This is on Faraday's side: try again later, and tell Faraday's support if it stays",
)
TOLD_404 = told(
    "404 Not Found",
    "NOT_FOUND",
    "Check the id, and that the account of Airflow connection 'faraday_default' is the one that has it",
)
TOLD_403 = told(
    "403 Forbidden",
    "FORBIDDEN",
    "Check what the key of Airflow connection 'faraday_default' may do, and the proxy in between, if any",
)
TOLD_400 = told("400 Bad Request", "BAD_REQUEST", "Check the task's arguments")

OF_ANOTHER_SHAPE = (
    f"Faraday's answer to GET {SCOPE_PATH} (status 200) cannot be read, "
    "Expected `array`, got `object`: 16 bytes of application/json, '{\"datasets\": []}'. "
    "Check that the host of Airflow connection 'faraday_default' is Faraday's API."
)
WAITS = [
    # Ready, sooner or later.
    ends_ready("ready at once", at_first=READY, polls=(1,)),
    ends_ready("a scope becomes ready after several polls", after={3: READY}, polls=(4,)),
    ends_ready(
        "a connection becomes ready after several polls",
        sensor={"connection_id": CONNECTION, "fields": ["id", "status", "no_such_field"]},
        after={3: READY},
        polls=(4,),
        returned=(CUSTOMERS, ORDERS, SUBSCRIBERS, VISITS),
    ),
    ends_ready(
        "named datasets become ready after several polls",
        sensor={"datasets": [ORDERS.upper(), {"id": CUSTOMERS}], "fields": ["id", "sample"]},
        after={3: READY},
        polls=(4,),
    ),
    ends_ready(
        "many named datasets become ready after several polls",
        sensor={"datasets": MANY, "fields": ["id"]},
        at_first=lambda scene: [add_many(scene), scene.sandbox.set_dataset(MANY[-1], status="running")],
        after={5: lambda scene: scene.sandbox.set_dataset(MANY[-1], status="ready")},
        polls=(3,),
        calls_a_poll=2,
        returned=tuple(MANY),
    ),
    ends_ready(
        "an unknown status is waited for, and said once",
        at_first=orders(status="pending"),
        after={2: READY},
        polls=(3,),
        logged=(UNKNOWN_STATUS,),
    ),
    ends_ready(
        "an unknown status midway is waited for",
        after={2: orders(status="pending"), 3: READY},
        polls=(4,),
        logged=(UNKNOWN_STATUS,),
    ),
    ends_ready(
        "a missing status is waited for",
        at_first=orders(unset=["status"]),
        after={1: orders(status=None), 2: READY},
        polls=(3,),
        logged=(f"waiting for 'orders' ({ORDERS}): no status",),
    ),
    ends_ready(
        "a stale configuration is waited for",
        at_first=orders(last_updated_output_at="2026-01-01T00:00:00.000Z"),
        after={2: READY},
        polls=(3,),
        logged=(f"waiting for 'orders' ({ORDERS}): ready, but its configuration changed at",),
    ),
    ends_ready(
        "updated_after waits for a later build",
        sensor=scope(updated_after="2026-01-31T06:00:00+00:00"),
        at_first=BUILT_EARLIER,
        after={2: BUILT_JUST_IN_TIME},
        polls=(3,),
        logged=("ready, but its last build (2026-01-31 05:59:59Z) is older than 2026-01-31T06:00:00+00:00",),
    ),
    ends_ready(
        "updated_after may be a datetime of any zone",
        sensor=scope(updated_after=datetime(2026, 1, 31, 7, tzinfo=timezone(timedelta(hours=1)))),
        at_first=BUILT_EARLIER,
        after={2: BUILT_JUST_IN_TIME},
        polls=(3,),
    ),
    ends_ready("archived is left out", at_first=ARCHIVED, polls=(1,), returned=(CUSTOMERS,)),
    ends_ready(
        "archived midway is left out from then on",
        after={2: ARCHIVED},
        polls=(3,),
        returned=(CUSTOMERS,),
        logged=(f"left out as archived: 'orders' ({ORDERS})",),
    ),
    ends_ready(
        "added midway is waited for",
        sensor={"connection_id": EMPTY, "allow_empty": True, "fields": ["id"]},
        at_first=lambda scene: add_to_empty(scene, CHRONICLES, status="running"),
        after={
            1: lambda scene: add_to_empty(scene, CHRONICLES[:-1] + "0", status="running"),
            2: lambda scene: scene.sandbox.set_dataset(CHRONICLES, status="ready"),
            3: lambda scene: scene.sandbox.set_dataset(CHRONICLES[:-1] + "0", status="ready"),
        },
        polls=(4,),
        returned=(CHRONICLES, CHRONICLES[:-1] + "0"),
    ),
    # Errors of a build.
    fails("error at once", DatasetsFailedError, COULD_NOT_BUILD, at_first=FAILED, polls=(1,)),
    fails("error midway", DatasetsFailedError, COULD_NOT_BUILD, after={2: FAILED}, polls=(3,)),
    ends_ready(
        "error is waited for on request",
        sensor=scope(fail_on_error=False),
        at_first=FAILED,
        after={2: READY},
        polls=(3,),
    ),
    fails(
        "error is not retried",
        DatasetsFailedError,
        COULD_NOT_BUILD,
        sensor=scope(retries=1),
        after={1: FAILED},
        polls=(2,),
    ),
    skips("error skips under soft_fail", sensor=scope(soft_fail=True), at_first=FAILED, polls=(1,)),
    skips("error midway skips under soft_fail", sensor=scope(soft_fail=True), after={1: FAILED}, polls=(2,)),
    skips("error skips under never_fail", sensor=scope(never_fail=True), at_first=FAILED, polls=(1,)),
    skips(
        "error midway skips under never_fail", sensor=scope(never_fail=True), after={1: FAILED}, polls=(2,)
    ),
    # Nothing to wait for, or not all of it.
    fails(
        "empty",
        NothingToWaitForError,
        NOTHING.format("no dataset is listed")
        + f" (Waited for connection {EMPTY} by Airflow connection 'faraday_default'.)",
        sensor={"connection_id": EMPTY, "retries": 1},
        polls=(1,),
    ),
    ends_ready(
        "empty is ready on request",
        sensor={"connection_id": EMPTY, "allow_empty": True},
        polls=(1,),
        returned=(),
    ),
    skips("empty skips under soft_fail", sensor={"connection_id": EMPTY, "soft_fail": True}, polls=(1,)),
    fails(
        "all archived",
        NothingToWaitForError,
        NOTHING.format(BOTH_ARCHIVED) + BY_SCOPE,
        at_first=ALL_ARCHIVED,
        polls=(1,),
    ),
    fails(
        "all archived midway",
        NothingToWaitForError,
        NOTHING.format(BOTH_ARCHIVED) + BY_SCOPE,
        sensor=scope(retries=1),
        after={2: ALL_ARCHIVED},
        polls=(3,),
    ),
    ends_ready(
        "all archived midway is ready on request",
        sensor=scope(allow_empty=True),
        after={2: ALL_ARCHIVED},
        polls=(3,),
        returned=(),
    ),
    fails(
        "a named dataset is missing",
        FaradayNotFoundError,
        NOT_RETURNED.format(NOWHERE),
        sensor={"datasets": [ORDERS, NOWHERE]},
        polls=(1,),
    ),
    fails(
        "a named dataset is deleted midway",
        FaradayNotFoundError,
        NOT_RETURNED.format(ORDERS),
        sensor={"datasets": [ORDERS, CUSTOMERS]},
        after={2: remove_orders},
        polls=(3,),
    ),
    fails(
        "a named dataset that is missing fails under soft_fail",
        FaradayNotFoundError,
        NOT_RETURNED.format(ORDERS),
        sensor={"datasets": [ORDERS, CUSTOMERS], "soft_fail": True},
        after={1: remove_orders},
        polls=(2,),
    ),
    fails(
        "a named dataset that is missing is retried",
        FaradayNotFoundError,
        NOT_RETURNED.format(ORDERS),
        sensor={"datasets": [ORDERS, CUSTOMERS], "retries": 1},
        after={1: remove_orders},
        polls=(2, 1),
    ),
    ends_ready(
        "a dataset of a scope that is deleted midway is no longer waited for",
        after={2: remove_orders},
        polls=(3,),
        returned=(CUSTOMERS,),
    ),
    # The key.
    fails("401 at once", FaradayAuthenticationError, EXPIRED, at_first=revoke_key, polls=(1,)),
    fails("401 midway fails at once", FaradayAuthenticationError, EXPIRED, after={2: revoke_key}, polls=(3,)),
    ends_ready(
        "a rotated key heals the wait",
        after={2: rotate_key, 4: READY},
        polls=(4,),
        asks_again=1,
        logged=("INFO The key in Airflow connection 'faraday_default' was replaced; using the new one.",),
    ),
    ends_ready(
        "a key that is rotated and not used for long",
        after={3: steps(rotate_key, READY)},
        polls=(4,),
        asks_again=1,
    ),
    fails(
        "401 at once fails under soft_fail",
        FaradayAuthenticationError,
        EXPIRED,
        sensor=scope(soft_fail=True),
        at_first=revoke_key,
        polls=(1,),
    ),
    fails(
        "401 midway fails under soft_fail",
        FaradayAuthenticationError,
        EXPIRED,
        sensor=scope(soft_fail=True),
        after={1: revoke_key},
        polls=(2,),
    ),
    fails(
        "401 is retried",
        FaradayAuthenticationError,
        EXPIRED,
        sensor=scope(retries=1),
        after={1: revoke_key},
        polls=(2, 1),
    ),
    skips("401 skips under never_fail", sensor=scope(never_fail=True), at_first=revoke_key, polls=(1,)),
    skips(
        "401 midway skips under never_fail", sensor=scope(never_fail=True), after={1: revoke_key}, polls=(2,)
    ),
    # Other permanent errors.
    *(
        wait
        for number, text in ((400, TOLD_400), (403, TOLD_403), (404, TOLD_404))
        for error in [FaradayNotFoundError if number == 404 else FaradayApiError]
        for wait in (
            fails(f"{number} at once", error, text, at_first=answers(status=number), polls=(1,)),
            fails(f"{number} midway", error, text, after={2: answers(status=number)}, polls=(3,)),
        )
    ),
    ends_ready(
        "404 midway is retried",
        sensor=scope(retries=1),
        after={1: answers(status=404), 2: READY},
        error=FaradayNotFoundError,
        text=TOLD_404,
        polls=(2, 1),
    ),
    fails(
        "JSON of another shape at once",
        FaradayResponseError,
        OF_ANOTHER_SHAPE,
        at_first=answers(body={"datasets": []}),
        polls=(1,),
    ),
    fails(
        "JSON of another shape midway",
        FaradayResponseError,
        OF_ANOTHER_SHAPE,
        after={2: answers(body={"datasets": []})},
        polls=(3,),
    ),
    # Transient errors: strict at first, patient later.
    fails("503 at once", FaradayApiError, TOLD_503, at_first=answers(status=503), polls=(1,)),
    ends_ready(
        "503 at once is retried",
        sensor=scope(retries=1),
        at_first=steps(READY, answers(status=503)),
        error=FaradayApiError,
        text=TOLD_503,
        polls=(1, 1),
    ),
    fails(
        "the first poll of a retry is strict again",
        FaradayApiError,
        (TOLD_400, TOLD_503),
        sensor=scope(retries=1),
        after={1: steps(answers(status=400), answers(status=503))},
        polls=(2, 1),
    ),
    ends_ready(
        "an outage of many polls with 503",
        after={1: steps(answers(10, status=503), READY)},
        polls=(12,),
        logged=(NOT_ASKED + "Faraday answered 503 INTERNAL_SERVER_ERROR",),
    ),
    ends_ready(
        "an outage of many polls with dropped connections",
        after={1: steps(answers(6, broken="dropped"), READY)},
        polls=(8,),
        logged=(NOT_ASKED + f"No whole answer to GET {SCOPE_PATH} came from http://127.0.0.1:",),
    ),
    ends_ready(
        "an outage of many polls with a proxy's pages",
        after={1: steps(answers(6, broken="html"), READY)},
        polls=(8,),
        logged=(NOT_ASKED + f"Faraday's answer to GET {SCOPE_PATH} (status 200) cannot be read",),
    ),
    ends_ready(
        "an outage of many polls with nobody there",
        after={2: go_down_for_a_while},
        logged=(NOT_ASKED + f"No whole answer to GET {SCOPE_PATH} came from http://127.0.0.1:",),
    ),
    # The clock.
    fails("timeout", AirflowSensorTimeout, TIMED_OUT, sensor=scope(timeout=0.8)),
    fails("timeout is not retried", AirflowSensorTimeout, TIMED_OUT, sensor=scope(timeout=0.8, retries=1)),
    fails(
        "timeout during an outage",
        AirflowSensorTimeout,
        TIMED_OUT,
        sensor=scope(timeout=timedelta(seconds=0.8)),
        after={1: answers(1000, status=503)},
    ),
    skips("timeout skips under soft_fail", sensor=scope(timeout=0.8, soft_fail=True)),
    skips("timeout skips under never_fail", sensor=scope(timeout=0.8, never_fail=True)),
    ends_ready(
        "ready at the first poll, however short the timeout",
        sensor=scope(timeout=0),
        at_first=READY,
        polls=(1,),
    ),
    fails(
        "waiting at the first poll, with no timeout left",
        AirflowSensorTimeout,
        TIMED_OUT,
        sensor=scope(timeout=0),
    ),
    ends_ready(
        "poke_interval is honoured",
        sensor=scope(poke_interval=1.2),
        after={3: READY},
        polls=(4,),
        pauses=(1.2, 2.6),
    ),
    ends_ready(
        "poke_interval may be a timedelta",
        sensor=scope(poke_interval=timedelta(seconds=1.2)),
        after={2: READY},
        polls=(3,),
        pauses=(1.2, 2.6),
    ),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wait", WAITS, ids=str)
def test_a_wait_ends_alike_in_every_mode(
    wait: Wait, mode: str, run_sensor: Callable[..., Run], scene: Scene
) -> None:
    if mode == "deferrable" and wait.polls[:1] > (1,) and len(wait.polls) > 1 and AIRFLOW_3_0:
        pytest.skip("Airflow 3.0 lets a retry go on with the event of the try before, and polls no more.")

    run = run_sensor(f"{wait}-{mode}", wait, **MODES[mode])

    errors = [(type(error), plain(str(error))) for error in run.task.errors]
    texts = wait.text if isinstance(wait.text, tuple) else (wait.text,) * len(errors)
    assert errors == [(wait.error, text) for text in texts]
    assert (run.task.state, len(errors)) == (wait.state, wait.failed_tries)
    assert run.task.xcom == wait.expected_xcom(scene.sandbox)
    assert [line for line in wait.logged if line not in run.task.log] == []
    assert [key for key in (OLD_KEY, NEW_KEY) if key in run.everything_stored + run.task.log] == []
    assert run.script_errors == []
    if wait.polls:
        run.check_polls(wait, mode)


def test_each_mode_really_waits_its_own_way(run_sensor: Callable[..., Run]) -> None:
    wait = ends_ready("its own way", after={3: READY}, polls=(4,))

    runs = {mode: run_sensor(f"own-way-{mode}", wait, **MODES[mode]) for mode in MODES}

    assert {mode: (run.executions, run.reschedules, len(run.triggers)) for mode, run in runs.items()} == {
        "poke": (1, 0, 0),
        "reschedule": (4, 3, 0),
        "deferrable": (2, 0, 1),
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["at once", "midway"])
def test_a_dataset_that_cannot_be_judged_fails_in_every_mode(
    mode: str, when: str, run_sensor: Callable[..., Run]
) -> None:
    nonsense = answers(body=[{"id": ORDERS, "status": 5}])
    wait = Wait("nonsense", at_first=nonsense) if when == "at once" else Wait("nonsense", after={1: nonsense})

    run = run_sensor(f"nonsense-{when}-{mode}", wait, **MODES[mode])

    assert run.task.state == "failed"
    assert type(run.task.error) is FaradayResponseError
    # The sentence around it differs: the worker keeps every field of a dataset, the triggerer decodes seven.
    assert "Expected `str | null`, got `int` - at `$[0].status`" in str(run.task.error)


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize(("max_wait", "third"), [(None, (2.0, 4.5)), (1.4, (1.4, 1.9))])
def test_exponential_backoff_and_max_wait_are_honoured(
    mode: str, max_wait: float | None, third: tuple[float, float], run_sensor: Callable[..., Run]
) -> None:
    backoff = scope(poke_interval=1, exponential_backoff=True, max_wait=max_wait, mode=mode)
    wait = ends_ready("backoff", sensor=backoff, after={3: READY}, polls=(4,))

    run = run_sensor(f"backoff-{max_wait}-{mode}", wait)

    assert run.task.state == "success"
    first, second, last = run.pauses
    assert 0.99 <= first < 2
    assert 0.99 <= second < 2
    assert third[0] - 0.01 <= last < third[1]


@pytest.mark.parametrize(
    "refused",
    [{"exponential_backoff": True}, {"exponential_backoff": True, "max_wait": 5}, {"silent_fail": True}],
)
def test_what_a_shared_poll_cannot_do_is_refused_when_the_dag_is_parsed(refused: dict[str, Any]) -> None:
    with pytest.raises(FaradayInputError, match="takes neither exponential_backoff nor silent_fail"):
        DatasetsReadySensor(task_id="wait", scope_id=SCOPE, deferrable=True, **refused)
    DatasetsReadySensor(task_id="wait", scope_id=SCOPE, deferrable=False, **refused)


@dataclass
class Run:
    """What a sensor did, and how."""

    task: TaskRun
    executions: int
    reschedules: int
    triggers: list[str]
    events: list[str]
    script_errors: list[Exception]
    requests: list[dict[str, Any]]

    @property
    def everything_stored(self) -> str:
        """What Airflow stores in clear text, or shows."""
        return "".join([*self.triggers, *self.events, repr(self.task.xcom), *map(repr, self.task.errors)])

    @property
    def pauses(self) -> list[float]:
        """Seconds from each request to the next."""
        times = [datetime.fromisoformat(request["time"]) for request in self.requests]
        return [(later - earlier).total_seconds() for earlier, later in pairwise(times)]

    def check_polls(self, wait: Wait, mode: str) -> None:
        deferrals = sum(polls > 1 for polls in wait.polls)
        polled = sum(wait.polls) * wait.calls_a_poll + wait.asks_again
        if mode == "deferrable":
            # The worker asks once more when the trigger has seen the end: the event has no more than ids.
            assert polled <= len(self.requests) <= polled + deferrals * wait.calls_a_poll
        else:
            assert len(self.requests) == polled
        assert (
            self.executions
            == {
                "poke": len(wait.polls),
                "reschedule": sum(wait.polls),
                "deferrable": len(wait.polls) + deferrals,
            }[mode]
        )
        assert len(self.triggers) == (deferrals if mode == "deferrable" else 0)
        if mode == "reschedule" and len(wait.polls) == 1:
            assert self.reschedules == wait.polls[0] - 1
        if wait.pauses:
            shortest, longest = wait.pauses
            polls = self.pauses[: polled - 1]
            assert min(polls) >= shortest - 0.02
            assert max(polls) <= longest


@pytest.fixture
def scene(sandbox: Sandbox, faraday_default: Callable[..., None]) -> Scene:
    def connect(**fields: Any) -> None:
        # One request a poll, so that an outage of ten polls is ten requests and no minutes of backing off.
        faraday_default(extra={"max_attempts": 1}, **fields)

    connect()
    for dataset in sandbox.datasets():
        if dataset["archived_at"] is None:
            sandbox.set_dataset(dataset["id"], status="ready")
    return Scene(sandbox, connect)


@pytest.fixture
def run_sensor(
    scene: Scene, run_dag: Callable[..., DagRunResult], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """Give a function that runs a sensor through a wait, on an Airflow that behaves as a real one does."""

    def run(name: str, wait: Wait, **mode: Any) -> Run:
        def build() -> Any:
            arguments = {
                "poke_interval": 0.1,
                "timeout": 60,
                "retry_delay": timedelta(0),
                **wait.sensor,
                **mode,
            }
            with DAG(re.sub(r"[^\w.-]", "_", name), schedule=None) as dag:
                DatasetsReadySensor(task_id="wait", **arguments)
            return dag

        scene.sandbox.clear_requests()
        wait.at_first(scene)
        before = reschedules()
        with (
            playing(wait.after, scene) as script_errors,
            as_in_processes_of_their_own(build, monkeypatch) as watched,
            patient_only_where_it_matters(monkeypatch),
        ):
            task = run_dag(build())["wait"]
        return Run(
            task=task,
            executions=watched.executions,
            reschedules=reschedules() - before,
            triggers=watched.triggers,
            events=watched.events,
            script_errors=script_errors,
            requests=scene.sandbox.requests(),
        )

    return run


@contextmanager
def playing(after: dict[int, Step], scene: Scene) -> Iterator[list[Exception]]:
    """Change the sandbox after the n-th request: when the next one has come in and is not yet answered."""
    errors: list[Exception] = []
    log_request = scene.sandbox.log_request
    played: set[int] = set()

    def play_and_log(entry: dict[str, Any]) -> None:
        number = len(scene.sandbox.requests())
        log_request(entry)
        if number in after and number not in played:
            played.add(number)
            try:
                after[number](scene)
            except Exception as error:
                errors.append(error)

    scene.sandbox.log_request = play_and_log  # type: ignore[method-assign]
    try:
        yield errors
    finally:
        del scene.sandbox.log_request
        errors += [AssertionError(f"nothing came after request {n}") for n in after.keys() - played]


@dataclass
class Watched:
    """What ran: how many executions on a worker, which triggers and events passed through the database."""

    executions: int = 0
    triggers: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


@contextmanager
def as_in_processes_of_their_own(
    build: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Watched]:
    """Give each execution a DAG that was built anew, and each trigger and event only what JSON carries.

    ``dag.test()`` uses one task object throughout, and on Airflow 2 one trigger object: what they remember
    would be forgotten between the processes of a real Airflow.
    """
    watched = Watched()

    def fresh(task_id: str) -> Any:
        watched.executions += 1
        return build().get_task(task_id)

    def run_trigger(trigger: Any, *args: Any) -> Any:
        classpath, kwargs = trigger.serialize()
        stored = json.dumps(kwargs)
        watched.triggers.append(stored)
        event = run_trigger_inline(resolve_name(classpath)(**json.loads(stored)), *args)
        watched.events.append(json.dumps(event.payload))
        return TriggerEvent(json.loads(watched.events[-1]))

    with monkeypatch.context() as patch:
        if AIRFLOW_3:
            from airflow.sdk.definitions import dag as dag_module
            from airflow.sdk.execution_time import supervisor

            # Before 3.3 each execution made an API application of its own, which takes seconds.
            make_api = supervisor.in_process_api_server
            patch.setattr(supervisor, "in_process_api_server", lambda: made_once(make_api))
            run_task = supervisor.run_task_in_process
            patch.setattr(
                supervisor,
                "run_task_in_process",
                lambda ti, task, **rest: run_task(ti=ti, task=fresh(task.task_id), **rest),
            )
        else:
            from airflow.models import dag as dag_module
            from airflow.models.taskinstance import TaskInstance

            run_raw_task = TaskInstance._run_raw_task

            def run_raw_fresh_task(self: Any, *args: Any, **kwargs: Any) -> Any:
                self.task = fresh(self.task_id)
                return run_raw_task(self, *args, **kwargs)

            patch.setattr(TaskInstance, "_run_raw_task", run_raw_fresh_task)
        run_trigger_inline = dag_module._run_inline_trigger
        patch.setattr(dag_module, "_run_inline_trigger", run_trigger)
        yield watched


@cache
def made_once(make: Callable[[], Any]) -> Any:
    return make()


@contextmanager
def patient_only_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let ``dag.test()`` look every 20 ms, and not every second, whether a rescheduled task may go on."""
    sleep = time.sleep

    def sleep_less(seconds: float) -> None:
        code = sys._getframe(1).f_code
        is_dag_test = code.co_name == "test" and code.co_filename.endswith("dag.py")
        sleep(0.02 if is_dag_test else seconds)

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", sleep_less)
        yield


def reschedules() -> int:
    """Count the reschedules of all task instances in the metadata database."""
    from airflow.models.taskreschedule import TaskReschedule

    with create_session() as session:
        return session.scalar(select(func.count()).select_from(TaskReschedule)) or 0


def plain(text: str) -> str:
    """Replace what is new in each error."""
    text = re.sub(r"error id [0-9a-f-]{36}", "error id #", text)
    return re.sub(r"(duration|timeout) of \d+(\.\d+)?", r"\1 of #", text)
