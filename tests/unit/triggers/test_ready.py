"""Deferred waits: what a sensor stores, the event of its trigger, and how the task resumes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_faraday.exceptions import (
    DatasetsFailedError,
    FaradayAuthenticationError,
    FaradayError,
    FaradayInputError,
)
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from raw_server import answer, stall
from support.accounts import Account
from support.ids import CUSTOMERS, ORDERS, SCOPE
from support.modes import deferral_of, event_of

Build = Callable[..., None]

LIST = f"/scopes/{SCOPE}/datasets"
BOTH = [{"id": CUSTOMERS}, {"id": ORDERS}]


@pytest.fixture
def building(build: Build) -> Build:
    """Let ``orders`` build."""
    build(ORDERS, 1, status="running")
    return build


def gate(**arguments: Any) -> DatasetsReadySensor:
    fields = {"scope_id": SCOPE, "fields": ["id"], "deferrable": True, "poke_interval": 0.03, **arguments}
    return DatasetsReadySensor(task_id="gate", **fields)


@pytest.mark.parametrize("event_only", [False, True], ids=["event and wait", "as airflow dags test"])
def test_a_wait_is_deferred_until_all_are_ready(building: Build, event_only: bool) -> None:
    deferral = deferral_of(gate(updated_after="2026-01-01"))
    assert deferral.method_name == "execute_complete"
    building(ORDERS, 2)
    event = event_of(deferral.trigger)
    assert event.keys() == {"status", "criteria", "deadline"}
    # Rendered again, the template has a later time.
    resumed = gate(updated_after="2027-01-01")
    ready = resumed.execute_complete({}, event, **({} if event_only else deferral.kwargs or {}))
    assert sorted(ready, key=lambda each: each["id"]) == BOTH


def test_the_deferral_outlasts_the_deadline_of_its_trigger(building: Build) -> None:
    before = time.time()
    deferral = deferral_of(gate(timeout=100, poke_interval=7))
    assert before + 100 <= deferral.trigger.deadline <= time.time() + 100  # type: ignore[attr-defined]
    assert deferral.timeout
    assert deferral.timeout.total_seconds() > 107


def test_a_deferral_stores_no_secret_and_no_data(building: Build) -> None:
    named = {"id": ORDERS, "sample": {"email": "a@b.c"}}
    deferral = deferral_of(
        gate(scope_id=None, datasets=[named], updated_after=datetime(2026, 1, 1, tzinfo=UTC))
    )
    _, arguments = deferral.trigger.serialize()
    text = json.dumps([arguments, deferral.kwargs])
    assert "the-key" not in text
    assert "a@b.c" not in text
    assert arguments["source"]["resource_ids"] == [ORDERS]
    assert arguments["criteria"]["updated_after"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("step", "kind", "error"),
    [
        (answer(body=[{"id": ORDERS, "status": "error"}]), "failed", DatasetsFailedError),
        (answer(401), "FaradayAuthenticationError", FaradayAuthenticationError),
    ],
)
def test_a_wait_ends_with_the_same_error_as_in_poke_mode(
    account: Account, building: Build, step: Any, kind: str, error: type[Exception]
) -> None:
    sensor = gate()
    deferral = deferral_of(sensor)
    account.steps[LIST] = step
    with pytest.raises(error) as in_poke_mode:
        gate(deferrable=False).execute({})
    event = event_of(deferral.trigger)
    assert event["kind"] == kind
    # The worker reports it even if Faraday is down.
    account.server.__exit__(None, None, None)
    with pytest.raises(error) as resumed:
        sensor.execute_complete({}, event, **(deferral.kwargs or {}))
    assert str(resumed.value) == str(in_poke_mode.value)
    assert getattr(resumed.value, "status_code", None) == getattr(in_poke_mode.value, "status_code", None)


def test_a_trigger_polls_once_although_its_deadline_has_passed(building: Build) -> None:
    trigger: Any = deferral_of(gate()).trigger
    trigger.deadline = time.time() - 1000
    assert event_of(trigger)["status"] == "timeout"
    building(ORDERS, 2)
    assert event_of(trigger)["status"] == "ready"


def test_a_request_without_a_response_does_not_outlast_the_deadline(
    account: Account, building: Build, set_connection: Callable[..., None]
) -> None:
    set_connection(account.server.url, timeout=0.2)
    trigger = deferral_of(gate(timeout=0.1)).trigger
    account.steps[LIST] = stall(60)
    event = event_of(trigger)
    assert event["status"] == "timeout"
    # Nothing is known of the datasets in this process.
    assert event["pending"].startswith(f"datasets of scope {SCOPE}. The last poll failed: ")


def test_an_unchanged_verdict_is_logged_once(account: Account, building: Build, task_log: list[str]) -> None:
    trigger = deferral_of(gate()).trigger
    task_log.clear()
    account.script = [str, str, str, lambda: building(ORDERS, 2)]
    assert event_of(trigger)["status"] == "ready"
    lines = [line for line in task_log if "datasets ready" in line]
    assert lines == [f"INFO 1 of 2 datasets ready; waiting for: dataset 'orders' ({ORDERS}): status running"]


@pytest.mark.parametrize("deferrable", [True, False], ids=["still deferrable", "not deferrable anymore"])
@pytest.mark.parametrize("change", ["fails", "rebuilds"])
@pytest.mark.parametrize("event_only", [False, True])
def test_a_resumed_wait_that_is_not_ready_defers_again_until_its_deadline(
    account: Account, building: Build, change: str, deferrable: bool, event_only: bool
) -> None:
    first = deferral_of(gate())
    kwargs: dict[str, Any] = {} if event_only else first.kwargs or {}
    building(ORDERS, 2)
    event = event_of(first.trigger)
    if change == "fails":
        account.steps[LIST] = answer(503)
    else:
        building(ORDERS, 2, status="running")
    sensor = gate(deferrable=deferrable)
    with pytest.raises(TaskDeferred) as again:
        sensor.execute_complete({}, event, **kwargs)
    assert again.value.trigger.serialize() == first.trigger.serialize()
    assert again.value.kwargs == first.kwargs
    late = {**event, "deadline": time.time() - 1}
    with pytest.raises(AirflowSensorTimeout):
        sensor.execute_complete({}, late, **({"wait": {**kwargs["wait"], **late}} if kwargs else {}))


@pytest.mark.parametrize(
    "event",
    [
        None,
        "ready",
        {"status": "success"},
        {"status": "ready"},
        {"status": "ready", "criteria": {"updated_after": 5}, "deadline": 1.0},
        {"status": "failed", "kind": "bad luck", "message": "x"},
        {"status": "error", "kind": "SystemExit", "message": 5, "status_code": None},
    ],
)
def test_a_missing_or_unknown_event_fails_the_task(event: Any) -> None:
    with pytest.raises(FaradayError, match="Unexpected trigger event"):
        gate().execute_complete({}, event)


def test_soft_fail_skips_the_task_if_the_triggerer_does_not_respond() -> None:
    with pytest.raises(AirflowSkipException, match="triggerer"):
        gate(soft_fail=True).resume_execution("__fail__", {"error": "Trigger timeout"}, {})


def test_soft_fail_does_not_skip_a_failed_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(*_: object) -> None:
        raise AirflowNotFoundException("faraday_default")

    monkeypatch.setattr(FaradayHook, "get_connection", not_found)
    ready = {"status": "ready", "criteria": {}, "deadline": time.time() + 60}
    with pytest.raises(Exception, match="faraday_default") as caught:
        gate(soft_fail=True).resume_execution("execute_complete", {"event": ready}, {})
    assert not isinstance(caught.value, (AirflowSkipException, AirflowSensorTimeout))


@pytest.mark.parametrize("option", ["exponential_backoff", "silent_fail"])
def test_options_that_a_shared_poll_does_not_support_are_rejected(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FaradayInputError, match="deferrable=True shares its polls"):
        gate(**{option: True})
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    assert DatasetsReadySensor(task_id="gate", scope_id=SCOPE).deferrable
    assert not DatasetsReadySensor(task_id="gate", scope_id=SCOPE, **{option: True}).deferrable
