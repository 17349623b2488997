"""Deferred waits: what a sensor stores, what its trigger yields, and how the task resumes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_faraday.api.readiness import Criteria
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
from airflow_provider_faraday.triggers.resources import ResourcesReadyTrigger
from airflow_provider_faraday.waiting import deferred as deferred_waits
from airflow_provider_faraday.waiting import feed
from airflow_provider_faraday.waiting.wait import Wait
from raw_server import RawServer, answer, stall
from support.ids import CUSTOMERS, ORDERS, RETURNS, SCOPE, UPLOADS

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("faraday_default")

REJECTED = {"status": "error", "kind": "FaradayAuthenticationError", "message": "no", "status_code": 401}
TIMED_OUT = {"status": "timeout", "pending": "'orders': status running"}


@pytest.fixture(autouse=True)
def settle_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(feed, "TICK_SECONDS", 0.01)


@pytest.fixture
def building(sandbox: Sandbox) -> Sandbox:
    """Return a sandbox whose scope has a ready and a running dataset."""
    sandbox.set_dataset(CUSTOMERS, status="ready")
    sandbox.set_dataset(ORDERS, status="running")
    return sandbox


def gate(**arguments: Any) -> DatasetsReadySensor:
    return DatasetsReadySensor(task_id="gate", deferrable=True, **{"poke_interval": 0.05} | arguments)


def deferred(sensor: DatasetsReadySensor) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute({})
    return caught.value


def event_of(trigger: BaseTrigger) -> Any:
    async def first() -> TriggerEvent:
        return await anext(trigger.run())

    return asyncio.run(asyncio.wait_for(first(), 10)).payload


def ready_event(deadline: float | None = None) -> dict[str, Any]:
    return {
        "status": "ready",
        "criteria": {"updated_after": None, "fail_on_error": True, "allow_empty": False},
        "deadline": deadline or time.time() + 60,
    }


def test_ready_datasets_are_returned_without_deferring(building: Sandbox) -> None:
    building.set_dataset(ORDERS, status="ready")
    assert [d["name"] for d in gate(scope_id=SCOPE).execute({})] == ["customers", "orders"]


@pytest.mark.parametrize("passed_on", ["event and wait", "event only, as airflow dags test does"])
def test_a_wait_is_deferred_until_all_are_ready(building: Sandbox, passed_on: str) -> None:
    sensor = gate(scope_id=SCOPE, fields=["id"])
    deferral = deferred(sensor)
    assert deferral.method_name == "execute_complete"
    building.set_dataset(ORDERS, status="ready")
    event = event_of(deferral.trigger)
    assert event["status"] == "ready"
    kwargs = deferral.kwargs if passed_on == "event and wait" else {}
    assert sensor.execute_complete({}, event, **kwargs) == [{"id": CUSTOMERS}, {"id": ORDERS}]


def test_a_ready_event_has_no_ids(building: Sandbox) -> None:
    building.set_dataset(ORDERS, status="ready")
    trigger = ResourcesReadyTrigger(
        faraday_conn_id="faraday_default",
        source={"resource_type": "datasets", "resource_ids": [CUSTOMERS, ORDERS]},
        criteria={},
        poke_interval=0.05,
        deadline=time.time() + 60,
    )
    event = event_of(trigger)
    assert event["status"] == "ready"
    assert CUSTOMERS not in json.dumps(event)


def test_the_deferral_outlasts_the_deadline_of_its_trigger(building: Sandbox) -> None:
    before = time.time()
    deferral = deferred(gate(scope_id=SCOPE, timeout=100, poke_interval=7))
    assert before + 100 <= deferral.trigger.deadline <= time.time() + 100
    assert deferral.timeout.total_seconds() > 107


@pytest.mark.parametrize("updated_after", [None, "2026-01-02T03:04:05Z", {ORDERS: "2026-01-02T03:04:05Z"}])
def test_stored_triggers_keep_loading(updated_after: Any) -> None:
    """Arguments that were stored by any release must load, and serialize to the same arguments."""
    stored: dict[str, Any] = {
        "faraday_conn_id": "faraday_default",
        "source": {
            "resource_type": "datasets",
            "connection_id": None,
            "scope_id": SCOPE,
            "resource_ids": None,
        },
        "criteria": {"updated_after": updated_after, "fail_on_error": False, "allow_empty": True},
        "poke_interval": 60.0,
        "deadline": 1767323045.5,
    }
    path, arguments = ResourcesReadyTrigger(**stored).serialize()
    assert path == "airflow_provider_faraday.triggers.resources.ResourcesReadyTrigger"
    assert arguments == stored
    added_since = {"criteria": {**stored["criteria"], "unchanged_after": None}}
    assert Wait.from_json(stored, None).as_json == {**stored, **added_since}


def test_stored_times_may_be_pairs() -> None:
    stored = {"updated_after": [[ORDERS, "2026-01-02T03:04:05Z"]]}
    assert Criteria.from_json(stored).times == {ORDERS: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)}


def test_a_deferral_stores_no_secret_and_no_data(building: Sandbox) -> None:
    sensor = gate(
        datasets=[{"id": ORDERS, "sample": {"email": "a@b.c"}}],
        updated_after=datetime(2025, 1, 1, tzinfo=UTC),
    )
    deferral = deferred(sensor)
    text = json.dumps([deferral.trigger.serialize(), deferral.kwargs])
    assert building.api_key not in text
    assert "a@b.c" not in text
    assert deferral.trigger.source["resource_ids"] == [ORDERS]
    assert deferral.trigger.criteria["updated_after"] == "2025-01-01T00:00:00Z"


def test_a_failed_dataset_raises_the_same_error_as_in_poke_mode(sandbox: Sandbox) -> None:
    sandbox.set_dataset(RETURNS, status="running")
    sensor = gate(connection_id=UPLOADS)
    deferral = deferred(sensor)
    sandbox.set_dataset(RETURNS, status="error", status_error="No such table")
    event = event_of(deferral.trigger)
    assert (event["status"], event["kind"]) == ("failed", "failed")
    with pytest.raises(DatasetsFailedError) as in_poke_mode:
        DatasetsReadySensor(task_id="gate", connection_id=UPLOADS).execute({})
    with pytest.raises(DatasetsFailedError) as resumed:
        sensor.execute_complete({}, event, **deferral.kwargs)
    assert str(resumed.value) == str(in_poke_mode.value)
    # The failure is reported even if Faraday is down by now.
    sandbox.stop()
    with pytest.raises(DatasetsFailedError, match="No such table"):
        sensor.execute_complete({}, event, **deferral.kwargs)


def test_a_dataset_deleted_while_waiting_ends_the_wait(building: Sandbox) -> None:
    sensor = gate(datasets=[ORDERS])
    deferral = deferred(sensor)
    building.remove_dataset(ORDERS)
    event = event_of(deferral.trigger)
    assert event["kind"] == "missing"
    with pytest.raises(FaradayNotFoundError, match=ORDERS):
        sensor.execute_complete({}, event)


def test_having_nothing_left_to_wait_for_ends_the_wait(building: Sandbox, task_log: list[str]) -> None:
    sensor = gate(datasets=[ORDERS])
    deferral = deferred(sensor)
    building.set_dataset(ORDERS, archived=True)
    event = event_of(deferral.trigger)
    assert event["kind"] == "empty"
    assert task_log[-1].startswith("ERROR There are no datasets to wait for")
    with pytest.raises(NothingToWaitForError, match=r"'orders'.*archived"):
        sensor.execute_complete({}, event)


def test_a_timeout_names_what_was_waited_for(building: Sandbox, task_log: list[str]) -> None:
    sensor = gate(scope_id=SCOPE, timeout=0.1)
    event = event_of(deferred(sensor).trigger)
    assert event["status"] == "timeout"
    assert task_log[-1].startswith("ERROR Timed out waiting for 'orders'")
    task_log.clear()
    with pytest.raises(AirflowSensorTimeout, match=f"'orders' .{ORDERS}.: status running"):
        sensor.execute_complete({}, event)
    assert task_log[-1].startswith("ERROR Timed out waiting for 'orders'")


def test_a_deadline_that_passed_while_nothing_ran_still_allows_one_poll(building: Sandbox) -> None:
    trigger = deferred(gate(scope_id=SCOPE)).trigger
    trigger.deadline = time.time() - 1000
    assert event_of(trigger)["status"] == "timeout"
    building.set_dataset(ORDERS, status="ready")
    assert event_of(trigger)["status"] == "ready"


def test_an_outage_is_waited_out(building: Sandbox, faraday_default: Callable[..., None]) -> None:
    faraday_default(extra={"max_attempts": 1})
    trigger = deferred(gate(scope_id=SCOPE)).trigger
    building.set_dataset(ORDERS, status="ready")
    building.fail_next(times=5, status=503)
    before = len(building.requests())
    assert event_of(trigger)["status"] == "ready"
    assert len(building.requests()) - before == 6


def test_a_rejected_key_ends_the_wait_with_faradays_error(building: Sandbox) -> None:
    sensor = gate(scope_id=SCOPE)
    trigger = deferred(sensor).trigger
    building.rotate_key("the-new-key")
    event = event_of(trigger)
    assert event["kind"] == "FaradayAuthenticationError"
    with pytest.raises(FaradayAuthenticationError, match="401 EXPIRED_API_KEY") as caught:
        sensor.execute_complete({}, event)
    assert caught.value.status_code == 401


def test_a_deferred_wait_uses_a_rotated_key(building: Sandbox, faraday_default: Callable[..., None]) -> None:
    trigger = deferred(gate(scope_id=SCOPE)).trigger
    building.set_dataset(ORDERS, status="ready")
    building.rotate_key("the-new-key")
    faraday_default(password="the-new-key")
    assert event_of(trigger)["status"] == "ready"


def test_an_airflow_connection_that_becomes_unusable_ends_the_wait(
    building: Sandbox, faraday_default: Callable[..., None]
) -> None:
    sensor = gate(scope_id=SCOPE)
    trigger = deferred(sensor).trigger
    faraday_default(password="")
    with pytest.raises(FaradayConfigurationError, match="no API key"):
        sensor.execute_complete({}, event_of(trigger))


@pytest.mark.parametrize("verify", ["-----BEGIN CERTIFICATE-----\nMIIs3cret\n" * 100, "/no/s3cret\0"])
def test_a_ca_bundle_that_cannot_be_read_ends_the_wait_without_quoting_it(
    building: Sandbox, faraday_default: Callable[..., None], verify: str
) -> None:
    sensor = gate(scope_id=SCOPE)
    trigger = deferred(sensor).trigger
    faraday_default(extra={"verify": verify})
    event = event_of(trigger)
    with pytest.raises(FaradayConfigurationError, match="'verify' is not valid"):
        sensor.execute_complete({}, event)
    assert "s3cret" not in str(event)


def test_a_verdict_that_has_not_changed_is_logged_once(building: Sandbox, task_log: list[str]) -> None:
    trigger = deferred(gate(scope_id=SCOPE, timeout=0.5)).trigger
    task_log.clear()
    event_of(trigger)
    lines = [line for line in task_log if "datasets ready" in line]
    assert lines == [f"INFO 1 of 2 datasets ready; waiting for: 'orders' ({ORDERS}): status running"]


def fail_once(sandbox: Sandbox) -> None:
    sandbox.fail_next(times=1, status=503)


def rebuild(sandbox: Sandbox) -> None:
    sandbox.set_dataset(ORDERS, status="running")


@pytest.mark.parametrize("deferrable", [True, False], ids=["still deferrable", "not deferrable anymore"])
@pytest.mark.parametrize("change", [fail_once, rebuild])
@pytest.mark.parametrize("event_only", [False, True])
def test_a_resumed_wait_that_is_not_ready_defers_again_until_the_first_deadline(
    building: Sandbox,
    faraday_default: Callable[..., None],
    change: Callable[[Sandbox], None],
    deferrable: bool,
    event_only: bool,
) -> None:
    faraday_default(extra={"max_attempts": 1})
    first = deferred(gate(scope_id=SCOPE))
    building.set_dataset(ORDERS, status="ready")
    event = event_of(first.trigger)
    change(building)
    sensor = DatasetsReadySensor(task_id="gate", scope_id=SCOPE, deferrable=deferrable, poke_interval=0.05)
    with pytest.raises(TaskDeferred) as again:
        sensor.execute_complete({}, event, **({} if event_only else first.kwargs))
    assert again.value.trigger.serialize() == first.trigger.serialize()
    assert again.value.kwargs == first.kwargs
    building.set_dataset(ORDERS, status="ready")
    assert len(sensor.execute_complete({}, event_of(again.value.trigger), **again.value.kwargs)) == 2


@pytest.mark.parametrize("change", [fail_once, rebuild])
def test_a_resumed_wait_that_is_not_ready_after_the_deadline_times_out(
    building: Sandbox, faraday_default: Callable[..., None], change: Callable[[Sandbox], None]
) -> None:
    faraday_default(extra={"max_attempts": 1})
    first = deferred(gate(scope_id=SCOPE, timeout=0.5))
    building.set_dataset(ORDERS, status="ready")
    event = event_of(first.trigger)
    change(building)
    time.sleep(0.6)
    with pytest.raises(AirflowSensorTimeout):
        gate(scope_id=SCOPE).execute_complete({}, event, **first.kwargs)


def test_a_resumed_wait_keeps_the_criteria_it_began_with(building: Sandbox) -> None:
    first = deferred(gate(scope_id=SCOPE, updated_after="2026-01-01T00:00:00+00:00"))
    building.set_dataset(ORDERS, status="ready", last_updated_output_at="2026-06-01T00:00:00Z")
    building.set_dataset(ORDERS, last_updated_config_at="2026-01-01T00:00:00Z")
    building.set_dataset(
        CUSTOMERS,
        last_updated_output_at="2026-06-01T00:00:00Z",
        last_updated_config_at="2026-01-01T00:00:00Z",
    )
    event = event_of(first.trigger)
    # Rendered again, the template gives a later time, and the DAG was edited.
    edited = gate(datasets=[RETURNS], updated_after="2026-12-01T00:00:00+00:00", fields=["id"])
    assert edited.execute_complete({}, event, **first.kwargs) == [{"id": CUSTOMERS}, {"id": ORDERS}]
    same = gate(scope_id=SCOPE, updated_after="2026-12-01T00:00:00+00:00", fields=["id"])
    assert same.execute_complete({}, event) == [{"id": CUSTOMERS}, {"id": ORDERS}]


def waiting_for_the_scope(*, deadline: float) -> ResourcesReadyTrigger:
    return ResourcesReadyTrigger(
        faraday_conn_id="faraday_default",
        source={"resource_type": "datasets", "scope_id": SCOPE},
        criteria={},
        poke_interval=0.05,
        deadline=deadline,
    )


def test_a_stuck_api_does_not_outlast_the_deadline(
    faraday_default: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred_waits, "GRACE_SECONDS", 0.2)
    with RawServer([stall(30)]) as server:
        faraday_default(host=server.url)
        trigger = waiting_for_the_scope(deadline=time.time() + 0.2)
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
        {"status": "ready", "criteria": {"updated_after": 5}, "deadline": 1.0},
        {"status": "failed", "kind": "bad luck", "message": "x"},
        {"status": "error", "kind": "SystemExit", "message": "x", "status_code": None},
        {"status": "error", "kind": "FaradayApiError"},
        {"status": "timeout"},
    ],
)
def test_a_missing_or_unknown_event_fails_the_task(event: Any) -> None:
    with pytest.raises(FaradayError, match="Unexpected trigger event"):
        gate(scope_id=SCOPE).execute_complete({}, event)


def test_soft_fail_skips_a_timeout_and_says_what_was_waited_for() -> None:
    sensor = gate(scope_id=SCOPE, soft_fail=True)
    with pytest.raises(AirflowSkipException, match="'orders': status running"):
        sensor.resume_execution("execute_complete", {"event": TIMED_OUT}, {})


def test_soft_fail_skips_an_expired_deferral() -> None:
    with pytest.raises(AirflowSkipException, match="triggerer"):
        gate(scope_id=SCOPE, soft_fail=True).resume_execution("__fail__", {"error": "Trigger timeout"}, {})


def test_soft_fail_does_not_skip_an_error_of_the_api() -> None:
    with pytest.raises(FaradayAuthenticationError):
        gate(scope_id=SCOPE, soft_fail=True).resume_execution("execute_complete", {"event": REJECTED}, {})


@pytest.mark.usefixtures("airflow_home")
def test_soft_fail_does_not_skip_a_missing_airflow_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_FARADAY_DEFAULT")
    sensor = gate(scope_id=SCOPE, soft_fail=True)
    with pytest.raises(Exception, match="faraday_default") as caught:
        sensor.resume_execution("execute_complete", {"event": ready_event()}, {})
    assert not isinstance(caught.value, (AirflowSkipException, AirflowSensorTimeout))
    assert isinstance(caught.value, (AirflowException, FaradayError))


def test_never_fail_skips_every_failure() -> None:
    with pytest.raises(AirflowSkipException):
        gate(scope_id=SCOPE, never_fail=True).execute_complete({}, REJECTED)


@pytest.mark.parametrize("option", ["exponential_backoff", "silent_fail"])
def test_options_that_a_shared_poll_does_not_support_are_rejected(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FaradayInputError, match="deferrable=True shares its polls"):
        gate(scope_id=SCOPE, **{option: True})
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    assert DatasetsReadySensor(task_id="gate", scope_id=SCOPE).deferrable
    assert not DatasetsReadySensor(task_id="gate", scope_id=SCOPE, **{option: True}).deferrable


def test_a_list_of_ten_thousand_is_waited_for(faraday_default: Callable[..., None]) -> None:
    body = [
        {"id": f"{n:08x}-0000-4000-8000-000000000000", "status": "ready", "pad": "x"} for n in range(10_000)
    ]
    with RawServer([answer(body=body)]) as server:
        faraday_default(host=server.url)
        trigger = waiting_for_the_scope(deadline=time.time() + 60)
        event = event_of(trigger)
        assert event["status"] == "ready"
        assert len(json.dumps(event)) < 200
