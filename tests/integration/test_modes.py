"""Poke, reschedule and deferrable mode end alike: a table of waits, each run in every mode on Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_faraday.exceptions import (
    DatasetsFailedError,
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayNotFoundError,
    NothingToWaitForError,
)
from support.ids import (
    CUSTOMERS,
    EMPTY_CONNECTION,
    ORDERS,
    SCOPE,
    SUBSCRIBERS,
    UNKNOWN,
    VISITS,
    WAREHOUSE,
)
from support.run_dag import AIRFLOW_3_0
from support.sensor_rig import MODES, run_sensor
from support.waits import Scene, Wait, both, dataset, missing, respond

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_faraday.sandbox import Sandbox

SCOPE_PATH = f"/scopes/{SCOPE}/datasets"
OLD_KEY = "faraday-sandbox-key"
NEW_KEY = "the-key-after-the-rotation"

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

# Words in messages.
COULD_NOT_BUILD = ("orders", ORDERS, "No such table", SCOPE)
EXPIRED_KEY = ("401", "EXPIRED_API_KEY", SCOPE_PATH, "'faraday_default'")
NOT_READY_IN_TIME = ("timed out", "orders", ORDERS, "running")


def revoke_key(scene: Scene) -> None:
    scene.sandbox.rotate_key(NEW_KEY)


def rotate_key(scene: Scene) -> None:
    scene.sandbox.rotate_key(NEW_KEY)
    scene.set_connection(password=NEW_KEY)


def remove_orders(scene: Scene) -> None:
    scene.sandbox.remove_dataset(ORDERS)


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
    succeeds("ready at once, with a timeout of 0", sensor=scope(timeout=0), start=READY, polls=1),
    succeeds(
        "a Faraday connection becomes ready",
        sensor={"connection_id": WAREHOUSE, "fields": ["id", "status", "no_such_field"]},
        changes={3: READY},
        polls=4,
        returns=(CUSTOMERS, ORDERS, SUBSCRIBERS, VISITS),
    ),
    succeeds(
        "an unknown status counts as not ready",
        changes={2: dataset(ORDERS, status="pending"), 3: READY},
        polls=4,
        logs=(("unknown status pending",),),
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
        "a dataset that is archived during the wait is skipped",
        changes={2: ARCHIVED},
        polls=3,
        returns=(CUSTOMERS,),
        logs=(("orders", ORDERS, "archived"),),
    ),
    # Failed builds.
    fails(
        "a failed build is not retried",
        DatasetsFailedError,
        COULD_NOT_BUILD,
        sensor=scope(retries=1),
        changes={2: FAILED},
        polls=3,
    ),
    succeeds(
        "a failed build with fail_on_error=False",
        sensor=scope(fail_on_error=False),
        start=FAILED,
        changes={2: READY},
        polls=3,
    ),
    skips("a failed build at once, soft_fail", sensor=scope(soft_fail=True), start=FAILED, polls=1),
    skips(
        "a failed build later, soft_fail",
        sensor=scope(soft_fail=True),
        changes={1: FAILED},
        polls=2,
        logs=(("WARNING", "soft_fail", "No such table"),),
    ),
    # Nothing to wait for.
    fails(
        "no datasets",
        NothingToWaitForError,
        (EMPTY_CONNECTION, "allow_empty"),
        sensor={"connection_id": EMPTY_CONNECTION, "retries": 1},
        polls=1,
    ),
    fails(
        "all archived later",
        NothingToWaitForError,
        ("customers", CUSTOMERS, "orders", ORDERS, "archived", "allow_empty", SCOPE),
        changes={2: ALL_ARCHIVED},
        polls=3,
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
        "a named dataset is deleted later: retried, not skipped",
        FaradayNotFoundError,
        (ORDERS, "Airflow connection"),
        sensor={"datasets": [ORDERS, CUSTOMERS], "retries": 1, "soft_fail": True},
        changes={1: remove_orders},
        polls=(2, 1),
    ),
    # The API key.
    fails(
        "401 later: retried, not skipped",
        FaradayAuthenticationError,
        EXPIRED_KEY,
        sensor=scope(retries=1, soft_fail=True),
        changes={1: revoke_key},
        polls=(2, 1),
    ),
    skips("401 later, never_fail", sensor=scope(never_fail=True), changes={1: revoke_key}, polls=2),
    succeeds(
        "a rotated key is picked up",
        changes={2: rotate_key, 4: READY},
        polls=4,
        extra_requests=1,
        logs=(("INFO", "key", "'faraday_default'"),),
    ),
    # Other errors: the first poll is strict, later polls are patient.
    fails("403 later", FaradayApiError, ("403", SCOPE_PATH), changes={2: respond(status=403)}, polls=3),
    succeeds(
        "503 at once is retried",
        sensor=scope(retries=1),
        start=both(READY, respond(status=503)),
        error=FaradayApiError,
        says=("503",),
        polls=(1, 1),
    ),
    succeeds(
        "503 for several polls",
        changes={1: both(respond(3, status=503), READY)},
        polls=5,
        logs=(("WARNING", "503", SCOPE_PATH),),
    ),
    fails(
        "the first poll of a retry is strict again",
        FaradayApiError,
        (SCOPE_PATH,),
        sensor=scope(retries=1),
        changes={1: both(respond(status=400), respond(status=503))},
        polls=(2, 1),
    ),
    # Timeouts. The log shows why a task was skipped.
    fails(
        "a timeout is not retried",
        AirflowSensorTimeout,
        NOT_READY_IN_TIME,
        sensor=scope(timeout=0.8, retries=1),
        logs=(NOT_READY_IN_TIME,),
    ),
    fails(
        "a timeout during an outage",
        AirflowSensorTimeout,
        ("timed out", "503", SCOPE_PATH),
        sensor=scope(timeout=0.8),
        changes={1: respond(1000, status=503)},
    ),
    skips("a timeout, soft_fail", sensor=scope(timeout=0.8, soft_fail=True), logs=(NOT_READY_IN_TIME,)),
]


@pytest.fixture
def scene(sandbox: Sandbox, faraday_default: Callable[..., None]) -> Scene:
    def set_connection(**fields: Any) -> None:
        # One request per poll: an outage of three polls is three requests, without minutes of backoff.
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
    tries = wait.polls_per_try
    deferrals = sum(polls > 1 for polls in tries) if mode == "deferrable" else 0
    if deferrals and len(tries) > 1 and AIRFLOW_3_0:
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
    if tries:
        requests = sum(tries) + wait.extra_requests
        # A trigger's event has no datasets, so the worker polls once more if they are ready.
        assert requests <= run.requests <= requests + deferrals
        assert len(run.triggers) == deferrals
        assert run.executions == (sum(tries) if mode == "reschedule" else len(tries) + deferrals)
