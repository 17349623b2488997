"""ForceUpdateDatasetsOperator: whom it asks, what it says it asked for, and which build it waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred

from airflow_provider_faraday.exceptions import (
    DatasetsFailedError,
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayError,
    FaradayInputError,
    NothingToWaitForError,
)
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.triggers import feed
from raw_server import RawServer, answer

CUSTOMERS = "d0000000-0000-4000-8000-000000000001"
ORDERS = "d0000000-0000-4000-8000-000000000002"
ARCHIVED = "d0000000-0000-4000-8000-000000000005"
RETURNS = "d0000000-0000-4000-8000-000000000006"
NOBODY = "d0000000-0000-4000-8000-00000000ffff"

pytestmark = pytest.mark.usefixtures("faraday_default")


@pytest.fixture(autouse=True)
def built(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all datasets be ready, an old build each."""
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.05)
    for id_ in (CUSTOMERS, ORDERS):
        sandbox.set_dataset(id_, status="ready", last_updated_output_at="2026-01-01T00:00:00.000Z")


def force_update(*datasets: Any, **arguments: Any) -> ForceUpdateDatasetsOperator:
    given = {"datasets": list(datasets), "poke_interval": 0.02, "timeout": 20} | arguments
    return ForceUpdateDatasetsOperator(task_id="force_update", **given)


def asked(sandbox: Sandbox) -> list[str]:
    return [request["path"].split("/")[3] for request in sandbox.requests() if request["method"] == "POST"]


def test_each_dataset_is_asked_for_once_and_named_in_what_is_returned(sandbox: Sandbox) -> None:
    returned = force_update(CUSTOMERS, {"id": ORDERS.upper()}, CUSTOMERS).execute({})
    assert returned["dataset_ids"] == asked(sandbox) == [CUSTOMERS, ORDERS]
    assert returned.keys() == {"dataset_ids", "requested_at"}


def test_one_dataset_alone_is_taken_as_a_mapped_task_gets_it(sandbox: Sandbox) -> None:
    force_update(datasets={"id": CUSTOMERS, "name": "customers"}).execute({})
    assert asked(sandbox) == [CUSTOMERS]


@pytest.mark.parametrize("offset", [-86400, 0, 86400])
def test_requested_at_is_faradays_clock(sandbox: Sandbox, offset: int) -> None:
    sandbox.set(clock_offset=offset)
    before = datetime.now(UTC) + timedelta(seconds=offset - 1)
    moment = datetime.fromisoformat(force_update(CUSTOMERS).execute({})["requested_at"])
    assert before <= moment <= before + timedelta(seconds=10)


def test_requested_at_is_later_than_a_build_that_ended_in_the_same_second(sandbox: Sandbox) -> None:
    # The Date header has whole seconds; this build ended in that second, before the request.
    in_this_second = "2099-01-01T00:00:00.900Z"
    sandbox.set_dataset(CUSTOMERS, status="ready", last_updated_output_at=in_this_second)
    requested_at = force_update(CUSTOMERS).execute({})["requested_at"]
    assert datetime.fromisoformat(requested_at) > datetime.fromisoformat(in_this_second)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("worker_is_ahead", [-86400, 86400])
def test_waiting_ends_with_that_very_build_on_a_skewed_clock(
    faraday_default: Callable[..., None], deferrable: bool, worker_is_ahead: int
) -> None:
    # As slow as it takes for polls that come while the status still reads ready.
    with Sandbox(speed=2, clock_offset=-worker_is_ahead) as sandbox:
        faraday_default(host=sandbox.url)
        sandbox.set_dataset(CUSTOMERS, status="ready")
        operator = force_update(CUSTOMERS, wait_for_completion=True, deferrable=deferrable, fields=["id"])
        returned = finished(operator)
        statuses = [change["status"] for change in sandbox.history() if change["dataset_id"] == CUSTOMERS]
        assert statuses[-3:] == ["starting", "running", "ready"]
        output = sandbox.dataset(CUSTOMERS)["last_updated_output_at"]
        assert datetime.fromisoformat(returned["requested_at"]) <= datetime.fromisoformat(output)
        assert len(sandbox.requests()) > 3


def finished(operator: ForceUpdateDatasetsOperator) -> Any:
    """Run a task to its end, with its trigger where it defers."""
    try:
        return operator.execute({})
    except TaskDeferred as deferral:
        trigger = deferral.trigger

        async def event() -> Any:
            return await asyncio.wait_for(anext(trigger.run()), 20)

        # Another process goes on, with an operator made anew.
        again = ForceUpdateDatasetsOperator(
            task_id="again",
            datasets=operator.datasets,
            wait_for_completion=True,
            deferrable=True,
            fail_on_error=operator.fail_on_error,
        )
        return getattr(again, deferral.method_name)({}, asyncio.run(event()).payload)


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_error_from_before_the_request_is_not_this_builds(sandbox: Sandbox, deferrable: bool) -> None:
    sandbox.set_dataset(CUSTOMERS, status="error", status_error="No such table")
    finished(force_update(CUSTOMERS, wait_for_completion=True, deferrable=deferrable))
    assert sandbox.dataset(CUSTOMERS)["status"] == "ready"


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_error_of_this_build_fails(sandbox: Sandbox, deferrable: bool) -> None:
    operator = force_update(RETURNS, wait_for_completion=True, deferrable=deferrable)
    with pytest.raises(DatasetsFailedError, match="return_date"):
        finished(operator)


@pytest.fixture
def slow(faraday_default: Callable[..., None]) -> Iterator[Sandbox]:
    """Give a sandbox in which no build begins while a test runs."""
    with Sandbox(speed=0.001) as slow:
        slow.set_dataset(CUSTOMERS, status="ready")
        faraday_default(host=slow.url)
        yield slow


def test_the_build_that_never_comes_times_out(slow: Sandbox) -> None:
    with pytest.raises(AirflowSensorTimeout):
        force_update(CUSTOMERS, wait_for_completion=True, timeout=0.2).execute({})


def test_a_sensor_waits_for_the_build_by_what_is_returned(sandbox: Sandbox) -> None:
    requested = force_update(CUSTOMERS).execute({})
    gate = DatasetsReadySensor(
        task_id="gate",
        datasets=requested["dataset_ids"],
        updated_after=requested["requested_at"],
        poke_interval=0.02,
    )
    (dataset,) = gate.execute({})
    assert dataset["last_updated_output_at"] >= requested["requested_at"][:19]


def test_without_waiting_it_returns_at_once(slow: Sandbox) -> None:
    force_update(CUSTOMERS).execute({})
    assert slow.dataset(CUSTOMERS)["status"] == "ready"


def test_one_that_is_refused_does_not_hide_the_others(sandbox: Sandbox) -> None:
    with pytest.raises(FaradayApiError) as caught:
        force_update(CUSTOMERS, NOBODY, ORDERS).execute({})
    assert asked(sandbox) == [CUSTOMERS, NOBODY, ORDERS]
    said = str(caught.value)
    assert f"asked to rerun 2 of 3 datasets ({CUSTOMERS}, {ORDERS}), but not the others: {NOBODY}: " in said
    assert "404 NOT_FOUND" in said
    assert caught.value.status_code == 404


def test_one_alone_that_is_refused_says_what_faraday_said(sandbox: Sandbox) -> None:
    with pytest.raises(FaradayApiError, match=r"^Faraday answered 404"):
        force_update(NOBODY).execute({})


def test_a_post_that_fails_is_not_sent_again(sandbox: Sandbox) -> None:
    sandbox.fail_next(status=500, method="POST")
    with pytest.raises(FaradayApiError, match=f"1 of 2 datasets \\({ORDERS}\\).*500"):
        force_update(CUSTOMERS, ORDERS).execute({})
    assert asked(sandbox) == [CUSTOMERS, ORDERS]


def test_a_key_that_is_refused_is_not_tried_on_every_dataset(sandbox: Sandbox) -> None:
    sandbox.fail_next(status=401, method="POST", times=9)
    with pytest.raises(FaradayAuthenticationError, match=f"0 of 2 datasets .*{CUSTOMERS}.*{ORDERS}"):
        force_update(CUSTOMERS, ORDERS).execute({})
    assert asked(sandbox) == [CUSTOMERS]


def test_archived_datasets_are_left_out_and_said(sandbox: Sandbox, task_log: list[str]) -> None:
    assert force_update(CUSTOMERS, ARCHIVED).execute({})["dataset_ids"] == [CUSTOMERS]
    assert asked(sandbox) == [CUSTOMERS]
    assert any(line.startswith("INFO Left out as archived: 'legacy_orders'") for line in task_log)


@pytest.mark.parametrize(
    ("datasets", "why"), [([], "datasets is empty"), ([ARCHIVED], "all of them are archived")]
)
def test_nothing_to_ask_for_fails(sandbox: Sandbox, datasets: list[str], why: str) -> None:
    with pytest.raises(NothingToWaitForError, match=why):
        force_update(*datasets).execute({})
    assert asked(sandbox) == []


def test_a_build_that_is_under_way_is_said(sandbox: Sandbox, task_log: list[str]) -> None:
    sandbox.set_dataset(CUSTOMERS, status="running")
    force_update(CUSTOMERS).execute({})
    assert any(line.startswith("WARNING Faraday is just building 'customers'") for line in task_log)


def test_without_a_date_the_workers_clock_is_taken_and_said(
    faraday_default: Callable[..., None], task_log: list[str]
) -> None:
    answers = [answer(body=[{"id": CUSTOMERS, "status": "ready"}]), answer(status=204, body=b"")]
    with RawServer(answers) as server:
        faraday_default(host=server.url)
        before = time.time()
        requested_at = force_update(CUSTOMERS).execute({})["requested_at"]
    assert before <= datetime.fromisoformat(requested_at).timestamp() <= time.time()
    assert any(line.startswith("WARNING Faraday's answer has no Date header") for line in task_log)


def test_nothing_is_sent_for_input_that_cannot_be_used(sandbox: Sandbox) -> None:
    with pytest.raises(FaradayInputError, match="datasets must be a list"):
        force_update(datasets="{{ nothing }}").execute({})
    assert sandbox.requests() == []


def test_reschedule_mode_would_ask_at_every_poll_and_is_refused() -> None:
    with pytest.raises(FaradayInputError, match="mode='reschedule'"):
        force_update(CUSTOMERS, mode="reschedule")


def test_a_failure_after_the_request_is_waited_out(faraday_default: Callable[..., None]) -> None:
    rebuilt = {"id": CUSTOMERS, "status": "ready", "last_updated_output_at": "2099-01-01T00:00:00Z"}
    steps = [
        answer(body=[{"id": CUSTOMERS, "status": "ready"}]),
        answer(status=204, body=b""),
        answer(status=503),
        answer(body=[rebuilt]),
    ]
    with RawServer(steps) as server:
        faraday_default(host=server.url, extra={"max_attempts": 1})
        force_update(CUSTOMERS, wait_for_completion=True).execute({})
    assert [request.method for request in server.received] == ["GET", "POST", "GET", "GET"]


@pytest.mark.parametrize("event", [None, {"status": "ready", "dataset_ids": [CUSTOMERS]}, {"status": "odd"}])
def test_an_event_that_says_nothing_of_the_request_fails(event: Any) -> None:
    with pytest.raises(FaradayError, match="run the same version"):
        force_update(CUSTOMERS, wait_for_completion=True).execute_complete({}, event)
