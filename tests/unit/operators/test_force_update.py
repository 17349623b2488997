"""ForceUpdateDatasetsOperator: what it requests, what it returns, and which build it waits for."""

from __future__ import annotations

import asyncio
import re
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
    FaradayNotFoundError,
    NothingToWaitForError,
)
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.waiting import feed
from raw_server import RawServer, answer
from support.ids import (
    CUSTOMERS,
    EMPTY_CONNECTION,
    LEGACY_ORDERS,
    ORDERS,
    RETURNS,
    SCOPE,
    SUBSCRIBERS,
    UNKNOWN,
    VISITS,
    WAREHOUSE,
)

pytestmark = pytest.mark.usefixtures("faraday_default")


@pytest.fixture(autouse=True)
def built(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set all datasets to ready, each with an old build."""
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(feed, "TICK_SECONDS", 0.01)
    for id_ in (CUSTOMERS, ORDERS):
        sandbox.set_dataset(id_, status="ready", last_updated_output_at="2026-01-01T00:00:00.000Z")


def force_update(*datasets: Any, **arguments: Any) -> ForceUpdateDatasetsOperator:
    given = {"datasets": list(datasets), "poke_interval": 0.02, "timeout": 20} | arguments
    return ForceUpdateDatasetsOperator(task_id="force_update", **given)


def requested(sandbox: Sandbox) -> list[str]:
    return [request["path"].split("/")[3] for request in sandbox.requests() if request["method"] == "POST"]


def test_each_rerun_is_requested_once_and_returned(sandbox: Sandbox) -> None:
    returned = force_update(CUSTOMERS, {"id": ORDERS.upper()}, CUSTOMERS).execute({})
    assert returned["datasets"] == requested(sandbox) == [CUSTOMERS, ORDERS]
    assert returned.keys() == {"datasets", "requested_at"}


def test_a_single_dataset_is_accepted_as_a_mapped_task_gets_it(sandbox: Sandbox) -> None:
    force_update(datasets={"id": CUSTOMERS, "name": "customers"}).execute({})
    assert requested(sandbox) == [CUSTOMERS]


@pytest.mark.parametrize("offset", [-86400, 0, 86400])
def test_requested_at_is_faradays_clock(sandbox: Sandbox, offset: int) -> None:
    sandbox.set(clock_offset=offset)
    before = datetime.now(UTC) + timedelta(seconds=offset - 1)
    moment = datetime.fromisoformat(force_update(CUSTOMERS).execute({})["requested_at"][CUSTOMERS])
    assert before <= moment <= before + timedelta(seconds=10)


def test_requested_at_is_later_than_a_build_that_ended_in_the_same_second(sandbox: Sandbox) -> None:
    # The Date header has whole seconds; this build ended in that second, before the request.
    in_this_second = "2099-01-01T00:00:00.900Z"
    sandbox.set_dataset(CUSTOMERS, status="ready", last_updated_output_at=in_this_second)
    requested_at = force_update(CUSTOMERS).execute({})["requested_at"][CUSTOMERS]
    assert datetime.fromisoformat(requested_at) > datetime.fromisoformat(in_this_second)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("worker_is_ahead", [-86400, 86400])
def test_waiting_ends_with_the_requested_build_despite_a_skewed_clock(
    faraday_default: Callable[..., None], deferrable: bool, worker_is_ahead: int
) -> None:
    # As slow as it takes for polls that come while the status still reads ready.
    with Sandbox(speed=2, clock_offset=-worker_is_ahead) as sandbox:
        faraday_default(host=sandbox.url)
        sandbox.set_dataset(CUSTOMERS, status="ready")
        operator = force_update(CUSTOMERS, wait_for_completion=True, deferrable=deferrable)
        returned = finished(operator)
        statuses = [change["status"] for change in sandbox.history() if change["id"] == CUSTOMERS]
        assert statuses[-3:] == ["starting", "running", "ready"]
        output = sandbox.dataset(CUSTOMERS)["last_updated_output_at"]
        assert datetime.fromisoformat(returned["requested_at"][CUSTOMERS]) <= datetime.fromisoformat(output)
        assert len(sandbox.requests()) > 3


def finished(operator: ForceUpdateDatasetsOperator) -> Any:
    """Run a task, with its trigger if it defers."""
    try:
        return operator.execute({})
    except TaskDeferred as deferral:
        trigger = deferral.trigger

        async def event() -> Any:
            return await asyncio.wait_for(anext(trigger.run()), 20)

        # Another process resumes with a new operator, and the event is all that `airflow dags test` passes
        # on.
        again = ForceUpdateDatasetsOperator(
            task_id="again",
            datasets=operator.datasets,
            wait_for_completion=True,
            deferrable=True,
            fail_on_error=operator.fail_on_error,
        )
        return getattr(again, deferral.method_name)({}, asyncio.run(event()).payload)


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_error_from_before_the_request_is_waited_out(sandbox: Sandbox, deferrable: bool) -> None:
    sandbox.set_dataset(CUSTOMERS, status="error", status_error="No such table")
    finished(force_update(CUSTOMERS, wait_for_completion=True, deferrable=deferrable))
    assert sandbox.dataset(CUSTOMERS)["status"] == "ready"


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_error_of_the_requested_build_fails_the_task(sandbox: Sandbox, deferrable: bool) -> None:
    operator = force_update(RETURNS, wait_for_completion=True, deferrable=deferrable)
    with pytest.raises(DatasetsFailedError, match="return_date"):
        finished(operator)


@pytest.fixture
def slow(faraday_default: Callable[..., None]) -> Iterator[Sandbox]:
    """Return a sandbox in which no build begins while a test runs."""
    with Sandbox(speed=0.001) as slow:
        slow.set_dataset(CUSTOMERS, status="ready")
        faraday_default(host=slow.url)
        yield slow


def test_a_build_that_never_comes_times_out_and_is_named(slow: Sandbox) -> None:
    with pytest.raises(AirflowSensorTimeout, match=r"'customers'.*older than"):
        force_update(CUSTOMERS, wait_for_completion=True, timeout=0.2).execute({})


def test_requested_at_makes_a_sensor_wait_for_the_requested_build(sandbox: Sandbox) -> None:
    returned = force_update(CUSTOMERS).execute({})
    gate = DatasetsReadySensor(
        task_id="gate",
        datasets=returned["datasets"],
        updated_after=returned["requested_at"],
        poke_interval=0.02,
    )
    (dataset,) = gate.execute({})
    assert dataset["last_updated_output_at"] >= returned["requested_at"][CUSTOMERS][:19]


def test_without_waiting_it_returns_immediately(slow: Sandbox) -> None:
    force_update(CUSTOMERS).execute({})
    assert slow.dataset(CUSTOMERS)["status"] == "ready"


def test_a_rejected_request_does_not_keep_the_others_from_being_made(sandbox: Sandbox) -> None:
    with pytest.raises(FaradayApiError) as caught:
        force_update(CUSTOMERS, UNKNOWN, ORDERS).execute({})
    assert requested(sandbox) == [CUSTOMERS, UNKNOWN, ORDERS]
    message = str(caught.value)
    assert "2 of 3 datasets" in message
    assert f"'customers' ({CUSTOMERS}), 'orders' ({ORDERS})" in message
    assert f"{UNKNOWN}: " in message
    assert "404 NOT_FOUND" in message
    assert caught.value.status_code == 404


def test_at_most_ten_resources_are_named(faraday_default: Callable[..., None], task_log: list[str]) -> None:
    ids = [f"d1000000-0000-4000-8000-{number:012}" for number in range(60)]
    archived, rejected = ids[:20], ids[40:]
    listed = [{"id": id_, "status": "running"} for id_ in ids]
    for dataset in listed[:20]:
        dataset["archived_at"] = "2026-01-01T00:00:00Z"

    def respond(request: Any) -> Any:
        if request.method == "GET":
            return answer(body=listed)
        is_rejected = request.target.split("/")[3] in rejected
        return answer(status=404, body={"error": "NOT_FOUND"}) if is_rejected else answer(status=202)

    with RawServer(respond) as server:
        faraday_default(host=server.url)
        with pytest.raises(FaradayApiError, match="20 of 40 datasets") as caught:
            force_update(*ids).execute({})
        force_update(*ids[20:40]).execute({})

    lines = [str(caught.value), *task_log]
    named = [len(set(re.findall("d1000000-[0-9-]+", line))) for line in lines]
    assert max(named) == 10
    assert [word for word in ("Skipped", "Already building", "Requested") if word not in str(lines)] == []
    assert archived[0] in str(task_log)


def test_a_single_rejected_request_raises_faradays_error(sandbox: Sandbox) -> None:
    with pytest.raises(FaradayApiError, match=r"^Faraday returned 404"):
        force_update(UNKNOWN).execute({})


def test_a_failed_request_is_not_retried(sandbox: Sandbox) -> None:
    sandbox.fail_next(status=500, method="POST")
    with pytest.raises(FaradayApiError, match=r"(?s)1 of 2 datasets \('orders' .*500"):
        force_update(CUSTOMERS, ORDERS).execute({})
    assert requested(sandbox) == [CUSTOMERS, ORDERS]


def test_a_rejected_key_is_not_tried_on_every_dataset(sandbox: Sandbox) -> None:
    sandbox.fail_next(status=401, method="POST", times=9)
    with pytest.raises(FaradayAuthenticationError, match=f"(?s)0 of 2 datasets .*{CUSTOMERS}.*{ORDERS}"):
        force_update(CUSTOMERS, ORDERS).execute({})
    assert requested(sandbox) == [CUSTOMERS]


def test_archived_datasets_are_left_out_and_logged(sandbox: Sandbox, task_log: list[str]) -> None:
    assert force_update(CUSTOMERS, LEGACY_ORDERS).execute({})["datasets"] == [CUSTOMERS]
    assert requested(sandbox) == [CUSTOMERS]
    assert any(
        line.startswith("INFO Skipped: 'legacy_orders'") and line.endswith("archived") for line in task_log
    )


@pytest.mark.parametrize(
    ("datasets", "why"), [([], "datasets is empty"), ([LEGACY_ORDERS], "all are skipped")]
)
def test_having_nothing_to_update_fails(sandbox: Sandbox, datasets: list[str], why: str) -> None:
    with pytest.raises(NothingToWaitForError, match=why):
        force_update(*datasets).execute({})
    assert requested(sandbox) == []


@pytest.mark.parametrize(
    ("source", "updated"),
    [
        ({"connection_id": WAREHOUSE}, [CUSTOMERS, ORDERS, SUBSCRIBERS, VISITS]),
        ({"scope_id": SCOPE}, [CUSTOMERS, ORDERS]),
        ({"connection_id": WAREHOUSE, "tables": ["public.ORDERS", "store_visits"]}, [ORDERS, VISITS]),
        ({"scope_id": SCOPE, "tables": "orders"}, [ORDERS]),
    ],
)
def test_the_datasets_of_a_connection_a_scope_or_a_table_are_updated(
    sandbox: Sandbox, source: dict[str, Any], updated: list[str]
) -> None:
    returned = force_update(datasets=None, **source).execute({})
    assert returned["datasets"] == requested(sandbox) == list(returned["requested_at"]) == updated


def test_waiting_for_the_datasets_of_a_table_waits_for_no_others(sandbox: Sandbox) -> None:
    sandbox.set_dataset(CUSTOMERS, status="error")
    operator = force_update(
        datasets=None, scope_id=SCOPE, tables=["orders"], wait_for_completion=True, deferrable=False
    )
    before = sandbox.dataset(ORDERS)["last_updated_output_at"]
    assert operator.execute({})["datasets"] == [ORDERS]
    assert sandbox.dataset(ORDERS)["last_updated_output_at"] > before


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"datasets": []}, "datasets is empty"),
        ({"datasets": [LEGACY_ORDERS]}, "all are skipped"),
        ({"datasets": None, "connection_id": EMPTY_CONNECTION}, "none found"),
        ({"datasets": None, "scope_id": SCOPE, "tables": []}, "none found"),
        ({"datasets": None, "connection_id": WAREHOUSE, "tables": ["legacy_orders"]}, "all are skipped"),
    ],
)
@pytest.mark.parametrize("wait_for_completion", [False, True])
def test_nothing_to_update_is_accepted_on_request(
    sandbox: Sandbox, task_log: list[str], source: dict[str, Any], why: str, wait_for_completion: bool
) -> None:
    with pytest.raises(NothingToWaitForError, match=why):
        force_update(**source).execute({})
    operator = force_update(allow_empty=True, wait_for_completion=wait_for_completion, **source)
    assert operator.execute({}) == {"datasets": [], "requested_at": {}}
    assert requested(sandbox) == []
    assert any("There are no datasets to update" in line and why in line for line in task_log)


def test_a_table_that_no_dataset_reads_updates_nothing(sandbox: Sandbox) -> None:
    with pytest.raises(FaradayNotFoundError, match=r"reads nope\.\nThey read customers, orders\."):
        force_update(datasets=None, scope_id=SCOPE, tables=["orders", "nope"]).execute({})
    assert requested(sandbox) == []


def test_allow_empty_ignores_a_table_that_no_dataset_reads(sandbox: Sandbox, task_log: list[str]) -> None:
    operator = force_update(datasets=None, scope_id=SCOPE, tables=["orders", "nope"], allow_empty=True)
    assert operator.execute({})["datasets"] == [ORDERS]
    assert any(line.startswith("WARNING None of the 2 datasets") and "nope" in line for line in task_log)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"datasets": None}, "exactly one of connection_id, scope_id and datasets, but got none of them"),
        ({"datasets": [ORDERS], "scope_id": SCOPE}, "but got scope_id and datasets"),
        ({"datasets": [ORDERS], "tables": ["orders"]}, "tables with connection_id or scope_id"),
        ({"datasets": None, "scope_id": SCOPE, "tables": ["a..b"]}, "tables must be a list of names"),
        ({"datasets": None, "scope_id": SCOPE[:-1]}, "scope_id must be the UUID"),
    ],
)
def test_the_datasets_to_update_are_checked_when_the_dag_file_is_parsed(
    arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(FaradayInputError, match=says):
        force_update(**arguments)


@pytest.mark.parametrize(("read_at", "level"), [("2026-01-01T00:00:00Z", "INFO"), (None, "WARNING")])
def test_a_running_build_is_logged_and_a_warning_only_if_it_may_count(
    sandbox: Sandbox, task_log: list[str], read_at: str | None, level: str
) -> None:
    sandbox.set_dataset(CUSTOMERS, status="running", last_read_input_at=read_at)
    force_update(CUSTOMERS).execute({})
    (line,) = [line for line in task_log if "Already building" in line]
    assert line.startswith(f"{level} Already building: 'customers'")


@pytest.mark.parametrize("arguments", [{"deferrable": True}, {"timeout": 60}])
def test_arguments_of_a_wait_warn_without_one(arguments: dict[str, Any], task_log: list[str]) -> None:
    ForceUpdateDatasetsOperator(task_id="force_update", datasets=[CUSTOMERS], **arguments).execute({})
    assert any(line.startswith("WARNING Ignored") and line.endswith(*arguments) for line in task_log)


def test_defaults_are_no_warning(task_log: list[str]) -> None:
    ForceUpdateDatasetsOperator(task_id="force_update", datasets=[CUSTOMERS]).execute({})
    force_update(CUSTOMERS, wait_for_completion=True).execute({})
    assert [line for line in task_log if "Ignored" in line] == []


def test_without_a_date_header_the_workers_clock_is_used_and_logged(
    faraday_default: Callable[..., None], task_log: list[str]
) -> None:
    responses = [answer(body=[{"id": CUSTOMERS, "status": "ready"}]), answer(status=204, body=b"")]
    with RawServer(responses) as server:
        faraday_default(host=server.url)
        before = time.time()
        requested_at = force_update(CUSTOMERS).execute({})["requested_at"][CUSTOMERS]
    assert before <= datetime.fromisoformat(requested_at).timestamp() <= time.time()
    assert any(line.startswith("WARNING Faraday's response has no Date header") for line in task_log)


def test_nothing_is_sent_for_invalid_input(sandbox: Sandbox) -> None:
    with pytest.raises(FaradayInputError, match="datasets must be a list"):
        force_update(datasets="{{ nothing }}").execute({})
    assert sandbox.requests() == []


def test_the_log_names_the_datasets(sandbox: Sandbox, task_log: list[str]) -> None:
    force_update(CUSTOMERS, ORDERS).execute({})
    assert f"INFO Requested a rebuild of 'customers' ({CUSTOMERS}), 'orders' ({ORDERS})" in task_log


def test_each_dataset_has_a_threshold_of_its_own(faraday_default: Callable[..., None]) -> None:
    # Orders finishes a build of its own after the first request was accepted, and before its own.
    listed = [{"id": id_, "status": "ready"} for id_ in (CUSTOMERS, ORDERS)]
    built = [
        {"id": CUSTOMERS, "status": "ready", "last_updated_output_at": "2026-01-01T00:05:00Z"},
        {"id": ORDERS, "status": "ready", "last_updated_output_at": "2026-01-01T00:00:30Z"},
    ]
    rebuilt = [built[0], {**built[1], "last_updated_output_at": "2026-01-01T00:06:00Z"}]
    steps = [
        answer(body=listed),
        answer(status=204, headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}),
        answer(status=429, headers={"Retry-After": "0"}),
        answer(status=204, headers={"Date": "Thu, 01 Jan 2026 00:01:00 GMT"}),
        answer(body=built),
        answer(body=rebuilt),
    ]
    with RawServer(steps) as server:
        faraday_default(host=server.url)
        returned = force_update(CUSTOMERS, ORDERS, wait_for_completion=True).execute({})
    assert len(server.received) == 6
    assert returned["requested_at"] == {
        CUSTOMERS: "2026-01-01T00:00:00+00:00",
        ORDERS: "2026-01-01T00:01:00+00:00",
    }


def test_previews_are_left_out(sandbox: Sandbox, task_log: list[str]) -> None:
    sandbox.set_dataset(ORDERS, preview=True)
    assert force_update(CUSTOMERS, ORDERS).execute({})["datasets"] == [CUSTOMERS]
    assert any(line.startswith("INFO Skipped: 'orders'") and "preview" in line for line in task_log)


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


@pytest.mark.parametrize("event", [None, {"status": "ready"}, {"status": "odd"}])
def test_a_missing_or_unknown_event_fails(event: Any) -> None:
    with pytest.raises(FaradayError, match="run the same version"):
        force_update(CUSTOMERS, wait_for_completion=True).execute_complete({}, event)
