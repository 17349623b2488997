"""Poke, reschedule and deferrable mode end alike: a table of waits, each run in every mode on Airflow."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSensorTimeout, AirflowTaskTimeout

from airflow_provider_faraday.exceptions import (
    ChecksFailedError,
    DatasetsFailedError,
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayInputError,
    FaradayNotFoundError,
    FaradayResponseError,
    NothingToWaitForError,
    ResourcesFailedError,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.sensors.scopes import ScopesReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from support.ids import (
    CUSTOMERS,
    EMPTY_CONNECTION,
    ORDERS,
    OUTCOME,
    RECOMMENDER,
    SCOPE,
    SUBSCRIBERS,
    TARGET,
    UNKNOWN,
    VISITS,
    WAREHOUSE,
    WAREHOUSE_TARGET,
)
from support.run_dag import AIRFLOW_3, AIRFLOW_3_0
from support.sensor_rig import MODES, run_sensor
from support.waits import Scene, Step, Wait, both, dataset, missing, resource, respond

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_faraday.sandbox import Sandbox
    from support.sensor_rig import SensorRun

SCOPE_PATH = f"/scopes/{SCOPE}/datasets"
OLD_KEY = "faraday-sandbox-key"
NEW_KEY = "the-key-after-the-rotation"
ADDED = [f"dd000000-0000-4000-8000-{number:012x}" for number in range(150)]

# Steps.
READY = dataset(ORDERS, status="ready")
BUILDING = dataset(ORDERS, status="running")
FAILED = dataset(ORDERS, status="error", status_error="No such table")
ARCHIVED = dataset(ORDERS, archived=True)
ALL_ARCHIVED = both(ARCHIVED, dataset(CUSTOMERS, archived=True))
BUILT_TOO_EARLY = dataset(
    ORDERS,
    last_updated_config_at="2026-01-01T00:00:00.000Z",
    last_updated_output_at="2026-01-31T05:59:59.999Z",
)
BUILT_IN_TIME = dataset(ORDERS, last_updated_output_at="2026-01-31T06:00:00.000Z")
OF_ANOTHER_SHAPE = respond(body={"datasets": []})
WITH_A_NUMBER_AS_STATUS = respond(body=[{"id": ORDERS, "status": 5}])

# Words in messages.
COULD_NOT_BUILD = ("orders", ORDERS, "No such table", SCOPE)
ONLY_ARCHIVED = ("customers", CUSTOMERS, "orders", ORDERS, "archived", "allow_empty", SCOPE)
EXPIRED_KEY = ("401", "EXPIRED_API_KEY", SCOPE_PATH, "'faraday_default'")
TIMED_OUT = ("timed out",)


def revoke_key(scene: Scene) -> None:
    scene.sandbox.rotate_key(NEW_KEY)


def rotate_key(scene: Scene) -> None:
    scene.sandbox.rotate_key(NEW_KEY)
    scene.set_connection(password=NEW_KEY)


def remove_orders(scene: Scene) -> None:
    scene.sandbox.remove_dataset(ORDERS)


def add(number: int, **fields: Any) -> Step:
    return lambda scene: scene.sandbox.add_dataset(id=ADDED[number], name=f"added {number}", **fields)


def go_down_for_a_while(scene: Scene) -> None:
    """Refuse TCP connections during several polls."""

    def outage() -> None:
        scene.sandbox.stop()
        time.sleep(3)
        READY(scene)
        scene.sandbox.start()

    # The current thread is the server, which this stops.
    threading.Thread(target=outage, name="outage").start()


def scope(**more: Any) -> dict[str, Any]:
    return {"scope_id": SCOPE, **more}


def succeeds(name: str, **rest: Any) -> Wait:
    return Wait(name, **{"sensor": scope(), "start": BUILDING, "returns": (CUSTOMERS, ORDERS), **rest})


def fails(name: str, error: type[Exception], says: tuple[str, ...], **rest: Any) -> Wait:
    row = {"sensor": scope(), "start": BUILDING, **rest}
    return Wait(name, state="failed", error=error, says=says, **row)


def skips(name: str, **rest: Any) -> Wait:
    return Wait(name, state="skipped", **{"start": BUILDING, **rest})


WAITS = [
    # Ready, sooner or later.
    succeeds("ready at once", start=READY, polls=1),
    succeeds("a scope becomes ready", changes={3: READY}, polls=4),
    succeeds(
        "a Faraday connection becomes ready",
        sensor={"connection_id": WAREHOUSE, "fields": ["id", "status", "no_such_field"]},
        changes={3: READY},
        polls=4,
        returns=(CUSTOMERS, ORDERS, SUBSCRIBERS, VISITS),
    ),
    succeeds(
        "named datasets become ready",
        sensor={"datasets": [ORDERS.upper(), {"id": CUSTOMERS}], "fields": ["id", "sample"]},
        changes={3: READY},
        polls=4,
    ),
    succeeds(
        "a scope is given by name in a template",
        sensor={"scope_id": "{{ 'Likely' }} buyers"},
        start=READY,
        polls=1,
        extra_requests=1,
    ),
    succeeds(
        "more datasets than fit into one request become ready",
        sensor={"datasets": ADDED, "fields": ["id"]},
        start=both(*(add(n, status="ready") for n in range(149)), add(149, status="running")),
        changes={5: dataset(ADDED[149], status="ready")},
        polls=3,
        requests_per_poll=2,
        returns=tuple(ADDED),
    ),
    succeeds(
        "an unknown status counts as not ready, with a warning",
        start=dataset(ORDERS, status="pending"),
        changes={2: READY},
        polls=3,
        logs=(("WARNING", "'pending'"),),
    ),
    succeeds(
        "an unknown status after the first poll counts as not ready, with a warning",
        changes={2: dataset(ORDERS, status="pending"), 3: READY},
        polls=4,
        logs=(("WARNING", "'pending'"),),
    ),
    succeeds(
        "a missing status counts as not ready",
        start=dataset(ORDERS, unset=["status"]),
        changes={1: dataset(ORDERS, status=None), 2: READY},
        polls=3,
        logs=((ORDERS, "no status"),),
    ),
    succeeds(
        "a configuration that is newer than the build counts as not ready",
        start=dataset(ORDERS, last_updated_output_at="2026-01-01T00:00:00.000Z"),
        changes={2: READY},
        polls=3,
        logs=((ORDERS, "configuration"),),
    ),
    succeeds(
        "updated_after waits for a later build",
        sensor=scope(updated_after="2026-01-31T06:00:00+00:00"),
        start=BUILT_TOO_EARLY,
        changes={2: BUILT_IN_TIME},
        polls=3,
        logs=((ORDERS, "05:59:59", "06:00:00"),),
    ),
    succeeds(
        "updated_after can be a datetime in any time zone",
        sensor=scope(updated_after=datetime(2026, 1, 31, 7, tzinfo=timezone(timedelta(hours=1)))),
        start=BUILT_TOO_EARLY,
        changes={2: BUILT_IN_TIME},
        polls=3,
    ),
    succeeds("an archived dataset is left out", start=ARCHIVED, polls=1, returns=(CUSTOMERS,)),
    succeeds(
        "a dataset that is archived during the wait is left out",
        changes={2: ARCHIVED},
        polls=3,
        returns=(CUSTOMERS,),
        logs=(("orders", ORDERS, "archived"),),
    ),
    succeeds(
        "a dataset that is added during the wait is waited for",
        sensor={"connection_id": EMPTY_CONNECTION, "fields": ["id"]},
        start=add(0, connection_id=EMPTY_CONNECTION, status="running"),
        changes={
            1: add(1, connection_id=EMPTY_CONNECTION, status="running"),
            2: dataset(ADDED[0], status="ready"),
            3: dataset(ADDED[1], status="ready"),
        },
        polls=4,
        returns=(ADDED[0], ADDED[1]),
    ),
    succeeds(
        "a dataset that is removed from the scope during the wait is no longer waited for",
        changes={2: remove_orders},
        polls=3,
        returns=(CUSTOMERS,),
    ),
    # Other resource types.
    *(
        wait
        for name, rest in {
            "targets of a scope": {"kind": TargetsReadySensor, "sensor": {"scope_id": SCOPE}},
            "named targets": {"kind": TargetsReadySensor, "sensor": {"targets": [TARGET, WAREHOUSE_TARGET]}},
            "targets of any type": {
                "kind": ResourcesReadySensor,
                "sensor": {"resource_type": "targets", "resource_ids": [TARGET, WAREHOUSE_TARGET]},
            },
        }.items()
        for wait in (
            succeeds(
                f"{name} become ready",
                **rest,
                resource_type="targets",
                start=resource("targets", TARGET, status="running"),
                changes={3: resource("targets", TARGET, status="ready")},
                polls=4,
                returns=(TARGET, WAREHOUSE_TARGET),
                logs=(("target", TARGET, "running"),),
            ),
            fails(
                "a ready dataset does not pass its checks",
                ChecksFailedError,
                ("orders", ORDERS, "row_count", "geq_to"),
                sensor=scope(checks={"row_count": {"geq_to": 10**9}}),
                changes={3: READY},
                polls=4,
            ),
            fails(
                f"{name} fail",
                ResourcesFailedError,
                ("target", TARGET, "No such bucket"),
                **rest,
                resource_type="targets",
                start=resource("targets", TARGET, status="running"),
                changes={2: resource("targets", TARGET, status="error", status_error="No such bucket")},
                polls=3,
            ),
        )
    ),
    succeeds(
        "a scope becomes ready itself",
        kind=ScopesReadySensor,
        resource_type="scopes",
        sensor={"scopes": SCOPE, "updated_after": "2026-01-31T06:00:00+00:00"},
        start=resource("scopes", SCOPE, status="running"),
        changes={2: resource("scopes", SCOPE, status="ready")},
        polls=3,
        returns=(SCOPE,),
    ),
    skips(
        "an outcome fails, soft_fail",
        kind=ResourcesReadySensor,
        resource_type="outcomes",
        sensor={"resource_type": "outcomes", "resource_ids": [OUTCOME], "soft_fail": True},
        start=resource("outcomes", OUTCOME, status="running"),
        changes={1: resource("outcomes", OUTCOME, status="error")},
        polls=2,
        logs=(("WARNING", "soft_fail", "outcome"),),
    ),
    succeeds(
        "a Faraday connection itself becomes ready, without its options",
        kind=ResourcesReadySensor,
        resource_type="connections",
        sensor={"resource_type": "connections", "resource_ids": [WAREHOUSE]},
        start=resource("connections", WAREHOUSE, status="running"),
        changes={2: resource("connections", WAREHOUSE, status="ready")},
        polls=3,
        returns=(WAREHOUSE,),
        logs=(("1 of 1 Faraday connections ready",),),
    ),
    fails(
        "a preview is nothing to wait for",
        NothingToWaitForError,
        ("recommenders", RECOMMENDER, "preview"),
        kind=ResourcesReadySensor,
        resource_type="recommenders",
        sensor={"resource_type": "recommenders", "resource_ids": [RECOMMENDER]},
        polls=1,
    ),
    # Failed builds.
    fails("a failed build at once", DatasetsFailedError, COULD_NOT_BUILD, start=FAILED, polls=1),
    fails("a failed build later", DatasetsFailedError, COULD_NOT_BUILD, changes={2: FAILED}, polls=3),
    succeeds(
        "a failed build with fail_on_error=False",
        sensor=scope(fail_on_error=False),
        start=FAILED,
        changes={2: READY},
        polls=3,
    ),
    fails(
        "a failed build is not retried",
        DatasetsFailedError,
        COULD_NOT_BUILD,
        sensor=scope(retries=1),
        changes={1: FAILED},
        polls=2,
    ),
    skips("a failed build at once, soft_fail", sensor=scope(soft_fail=True), start=FAILED, polls=1),
    skips("a failed build later, soft_fail", sensor=scope(soft_fail=True), changes={1: FAILED}, polls=2),
    skips("a failed build at once, never_fail", sensor=scope(never_fail=True), start=FAILED, polls=1),
    skips("a failed build later, never_fail", sensor=scope(never_fail=True), changes={1: FAILED}, polls=2),
    # Nothing to wait for.
    fails(
        "no datasets",
        NothingToWaitForError,
        (EMPTY_CONNECTION, "allow_empty"),
        sensor={"connection_id": EMPTY_CONNECTION, "retries": 1},
        polls=1,
    ),
    succeeds(
        "no datasets, allow_empty",
        sensor={"connection_id": EMPTY_CONNECTION, "allow_empty": True},
        polls=1,
        returns=(),
    ),
    skips("no datasets, soft_fail", sensor={"connection_id": EMPTY_CONNECTION, "soft_fail": True}, polls=1),
    fails("all archived at once", NothingToWaitForError, ONLY_ARCHIVED, start=ALL_ARCHIVED, polls=1),
    fails(
        "all archived later",
        NothingToWaitForError,
        ONLY_ARCHIVED,
        sensor=scope(retries=1),
        changes={2: ALL_ARCHIVED},
        polls=3,
    ),
    succeeds(
        "all archived later, allow_empty",
        sensor=scope(allow_empty=True),
        changes={2: ALL_ARCHIVED},
        polls=3,
        returns=(),
    ),
    # Named datasets that Faraday does not return.
    fails(
        "an unknown id",
        FaradayNotFoundError,
        (UNKNOWN, "Airflow connection"),
        sensor={"datasets": [ORDERS, UNKNOWN]},
        polls=1,
    ),
    fails(
        "a named dataset is deleted later",
        FaradayNotFoundError,
        (ORDERS, "Airflow connection"),
        sensor={"datasets": [ORDERS, CUSTOMERS]},
        changes={2: remove_orders},
        polls=3,
    ),
    fails(
        "a named dataset is deleted later, soft_fail",
        FaradayNotFoundError,
        (ORDERS,),
        sensor={"datasets": [ORDERS, CUSTOMERS], "soft_fail": True},
        changes={1: remove_orders},
        polls=2,
    ),
    fails(
        "a missing named dataset is retried",
        FaradayNotFoundError,
        (ORDERS,),
        sensor={"datasets": [ORDERS, CUSTOMERS], "retries": 1},
        changes={1: remove_orders},
        polls=(2, 1),
    ),
    # The API key.
    fails("401 at once", FaradayAuthenticationError, EXPIRED_KEY, start=revoke_key, polls=1),
    fails("401 later", FaradayAuthenticationError, EXPIRED_KEY, changes={2: revoke_key}, polls=3),
    succeeds(
        "a rotated key is picked up",
        changes={2: rotate_key, 4: READY},
        polls=4,
        extra_requests=1,
        logs=(("INFO", "key", "'faraday_default'"),),
    ),
    succeeds(
        "a rotated key is picked up at the last poll",
        changes={3: both(rotate_key, READY)},
        polls=4,
        extra_requests=1,
    ),
    fails(
        "401 at once, soft_fail",
        FaradayAuthenticationError,
        EXPIRED_KEY,
        sensor=scope(soft_fail=True),
        start=revoke_key,
        polls=1,
    ),
    fails(
        "401 later, soft_fail",
        FaradayAuthenticationError,
        EXPIRED_KEY,
        sensor=scope(soft_fail=True),
        changes={1: revoke_key},
        polls=2,
    ),
    fails(
        "401 is retried",
        FaradayAuthenticationError,
        EXPIRED_KEY,
        sensor=scope(retries=1),
        changes={1: revoke_key},
        polls=(2, 1),
    ),
    skips("401 at once, never_fail", sensor=scope(never_fail=True), start=revoke_key, polls=1),
    skips("401 later, never_fail", sensor=scope(never_fail=True), changes={1: revoke_key}, polls=2),
    # Other permanent errors.
    *(
        fails(f"{status} {when}", error, (str(status), code, SCOPE_PATH), **row)
        for status, code, error in (
            (400, "BAD_REQUEST", FaradayApiError),
            (403, "FORBIDDEN", FaradayApiError),
            (404, "NOT_FOUND", FaradayNotFoundError),
        )
        for when, row in (
            ("at once", {"start": respond(status=status), "polls": 1}),
            ("later", {"changes": {2: respond(status=status)}, "polls": 3}),
        )
    ),
    succeeds(
        "404 later is retried",
        sensor=scope(retries=1),
        changes={1: respond(status=404), 2: READY},
        error=FaradayNotFoundError,
        says=("404",),
        polls=(2, 1),
    ),
    *(
        fails(f"{what} {when}", FaradayResponseError, says, **row)
        for what, response, says in (
            ("JSON of another shape", OF_ANOTHER_SHAPE, (SCOPE_PATH, "array")),
            ("a number as status", WITH_A_NUMBER_AS_STATUS, ("$[0].status",)),
        )
        for when, row in (
            ("at once", {"start": response, "polls": 1}),
            ("later", {"changes": {2: response}, "polls": 3}),
        )
    ),
    # Transient errors: the first poll is strict, later polls are patient.
    fails("503 at once", FaradayApiError, ("503", SCOPE_PATH), start=respond(status=503), polls=1),
    succeeds(
        "503 at once is retried",
        sensor=scope(retries=1),
        start=both(READY, respond(status=503)),
        error=FaradayApiError,
        says=("503",),
        polls=(1, 1),
    ),
    succeeds(
        "503 for many polls",
        changes={1: both(respond(10, status=503), READY)},
        polls=12,
        logs=(("WARNING", "503", SCOPE_PATH),),
    ),
    succeeds(
        "dropped TCP connections for many polls",
        changes={1: both(respond(6, broken="dropped"), READY)},
        polls=8,
        logs=(("WARNING", SCOPE_PATH, "127.0.0.1"),),
    ),
    succeeds(
        "a proxy's HTML pages for many polls",
        changes={1: both(respond(6, broken="html"), READY)},
        polls=8,
        logs=(("WARNING", SCOPE_PATH, "text/html"),),
    ),
    succeeds(
        "refused TCP connections for many polls",
        changes={2: go_down_for_a_while},
        logs=(("WARNING", SCOPE_PATH, "127.0.0.1"),),
    ),
    # Timeouts and pauses.
    fails("a timeout", AirflowSensorTimeout, TIMED_OUT, sensor=scope(timeout=0.8)),
    fails("a timeout is not retried", AirflowSensorTimeout, TIMED_OUT, sensor=scope(timeout=0.8, retries=1)),
    fails(
        "a timeout during an outage",
        AirflowSensorTimeout,
        TIMED_OUT,
        sensor=scope(timeout=timedelta(seconds=0.8)),
        changes={1: respond(1000, status=503)},
    ),
    skips("a timeout, soft_fail", sensor=scope(timeout=0.8, soft_fail=True)),
    succeeds("a scope becomes ready, never_fail", sensor=scope(never_fail=True), changes={2: READY}, polls=3),
    skips("a timeout, never_fail", sensor=scope(timeout=0.8, never_fail=True)),
    succeeds("ready at once with a timeout of 0", sensor=scope(timeout=0), start=READY, polls=1),
    fails("building with a timeout of 0", AirflowSensorTimeout, TIMED_OUT, sensor=scope(timeout=0)),
    succeeds(
        "poke_interval is the pause between polls",
        sensor=scope(poke_interval=0.7),
        changes={2: READY},
        polls=3,
        pauses=(0.7, 2),
    ),
    succeeds(
        "poke_interval can be a timedelta",
        sensor=scope(poke_interval=timedelta(seconds=0.7)),
        changes={2: READY},
        polls=3,
        pauses=(0.7, 2),
    ),
]


@pytest.fixture
def scene(sandbox: Sandbox, faraday_default: Callable[..., None]) -> Scene:
    def set_connection(**fields: Any) -> None:
        # One request per poll: an outage of ten polls is ten requests, without minutes of backoff.
        faraday_default(extra={"max_attempts": 1}, **fields)

    set_connection()
    for each in sandbox.datasets():
        if each["archived_at"] is None:
            sandbox.set_dataset(each["id"], status="ready")
    return Scene(sandbox, set_connection)


pytestmark = pytest.mark.usefixtures("airflow_home")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wait", WAITS, ids=str)
def test_a_wait_ends_alike_in_every_mode(wait: Wait, mode: str, scene: Scene) -> None:
    if mode == "deferrable" and wait.polls_per_try[:1] > (1,) and len(wait.polls_per_try) > 1 and AIRFLOW_3_0:
        pytest.skip("On Airflow 3.0, a retry resumes with the event of the previous try and does not poll.")

    run = run_sensor(wait.name, wait, scene, mode=mode)

    assert run.task.state == wait.state
    assert [type(error) for error in run.task.errors] == [wait.error] * wait.failed_tries
    for error in run.task.errors:
        assert missing(wait.says, str(error)) == [], str(error)
    assert run.task.xcom == wait.expected_xcom(scene.sandbox)
    assert [words for words in wait.logs if not run.logs_line(words)] == [], run.task.log
    assert [key for key in (OLD_KEY, NEW_KEY) if key in run.everything_shown] == []
    assert run.script_errors == []
    if wait.polls:
        assert_polls(wait, run, mode)


def assert_polls(wait: Wait, run: SensorRun, mode: str) -> None:
    tries = wait.polls_per_try
    deferrals = sum(polls > 1 for polls in tries) if mode == "deferrable" else 0
    requests = sum(tries) * wait.requests_per_poll + wait.extra_requests
    # A trigger's event may be without the datasets. Then, the worker polls once more.
    assert requests <= len(run.requests) <= requests + deferrals * wait.requests_per_poll
    assert len(run.triggers) == deferrals
    assert run.executions == (sum(tries) if mode == "reschedule" else len(tries) + deferrals)
    if mode == "reschedule" and len(tries) == 1:
        assert len(run.rescheduled) == tries[0] - 1
    if wait.pauses:
        shortest, longest = wait.pauses
        pauses = run.pauses[: requests - 1]
        # On a busy machine, the server notices a request late, and then the next one seems to come early.
        assert min(pauses) >= shortest - 0.1
        assert max(pauses) <= longest


def test_poke_occupies_a_worker_reschedule_comes_back_and_deferrable_uses_one_trigger(scene: Scene) -> None:
    wait = succeeds("each mode in its own way", changes={3: READY}, polls=4)

    runs = {mode: run_sensor("own way", wait, scene, mode=mode) for mode in MODES}

    assert {
        mode: (run.executions, len(run.rescheduled), len(run.triggers)) for mode, run in runs.items()
    } == {
        "poke": (1, 0, 0),
        "reschedule": (4, 3, 0),
        "deferrable": (2, 0, 1),
    }


@pytest.mark.parametrize("mode", MODES)
def test_the_first_poll_of_a_retry_is_strict_again(mode: str, scene: Scene) -> None:
    if mode == "deferrable" and AIRFLOW_3_0:
        pytest.skip("On Airflow 3.0, a retry resumes with the event of the previous try and does not poll.")
    bad_request_then_unavailable = both(respond(status=400), respond(status=503))
    wait = Wait("retry", scope(retries=1), start=BUILDING, changes={1: bad_request_then_unavailable})

    run = run_sensor("strict retry", wait, scene, mode=mode)

    assert run.task.state == "failed"
    assert [error.status_code for error in run.task.errors] == [400, 503]
    assert len(run.requests) == 3


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize("max_wait", [None, 1.4])
def test_exponential_backoff_and_max_wait_set_the_pauses(
    mode: str, max_wait: float | None, scene: Scene
) -> None:
    backoff = scope(poke_interval=1, exponential_backoff=True, max_wait=max_wait)
    wait = succeeds("backoff", sensor=backoff, changes={3: READY}, polls=4)

    run = run_sensor(f"backoff {max_wait}", wait, scene, mode=mode)

    assert run.task.state == "success"
    # Only lower limits: on a busy machine, pauses are longer, and Airflow computes longer ones.
    *earlier, last = run.pauses
    assert min(earlier) >= 0.98
    if max_wait is None:
        assert last >= 1.98
    elif mode == "reschedule":
        assert max(run.pauses) < 1.9


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_timeout_names_what_was_not_ready_and_why(mode: str, soft_fail: bool, scene: Scene) -> None:
    wait = Wait("timeout", scope(timeout=0.8, soft_fail=soft_fail), start=BUILDING)

    run = run_sensor(f"what timed out {soft_fail}", wait, scene, mode=mode)

    assert run.task.state == ("skipped" if soft_fail else "failed")
    words = ("timed out", "orders", ORDERS, "running")
    # Airflow does not show why a task was skipped, so our log must.
    assert run.logs_line(words)
    assert soft_fail or missing(words, str(run.task.error)) == []


@pytest.mark.parametrize("surprise", [BUILDING, respond(status=503)], ids=["building again", "503"])
def test_a_resumed_wait_defers_again_unless_ready_even_if_deferrable_is_now_false(
    surprise: Step, scene: Scene
) -> None:
    sensor = scope()

    def edit_the_dag(scene: Scene) -> None:
        sensor["deferrable"] = False

    # The trigger sends the second and third request, the resumed task the fourth.
    changes = {2: both(READY, edit_the_dag), 3: surprise, 4: READY}
    wait = succeeds("resumed", sensor=sensor, changes=changes)

    run = run_sensor(wait.name, wait, scene, mode="deferrable")

    assert run.task.state == "success"
    assert run.task.xcom == wait.expected_xcom(scene.sandbox)
    assert len(run.triggers) == 2
    assert run.script_errors == []


def test_a_deferred_wait_keeps_an_updated_after_that_was_rendered_from_the_current_time(scene: Scene) -> None:
    def finish_builds(scene: Scene) -> None:
        now = datetime.now(UTC).isoformat()
        for id_ in (CUSTOMERS, ORDERS):
            scene.sandbox.set_dataset(id_, status="ready", last_updated_output_at=now)

    sensor = scope(updated_after="{{ macros.datetime.utcnow().isoformat() }}+00:00", timeout=15)
    wait = succeeds("rendered", sensor=sensor, changes={2: finish_builds})

    run = run_sensor(wait.name, wait, scene, mode="deferrable")

    assert run.script_errors == []
    assert run.task.state == "success"
    assert len(run.triggers) == 1


@pytest.mark.skipif(not AIRFLOW_3, reason="see the next test for Airflow 2")
@pytest.mark.parametrize(("mode", "state"), [("poke", "failed"), ("deferrable", "success")])
def test_execution_timeout_does_not_limit_a_deferred_wait_on_airflow_3(
    mode: str, state: str, scene: Scene
) -> None:
    # Airflow 3 limits each execution on a worker, and nothing while the task is deferred.
    sensor = scope(execution_timeout=timedelta(seconds=2), poke_interval=1)
    wait = Wait("execution timeout", sensor, start=BUILDING, changes={4: READY})

    run = run_sensor(wait.name, wait, scene, mode=mode)

    assert run.task.state == state
    assert [type(error) for error in run.task.errors] == [AirflowTaskTimeout] * (state == "failed")


@pytest.mark.skipif(AIRFLOW_3, reason="is about Airflow 2")
def test_execution_timeout_limits_a_deferred_wait_on_airflow_2(scene: Scene) -> None:
    limit = timedelta(minutes=5)
    BUILDING(scene)
    with DAG("execution_timeout", schedule=None) as dag:
        DatasetsReadySensor(task_id="wait", **scope(deferrable=True, execution_timeout=limit))
    now = datetime.now(UTC)
    dag_run = dag.create_dagrun("running", execution_date=now, run_id="deferred", data_interval=(now, now))
    task_instance = dag_run.get_task_instance("wait")
    task_instance.task = dag.get_task("wait")

    task_instance.run()

    # The scheduler fails a task that is deferred beyond its trigger_timeout.
    assert task_instance.state == "deferred"
    assert task_instance.trigger_timeout == task_instance.start_date + limit


@pytest.mark.parametrize(
    "argument",
    [{"exponential_backoff": True}, {"exponential_backoff": True, "max_wait": 5}, {"silent_fail": True}],
)
def test_deferrable_mode_rejects_arguments_that_a_shared_poll_cannot_honor(argument: dict[str, Any]) -> None:
    with pytest.raises(FaradayInputError, match=r"exponential_backoff.*silent_fail"):
        DatasetsReadySensor(task_id="wait", scope_id=SCOPE, deferrable=True, **argument)
    DatasetsReadySensor(task_id="wait", scope_id=SCOPE, deferrable=False, **argument)
