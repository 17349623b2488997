"""ForceUpdateDatasetsOperator: what it requests, what it returns, and which build it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_faraday.exceptions import (
    DatasetsFailedError,
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayNotFoundError,
    NothingToWaitForError,
)
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sandbox import Sandbox
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
from support.modes import deferral_of, event_of

pytestmark = pytest.mark.usefixtures("faraday_default")


@pytest.fixture(autouse=True)
def built(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set two datasets to ready, each with an old build."""
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(feed, "TICK_SECONDS", 0.01)
    for id_ in (CUSTOMERS, ORDERS):
        sandbox.set_dataset(id_, status="ready", last_updated_output_at="2026-01-01T00:00:00.000Z")


def force_update(*datasets: Any, **arguments: Any) -> ForceUpdateDatasetsOperator:
    given = {"datasets": list(datasets), "poke_interval": 0.02, "timeout": 240} | arguments
    return ForceUpdateDatasetsOperator(task_id="force_update", **given)


def update_and_wait(*datasets: Any, deferrable: bool) -> Any:
    """Run a task that waits, with its trigger if it defers."""

    def operator() -> ForceUpdateDatasetsOperator:
        return force_update(*datasets, wait_for_completion=True, deferrable=deferrable)

    if not deferrable:
        return operator().execute({})
    deferral = deferral_of(operator())
    # The event is all that `airflow dags test` passes on to the resumed task.
    return getattr(operator(), deferral.method_name)({}, event_of(deferral.trigger))


# What is requested.


def test_each_rebuild_is_requested_once_returned_and_logged(sandbox: Sandbox, task_log: list[str]) -> None:
    returned = force_update(CUSTOMERS, {"id": ORDERS.upper()}, CUSTOMERS).execute({})
    assert returned["datasets"] == sandbox.forced_updates() == [CUSTOMERS, ORDERS]
    assert returned.keys() == {"datasets", "requested_at"}
    assert f"INFO Requested a rebuild of 'customers' ({CUSTOMERS}), 'orders' ({ORDERS})" in task_log


@pytest.mark.parametrize(
    ("source", "updated"),
    [
        ({"datasets": {"id": CUSTOMERS, "name": "customers"}}, [CUSTOMERS]),
        ({"connection_id": WAREHOUSE}, [CUSTOMERS, ORDERS, SUBSCRIBERS, VISITS]),
        ({"scope_id": SCOPE, "tables": "orders"}, [ORDERS]),
    ],
)
def test_the_datasets_of_a_connection_a_scope_or_a_table_are_updated(
    sandbox: Sandbox, source: dict[str, Any], updated: list[str]
) -> None:
    returned = force_update(**{"datasets": None, **source}).execute({})
    assert returned["datasets"] == sandbox.forced_updates() == list(returned["requested_at"]) == updated


def test_archived_datasets_and_previews_are_skipped_and_logged(sandbox: Sandbox, task_log: list[str]) -> None:
    sandbox.set_dataset(ORDERS, preview=True)
    assert force_update(CUSTOMERS, ORDERS, LEGACY_ORDERS).execute({})["datasets"] == [CUSTOMERS]
    assert sandbox.forced_updates() == [CUSTOMERS]
    (line,) = [line for line in task_log if line.startswith("INFO Skipped")]
    assert [word for word in ("'orders'", "preview", "'legacy_orders'", "archived") if word not in line] == []


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"datasets": []}, "none found"),
        ({"datasets": [LEGACY_ORDERS]}, "all are skipped"),
        ({"datasets": None, "connection_id": EMPTY_CONNECTION}, "none found"),
    ],
)
def test_nothing_to_update_fails_unless_allowed(
    sandbox: Sandbox, task_log: list[str], source: dict[str, Any], why: str
) -> None:
    with pytest.raises(NothingToWaitForError, match=why):
        force_update(**source).execute({})
    operator = force_update(allow_empty=True, wait_for_completion=True, **source)
    assert operator.execute({}) == {"datasets": [], "requested_at": {}}
    assert sandbox.forced_updates() == []
    assert any("There are no datasets to update" in line and why in line for line in task_log)


def test_a_table_that_no_dataset_reads_is_an_error_unless_there_may_be_none(
    sandbox: Sandbox, task_log: list[str]
) -> None:
    source: dict[str, Any] = {"datasets": None, "scope_id": SCOPE, "tables": ["orders", "nope"]}
    with pytest.raises(FaradayNotFoundError, match=r"reads nope\.\nThey read customers, orders\."):
        force_update(**source).execute({})
    assert sandbox.forced_updates() == []
    assert force_update(**source, allow_empty=True).execute({})["datasets"] == [ORDERS]
    assert any(line.startswith("WARNING None of the 2 datasets") and "nope" in line for line in task_log)


# Requests that Faraday rejects.


def test_a_rejected_request_does_not_keep_the_others_from_being_sent(
    sandbox: Sandbox, task_log: list[str]
) -> None:
    with pytest.raises(FaradayApiError) as caught:
        force_update(CUSTOMERS, UNKNOWN, ORDERS).execute({})
    assert sandbox.forced_updates() == [CUSTOMERS, ORDERS]
    message = str(caught.value)
    assert "2 of 3 datasets" in message
    assert f"{UNKNOWN}: Faraday returned 404 NOT_FOUND" in message
    assert caught.value.status_code == 404
    assert f"INFO Requested a rebuild of 'customers' ({CUSTOMERS}), 'orders' ({ORDERS})" in task_log


def test_a_rejected_key_is_not_tried_on_every_dataset(sandbox: Sandbox) -> None:
    sandbox.fail_next(status=401, method="POST", times=9)
    with pytest.raises(FaradayAuthenticationError, match=f"(?s)0 of 2 datasets.*{CUSTOMERS}.*{ORDERS}"):
        force_update(CUSTOMERS, ORDERS).execute({})
    assert [request["path"] for request in sandbox.requests() if request["method"] == "POST"] == [
        f"/v1/datasets/{CUSTOMERS}/force_update"
    ]


# When it was requested.


def test_requested_at_is_later_than_a_build_that_ended_in_the_same_second(sandbox: Sandbox) -> None:
    # The Date header has whole seconds; this build ended in that second, before the request.
    in_this_second = "2099-01-01T00:00:00.900Z"
    sandbox.set_dataset(CUSTOMERS, status="ready", last_updated_output_at=in_this_second)
    requested_at = force_update(CUSTOMERS).execute({})["requested_at"][CUSTOMERS]
    assert datetime.fromisoformat(requested_at) > datetime.fromisoformat(in_this_second)


def test_without_a_date_header_the_workers_clock_is_used(faraday_default: Callable[..., None]) -> None:
    responses = [answer(body=[{"id": CUSTOMERS, "status": "ready"}]), answer(status=204, body=b"")]
    with RawServer(responses) as server:
        faraday_default(host=server.url)
        before = time.time()
        requested_at = force_update(CUSTOMERS).execute({})["requested_at"][CUSTOMERS]
    assert before <= datetime.fromisoformat(requested_at).timestamp() <= time.time()


def test_a_running_build_is_logged_because_it_may_count(sandbox: Sandbox, task_log: list[str]) -> None:
    sandbox.set_dataset(CUSTOMERS, status="running")
    force_update(CUSTOMERS).execute({})
    assert any(line.startswith("WARNING Already building: 'customers'") for line in task_log)


# Waiting for the builds.


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_error_from_before_the_request_is_waited_out(sandbox: Sandbox, deferrable: bool) -> None:
    sandbox.set_dataset(CUSTOMERS, status="error", status_error="No such table")
    returned = update_and_wait(CUSTOMERS, deferrable=deferrable)
    dataset = sandbox.dataset(CUSTOMERS)
    assert dataset["status"] == "ready"
    assert returned["requested_at"][CUSTOMERS][:19] <= dataset["last_updated_output_at"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_error_of_the_requested_build_fails_the_task(deferrable: bool) -> None:
    with pytest.raises(DatasetsFailedError, match="return_date"):
        update_and_wait(RETURNS, deferrable=deferrable)


def test_each_dataset_waits_for_its_own_build_through_transient_failures(
    faraday_default: Callable[..., None],
) -> None:
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
        answer(status=204, headers={"Date": "Thu, 01 Jan 2026 00:01:00 GMT"}),
        answer(status=503),
        answer(body=built),
        answer(body=rebuilt),
    ]
    with RawServer(steps) as server:
        faraday_default(host=server.url, extra={"max_attempts": 1})
        returned = force_update(CUSTOMERS, ORDERS, wait_for_completion=True).execute({})
    assert len(server.received) == 6
    assert returned["requested_at"] == {
        CUSTOMERS: "2026-01-01T00:00:00+00:00",
        ORDERS: "2026-01-01T00:01:00+00:00",
    }


def test_what_is_archived_while_waiting_fails_unless_there_may_be_nothing(
    faraday_default: Callable[..., None],
) -> None:
    building = [{"id": CUSTOMERS, "status": "running"}]
    archived = [{"id": CUSTOMERS, "status": "ready", "archived_at": "2026-01-02T00:00:00Z"}]
    for allow_empty in (True, False):
        steps = [answer(body=building), answer(status=204), answer(body=archived)]
        with RawServer(steps) as server:
            faraday_default(host=server.url)
            operator = force_update(CUSTOMERS, wait_for_completion=True, allow_empty=allow_empty)
            with nullcontext() if allow_empty else pytest.raises(NothingToWaitForError):
                assert operator.execute({})["datasets"] == [CUSTOMERS]


def test_a_build_that_never_comes_times_out_and_is_named(faraday_default: Callable[..., None]) -> None:
    with Sandbox(speed=0.001) as slow:
        slow.set_dataset(CUSTOMERS, status="ready")
        faraday_default(host=slow.url)
        with pytest.raises(AirflowSensorTimeout, match=r"'customers'.*older than"):
            force_update(CUSTOMERS, wait_for_completion=True, timeout=0.2).execute({})


@pytest.mark.parametrize("arguments", [{"deferrable": True}, {"timeout": 60}, {}])
def test_arguments_of_a_wait_warn_without_one(arguments: dict[str, Any], task_log: list[str]) -> None:
    ForceUpdateDatasetsOperator(task_id="force_update", datasets=[CUSTOMERS], **arguments).execute({})
    assert [line for line in task_log if "Ignored" in line] == [
        f"WARNING Ignored without wait_for_completion=True: {name}" for name in arguments
    ]
