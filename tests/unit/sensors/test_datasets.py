"""DatasetsReadySensor: one poll at a time, against the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

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
from raw_server import RawServer, answer, reset

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

CONNECTION = "c0000000-0000-4000-8000-000000000001"
UPLOADS = "c0000000-0000-4000-8000-000000000002"
EMPTY = "c0000000-0000-4000-8000-000000000003"
SCOPE = "50000000-0000-4000-8000-000000000001"
CUSTOMERS = "d0000000-0000-4000-8000-000000000001"
ORDERS = "d0000000-0000-4000-8000-000000000002"
LEGACY_ORDERS = "d0000000-0000-4000-8000-000000000005"
RETURNS = "d0000000-0000-4000-8000-000000000006"

pytestmark = pytest.mark.usefixtures("faraday_default")

FIRST: Any = {"task_reschedule_count": 0}
LATER: Any = {"task_reschedule_count": 1}


def sensor(**arguments: Any) -> DatasetsReadySensor:
    return DatasetsReadySensor(task_id="gate", **arguments)


@pytest.fixture
def all_ready(sandbox: Sandbox) -> Sandbox:
    for number in range(1, 5):
        sandbox.set_dataset(f"d0000000-0000-4000-8000-00000000000{number}", status="ready")
    return sandbox


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"connection_id": CONNECTION, "scope_id": SCOPE},
        {"connection_id": CONNECTION, "datasets": []},
        {"connection_id": CONNECTION, "scope_id": SCOPE, "datasets": [CUSTOMERS]},
    ],
)
def test_anything_but_one_source_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any]) -> None:
    with pytest.raises(FaradayInputError, match="exactly one of connection_id, scope_id and datasets"):
        sensor(**arguments)


def test_a_poll_waits_until_all_are_ready_and_then_returns_them(all_ready: Sandbox) -> None:
    all_ready.set_dataset(ORDERS, status="running")
    gate = sensor(connection_id=CONNECTION)
    assert not gate.poke(FIRST).is_done
    all_ready.set_dataset(ORDERS, status="ready")
    done = gate.poke(FIRST)
    assert done.is_done
    assert [d["name"] for d in done.xcom_value] == [
        "customers",
        "orders",
        "email_subscribers",
        "store_visits",
    ]
    assert all("sample" not in d and "options" in d for d in done.xcom_value)


def test_the_ready_datasets_are_trimmed_to_fields(all_ready: Sandbox) -> None:
    done = sensor(scope_id=SCOPE, fields=["id", "sample"]).poke(FIRST)
    assert [d.keys() for d in done.xcom_value] == [{"id", "sample"}] * 2


@pytest.mark.parametrize("form", ["ids", "dicts", "upper case"])
def test_named_datasets_alone_are_waited_for(all_ready: Sandbox, form: str) -> None:
    named: list[Any] = [ORDERS, CUSTOMERS]
    if form == "dicts":
        named = [{"id": ORDERS, "name": "x"}, {"id": CUSTOMERS}]
    elif form == "upper case":
        named = [ORDERS.upper(), CUSTOMERS.upper()]
    done = sensor(datasets=named).poke(FIRST)
    assert {d["name"] for d in done.xcom_value} == {"orders", "customers"}


def test_many_named_datasets_are_asked_for_in_batches(all_ready: Sandbox) -> None:
    many = [f"e0000000-0000-4000-8000-{number:012x}" for number in range(150)]
    with pytest.raises(FaradayNotFoundError, match="does not return"):
        sensor(datasets=[CUSTOMERS, *many]).poke(FIRST)
    assert [r["path"] for r in all_ready.requests()] == ["/v1/datasets"] * 2


def test_a_named_dataset_that_faraday_does_not_return_is_named(all_ready: Sandbox) -> None:
    unknown = "d0000000-0000-4000-8000-00000000dead"
    with pytest.raises(FaradayNotFoundError, match=f"does not return {unknown}"):
        sensor(datasets=[CUSTOMERS, unknown]).poke(FIRST)


def test_error_fails_with_the_dataset_and_its_reason(sandbox: Sandbox) -> None:
    sandbox.set_dataset(RETURNS, status="error", status_error="No such table")
    with pytest.raises(DatasetsFailedError, match=rf"could not build 'returns' \({RETURNS}\): No such table"):
        sensor(connection_id=UPLOADS).poke(FIRST)
    assert not sensor(connection_id=UPLOADS, fail_on_error=False).poke(FIRST).is_done


def test_nothing_to_wait_for_fails_unless_allowed(sandbox: Sandbox) -> None:
    for source in ({"connection_id": EMPTY}, {"datasets": []}, {"datasets": [LEGACY_ORDERS]}):
        with pytest.raises(NothingToWaitForError, match="There is nothing to wait for"):
            sensor(**source).poke(FIRST)
        done = sensor(**source, allow_empty=True).poke(FIRST)
        assert (done.is_done, done.xcom_value) == (True, [])


def test_each_poll_logs_one_line_and_an_unknown_status_is_said_once(
    all_ready: Sandbox, task_log: list[str]
) -> None:
    all_ready.set_dataset(ORDERS, status="pending")
    gate = sensor(connection_id=CONNECTION)
    gate.poke(FIRST)
    gate.poke(FIRST)
    line = (
        f"INFO 3 of 4 datasets ready; waiting for 'orders' ({ORDERS}): status pending; "
        f"left out as archived: 'legacy_orders' ({LEGACY_ORDERS})"
    )
    unknown = "WARNING This provider does not know the status 'pending'; it counts as not ready."
    assert [logged for logged in task_log if "ready" in logged] == [line, unknown, line]


def test_a_missing_status_is_waited_for(all_ready: Sandbox) -> None:
    all_ready.set_dataset(ORDERS, status=None)
    assert not sensor(scope_id=SCOPE).poke(FIRST).is_done


@pytest.mark.parametrize(
    "as_given",
    [
        lambda moment: moment,
        lambda moment: moment.isoformat(),
        lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        lambda moment: str(moment.astimezone(timezone(timedelta(hours=-8)))),
        lambda moment: moment.replace(tzinfo=None),
    ],
)
def test_updated_after_takes_only_later_builds(
    all_ready: Sandbox, as_given: Callable[[datetime], Any]
) -> None:
    built = sensor(datasets=[ORDERS]).poke(FIRST).xcom_value[0]["last_updated_output_at"]
    moment = datetime.fromisoformat(built)
    assert sensor(datasets=[ORDERS], updated_after=as_given(moment)).poke(FIRST).is_done
    later = moment + timedelta(seconds=1)
    assert not sensor(datasets=[ORDERS], updated_after=as_given(later)).poke(FIRST).is_done


@pytest.mark.parametrize("value", ["None", "", "yesterday", 5, ["2026-01-01"]])
def test_an_updated_after_that_is_no_time_is_refused(sandbox: Sandbox, value: Any) -> None:
    with pytest.raises(FaradayInputError, match="updated_after must be a datetime or an ISO 8601 text"):
        sensor(scope_id=SCOPE, updated_after=value).poke(FIRST)
    assert sandbox.requests() == []


@pytest.mark.parametrize("fault", [{"status": 503}, {"broken": "dropped"}, {"status": 404}, {"status": 401}])
def test_the_first_poll_is_strict(
    all_ready: Sandbox, faraday_default: Callable[..., None], fault: dict[str, Any]
) -> None:
    faraday_default(extra={"max_attempts": 1})
    all_ready.fail_next(times=9, **fault)
    with pytest.raises(FaradayApiError):
        sensor(scope_id=SCOPE).poke(FIRST)


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"broken": "dropped"}])
@pytest.mark.parametrize("how", ["after a good poll", "after a reschedule"])
def test_later_polls_wait_out_what_is_transient(
    all_ready: Sandbox,
    faraday_default: Callable[..., None],
    fault: dict[str, Any],
    how: str,
    task_log: list[str],
) -> None:
    faraday_default(extra={"max_attempts": 1})
    all_ready.set_dataset(ORDERS, status="running")
    gate = sensor(scope_id=SCOPE)
    context = LATER if how == "after a reschedule" else FIRST
    if how == "after a good poll":
        assert not gate.poke(context).is_done
    all_ready.fail_next(times=1, **fault)
    assert not gate.poke(context).is_done
    assert "WARNING Not ready yet, because Faraday could not be asked" in task_log[-1]
    all_ready.set_dataset(ORDERS, status="ready")
    assert gate.poke(context).is_done


@pytest.mark.parametrize("status", [400, 403, 404])
def test_later_polls_fail_at_once_on_what_is_permanent(all_ready: Sandbox, status: int) -> None:
    gate = sensor(scope_id=SCOPE)
    gate.poke(FIRST)
    all_ready.fail_next(times=1, status=status)
    with pytest.raises(FaradayApiError) as caught:
        gate.poke(LATER)
    assert caught.value.status_code == status


def test_a_key_rotated_while_waiting_heals_the_wait(
    all_ready: Sandbox, faraday_default: Callable[..., None]
) -> None:
    gate = sensor(scope_id=SCOPE)
    assert gate.poke(FIRST).is_done
    all_ready.rotate_key("the-new-key")
    with pytest.raises(FaradayAuthenticationError):
        gate.poke(LATER)
    faraday_default(password="the-new-key")
    assert gate.poke(LATER).is_done


def test_datasets_that_cannot_be_judged_are_an_error(faraday_default: Callable[..., None]) -> None:
    with RawServer([answer(body=[{"id": "a", "status": 5}])]) as server:
        faraday_default(host=server.url)
        with pytest.raises(FaradayResponseError, match="cannot be judged"):
            sensor(scope_id=SCOPE).poke(FIRST)


def test_a_reset_connection_is_healed_within_the_poll(
    faraday_default: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    with RawServer([reset, answer(body=[{"id": "a", "status": "ready"}])]) as server:
        faraday_default(host=server.url)
        assert sensor(scope_id=SCOPE).poke(FIRST).is_done
