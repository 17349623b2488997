"""DatasetsReadyTrigger and the sensor's way through it: what is stored, what is said, what comes back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException, TaskDeferred
from airflow.triggers.base import TriggerEvent

from airflow_provider_faraday.exceptions import (
    DatasetsFailedError,
    FaradayAuthenticationError,
    FaradayConfigurationError,
    FaradayError,
    FaradayInputError,
    FaradayNotFoundError,
    NothingToWaitForError,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.triggers import datasets as triggers
from airflow_provider_faraday.triggers import feed
from airflow_provider_faraday.triggers.datasets import DatasetsReadyTrigger
from raw_server import RawServer, answer, stall

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

CONNECTION = "c0000000-0000-4000-8000-000000000001"
UPLOADS = "c0000000-0000-4000-8000-000000000002"
SCOPE = "50000000-0000-4000-8000-000000000001"
CUSTOMERS = "d0000000-0000-4000-8000-000000000001"
ORDERS = "d0000000-0000-4000-8000-000000000002"
RETURNS = "d0000000-0000-4000-8000-000000000006"

pytestmark = pytest.mark.usefixtures("faraday_default")


@pytest.fixture(autouse=True)
def settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.05)


@pytest.fixture
def building(sandbox: Sandbox) -> Sandbox:
    """Give a sandbox whose scope has one ready and one running dataset."""
    sandbox.set_dataset(CUSTOMERS, status="ready")
    sandbox.set_dataset(ORDERS, status="running")
    return sandbox


def gate(**arguments: Any) -> DatasetsReadySensor:
    return DatasetsReadySensor(task_id="gate", deferrable=True, **{"poke_interval": 0.05} | arguments)


def deferred(sensor: DatasetsReadySensor) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute({})
    return caught.value


def event_of(trigger: DatasetsReadyTrigger) -> Any:
    async def first() -> TriggerEvent:
        return await anext(trigger.run())

    return asyncio.run(asyncio.wait_for(first(), 10)).payload


def test_a_ready_list_is_returned_without_deferring(building: Sandbox) -> None:
    building.set_dataset(ORDERS, status="ready")
    assert [d["name"] for d in gate(scope_id=SCOPE).execute({})] == ["customers", "orders"]


def test_what_is_not_ready_is_deferred_until_it_is(building: Sandbox) -> None:
    sensor = gate(scope_id=SCOPE, fields=["id"])
    deferral = deferred(sensor)
    assert deferral.method_name == "execute_complete"
    building.set_dataset(ORDERS, status="ready")
    event = event_of(deferral.trigger)
    assert event == {"status": "ready", "dataset_ids": [CUSTOMERS, ORDERS]}
    assert sensor.execute_complete({}, event) == [{"id": CUSTOMERS}, {"id": ORDERS}]


def test_the_backstop_of_the_deferral_comes_after_the_triggers_own_deadline(building: Sandbox) -> None:
    before = time.time()
    deferral = deferred(gate(scope_id=SCOPE, timeout=100, poke_interval=7))
    assert before + 100 <= deferral.trigger.deadline <= time.time() + 100
    assert deferral.timeout.total_seconds() > 107


def test_a_stored_trigger_is_what_it_was_in_every_release() -> None:
    """The golden test: arguments stored by any release so far load, and give the same arguments again."""
    stored = {
        "faraday_conn_id": "faraday_default",
        "connection_id": None,
        "scope_id": SCOPE,
        "dataset_ids": [CUSTOMERS],
        "updated_after": "2026-01-02T03:04:05+00:00",
        "fail_on_error": False,
        "allow_empty": True,
        "poke_interval": 60.0,
        "deadline": 1767323045.5,
    }
    path, arguments = DatasetsReadyTrigger(**stored).serialize()
    assert path == "airflow_provider_faraday.triggers.datasets.DatasetsReadyTrigger"
    assert arguments == stored
    assert json.loads(json.dumps(arguments)) == stored


def test_the_sensor_stores_no_secret_and_nothing_but_plain_data(building: Sandbox) -> None:
    sensor = gate(
        datasets=[{"id": ORDERS, "sample": {"email": "a@b.c"}}],
        updated_after=datetime(2026, 1, 1, tzinfo=UTC),
    )
    _, arguments = deferred(sensor).trigger.serialize()
    text = json.dumps(arguments)
    assert building.api_key not in text
    assert "a@b.c" not in text
    assert arguments["dataset_ids"] == [ORDERS]
    assert arguments["updated_after"] == "2026-01-01T00:00:00+00:00"


def test_error_ends_the_wait_with_the_same_words_as_without_deferring(sandbox: Sandbox) -> None:
    sandbox.set_dataset(RETURNS, status="running")
    sensor = gate(connection_id=UPLOADS)
    deferral = deferred(sensor)
    sandbox.set_dataset(RETURNS, status="error", status_error="No such table")
    event = event_of(deferral.trigger)
    assert event == {"status": "failed", "kind": "failed", "dataset_ids": [RETURNS]}
    with pytest.raises(DatasetsFailedError) as late:
        sensor.execute_complete({}, event)
    with pytest.raises(DatasetsFailedError) as at_once:
        DatasetsReadySensor(task_id="gate", connection_id=UPLOADS).execute({})
    assert str(late.value) == str(at_once.value)
    sandbox.set_dataset(RETURNS, status="ready")
    with pytest.raises(DatasetsFailedError, match=RETURNS):
        sensor.execute_complete({}, event)


def test_a_dataset_deleted_while_waiting_ends_the_wait(building: Sandbox) -> None:
    sensor = gate(datasets=[ORDERS])
    deferral = deferred(sensor)
    building.remove_dataset(ORDERS)
    event = event_of(deferral.trigger)
    assert event == {"status": "failed", "kind": "missing", "dataset_ids": [ORDERS]}
    with pytest.raises(FaradayNotFoundError, match=ORDERS):
        sensor.execute_complete({}, event)


def test_a_list_that_empties_while_waiting_ends_the_wait(building: Sandbox) -> None:
    sensor = gate(datasets=[ORDERS])
    deferral = deferred(sensor)
    building.set_dataset(ORDERS, archived=True)
    event = event_of(deferral.trigger)
    assert event["kind"] == "empty"
    with pytest.raises(NothingToWaitForError, match=r"'orders'.*is archived"):
        sensor.execute_complete({}, event)


def test_the_deadline_ends_the_wait_at_the_first_poll_after_it(building: Sandbox) -> None:
    sensor = gate(scope_id=SCOPE, timeout=0.1)
    event = event_of(deferred(sensor).trigger)
    assert event["status"] == "timeout"
    with pytest.raises(
        AirflowSensorTimeout, match=r"run duration of .* exceeds the specified timeout of 0.1"
    ):
        sensor.execute_complete({}, event)


def test_a_deadline_that_passed_while_nothing_ran_still_lets_one_poll_decide(building: Sandbox) -> None:
    trigger = deferred(gate(scope_id=SCOPE)).trigger
    trigger.deadline = time.time() - 1000
    assert event_of(trigger)["seconds_late"] >= 1000
    building.set_dataset(ORDERS, status="ready")
    assert event_of(trigger)["status"] == "ready"


def test_an_outage_is_waited_out(building: Sandbox, faraday_default: Callable[..., None]) -> None:
    faraday_default(extra={"max_attempts": 1})
    trigger = deferred(gate(scope_id=SCOPE)).trigger
    building.set_dataset(ORDERS, status="ready")
    building.fail_next(times=5, status=503)
    asked = len(building.requests())
    assert event_of(trigger)["status"] == "ready"
    assert len(building.requests()) - asked == 6


def test_a_refused_key_ends_the_wait_with_faradays_own_words(building: Sandbox) -> None:
    sensor = gate(scope_id=SCOPE)
    trigger = deferred(sensor).trigger
    building.rotate_key("the-new-key")
    event = event_of(trigger)
    assert event["kind"] == "FaradayAuthenticationError"
    with pytest.raises(FaradayAuthenticationError, match="401 EXPIRED_API_KEY") as caught:
        sensor.execute_complete({}, event)
    assert caught.value.status_code == 401


def test_a_rotated_key_heals_the_wait(building: Sandbox, faraday_default: Callable[..., None]) -> None:
    trigger = deferred(gate(scope_id=SCOPE)).trigger
    building.set_dataset(ORDERS, status="ready")
    building.rotate_key("the-new-key")
    faraday_default(password="the-new-key")
    assert event_of(trigger)["status"] == "ready"


def test_a_connection_that_becomes_unusable_ends_the_wait(
    building: Sandbox, faraday_default: Callable[..., None]
) -> None:
    sensor = gate(scope_id=SCOPE)
    trigger = deferred(sensor).trigger
    faraday_default(password="")
    with pytest.raises(FaradayConfigurationError, match="no API key"):
        sensor.execute_complete({}, event_of(trigger))


def test_what_has_not_changed_is_logged_once(building: Sandbox, task_log: list[str]) -> None:
    trigger = deferred(gate(scope_id=SCOPE, timeout=0.5)).trigger
    task_log.clear()
    event_of(trigger)
    lines = [line for line in task_log if "datasets ready" in line]
    assert lines == [f"INFO 1 of 2 datasets ready; waiting for 'orders' ({ORDERS}): status running"]


@pytest.mark.parametrize("change", ["an outage", "a rebuild"])
def test_what_is_ready_no_more_when_the_worker_asks_is_waited_for_till_the_first_deadline(
    building: Sandbox, faraday_default: Callable[..., None], change: str
) -> None:
    faraday_default(extra={"max_attempts": 1})
    sensor = gate(scope_id=SCOPE)
    first = deferred(sensor)
    building.set_dataset(ORDERS, status="ready")
    event = event_of(first.trigger)
    if change == "an outage":
        building.fail_next(times=1, status=503)
    else:
        building.set_dataset(ORDERS, status="running")
    with pytest.raises(TaskDeferred) as again:
        sensor.execute_complete({}, event, **first.kwargs)
    assert again.value.trigger.deadline == first.trigger.deadline
    assert again.value.kwargs == first.kwargs
    building.set_dataset(ORDERS, status="ready")
    assert len(sensor.execute_complete({}, event_of(again.value.trigger), **again.value.kwargs)) == 2


def test_a_failed_dataset_fails_the_task_though_its_reason_cannot_be_asked_for(
    sandbox: Sandbox, faraday_default: Callable[..., None]
) -> None:
    faraday_default(extra={"max_attempts": 1})
    sandbox.fail_next(times=1, status=503)
    event = {"status": "failed", "kind": "failed", "dataset_ids": [RETURNS]}
    with pytest.raises(DatasetsFailedError, match=f"could not build {RETURNS}"):
        gate(connection_id=UPLOADS).execute_complete({}, event)


def test_a_stuck_api_does_not_outlast_the_deadline(
    faraday_default: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "GRACE_SECONDS", 0.2)
    with RawServer([stall(30)]) as server:
        faraday_default(host=server.url)
        trigger = DatasetsReadyTrigger(
            faraday_conn_id="faraday_default", scope_id=SCOPE, poke_interval=0.05, deadline=time.time() + 0.2
        )
        assert event_of(trigger)["status"] == "timeout"


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        [],
        "ready",
        {"status": "success"},
        {"status": "ready"},
        {"status": "ready", "dataset_ids": None},
        {"status": "failed", "kind": "bad luck", "dataset_ids": []},
        {"status": "error", "kind": "SystemExit", "message": "x"},
        {"status": "error", "kind": "FaradayApiError"},
        {"status": "timeout"},
    ],
)
def test_a_missing_or_unknown_event_fails(event: Any) -> None:
    with pytest.raises(FaradayError, match="which it never does"):
        gate(scope_id=SCOPE).execute_complete({}, event)


def test_soft_fail_skips_what_the_wait_ends_in_and_nothing_else(building: Sandbox) -> None:
    sensor = gate(scope_id=SCOPE, soft_fail=True)
    late = {"event": {"status": "timeout", "seconds_late": 1.0}}
    with pytest.raises(AirflowSkipException):
        sensor.resume_execution("execute_complete", late, {})
    refused = {"status": "error", "kind": "FaradayAuthenticationError", "message": "no", "status_code": 401}
    with pytest.raises(FaradayAuthenticationError):
        sensor.resume_execution("execute_complete", {"event": refused}, {})


def test_never_fail_skips_every_failure() -> None:
    refused = {"status": "error", "kind": "FaradayAuthenticationError", "message": "no", "status_code": 401}
    with pytest.raises(AirflowSkipException):
        gate(scope_id=SCOPE, never_fail=True).execute_complete({}, refused)


@pytest.mark.parametrize("option", ["exponential_backoff", "silent_fail"])
def test_what_a_shared_poll_cannot_honour_is_refused(option: str) -> None:
    with pytest.raises(FaradayInputError, match="deferrable=True shares its polls"):
        gate(scope_id=SCOPE, **{option: True})
    DatasetsReadySensor(task_id="gate", scope_id=SCOPE, **{option: True})


def test_a_list_of_ten_thousand_is_waited_for(faraday_default: Callable[..., None]) -> None:
    body = [
        {"id": f"{n:08x}-0000-4000-8000-000000000000", "status": "ready", "pad": "x"} for n in range(10_000)
    ]
    with RawServer([answer(body=body)]) as server:
        faraday_default(host=server.url)
        trigger = DatasetsReadyTrigger(
            faraday_conn_id="faraday_default", scope_id=SCOPE, poke_interval=0.05, deadline=time.time() + 60
        )
        assert len(event_of(trigger)["dataset_ids"]) == 10_000
