"""DatasetsReadySensor: single polls against the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

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
from support.ids import (
    CUSTOMERS,
    EMPTY_CONNECTION,
    LEGACY_ORDERS,
    ORDERS,
    RETURNS,
    SCOPE,
    UNKNOWN,
    UPLOADS,
    WAREHOUSE,
)

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

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
        {"connection_id": WAREHOUSE, "scope_id": SCOPE},
        {"connection_id": WAREHOUSE, "datasets": []},
        {"connection_id": WAREHOUSE, "scope_id": SCOPE, "datasets": [CUSTOMERS]},
    ],
)
def test_exactly_one_source_is_required_when_the_dag_is_parsed(arguments: dict[str, Any]) -> None:
    with pytest.raises(FaradayInputError, match="exactly one of connection_id, scope_id and datasets"):
        sensor(**arguments)


def test_a_poll_waits_until_all_are_ready_and_then_returns_them(all_ready: Sandbox) -> None:
    all_ready.set_dataset(ORDERS, status="running")
    gate = sensor(connection_id=WAREHOUSE)
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


def test_only_requested_fields_are_returned(all_ready: Sandbox) -> None:
    done = sensor(scope_id=SCOPE, fields=["id", "sample"]).poke(FIRST)
    assert [d.keys() for d in done.xcom_value] == [{"id", "sample"}] * 2


@pytest.mark.parametrize("form", ["ids", "dicts", "upper case"])
def test_only_named_datasets_are_waited_for(all_ready: Sandbox, form: str) -> None:
    named: list[Any] = [ORDERS, CUSTOMERS]
    if form == "dicts":
        named = [{"id": ORDERS, "name": "x"}, {"id": CUSTOMERS}]
    elif form == "upper case":
        named = [ORDERS.upper(), CUSTOMERS.upper()]
    done = sensor(datasets=named).poke(FIRST)
    assert {d["name"] for d in done.xcom_value} == {"orders", "customers"}


def test_many_named_datasets_are_requested_in_batches(all_ready: Sandbox) -> None:
    many = [f"dd000000-0000-4000-8000-{number:012x}" for number in range(150)]
    with pytest.raises(FaradayNotFoundError, match="did not return"):
        sensor(datasets=[CUSTOMERS, *many]).poke(FIRST)
    assert [r["path"] for r in all_ready.requests()] == ["/v1/datasets"] * 2


def test_a_named_dataset_that_is_missing_is_an_error(all_ready: Sandbox) -> None:
    with pytest.raises(FaradayNotFoundError, match=f"did not return dataset {UNKNOWN}"):
        sensor(datasets=[CUSTOMERS, UNKNOWN]).poke(FIRST)


def test_error_fails_with_the_dataset_and_its_reason(sandbox: Sandbox) -> None:
    sandbox.set_dataset(RETURNS, status="error", status_error="No such table")
    with pytest.raises(
        DatasetsFailedError, match=rf"could not build dataset 'returns' \({RETURNS}\): No such table"
    ):
        sensor(connection_id=UPLOADS).poke(FIRST)
    assert not sensor(connection_id=UPLOADS, fail_on_error=False).poke(FIRST).is_done


def test_nothing_to_wait_for_fails_unless_allowed(sandbox: Sandbox) -> None:
    for source in ({"connection_id": EMPTY_CONNECTION}, {"datasets": []}, {"datasets": [LEGACY_ORDERS]}):
        with pytest.raises(NothingToWaitForError, match="no datasets to wait for"):
            sensor(**source).poke(FIRST)
        done = sensor(**source, allow_empty=True).poke(FIRST)
        assert (done.is_done, done.xcom_value) == (True, [])


def test_a_verdict_and_an_unknown_status_are_logged_once_while_nothing_changes(
    all_ready: Sandbox, task_log: list[str]
) -> None:
    all_ready.set_dataset(ORDERS, status="pending")
    gate = sensor(connection_id=WAREHOUSE)
    gate.poke(FIRST)
    gate.poke(FIRST)
    line = (
        f"INFO 3 of 4 datasets ready; waiting for: 'orders' ({ORDERS}): status pending; "
        f"skipped: 'legacy_orders' ({LEGACY_ORDERS}): archived"
    )
    unknown = "WARNING Unknown status 'pending'. Treating it as not ready."
    assert [logged for logged in task_log if "ready" in logged] == [line, unknown]


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
        # As mapped uploads return theirs: the latest counts.
        lambda moment: [(moment - timedelta(days=1)).isoformat(), moment.isoformat()],
    ],
)
def test_updated_after_counts_only_later_builds(
    all_ready: Sandbox, as_given: Callable[[datetime], Any]
) -> None:
    built = sensor(datasets=[ORDERS]).poke(FIRST).xcom_value[0]["last_updated_output_at"]
    moment = datetime.fromisoformat(built)
    assert sensor(datasets=[ORDERS], updated_after=as_given(moment)).poke(FIRST).is_done
    later = moment + timedelta(seconds=1)
    assert not sensor(datasets=[ORDERS], updated_after=as_given(later)).poke(FIRST).is_done


@pytest.mark.parametrize("value", ["None", "", "yesterday", 5, [], ["2026-01-01", {}]])
def test_updated_after_must_be_a_time(sandbox: Sandbox, value: Any) -> None:
    with pytest.raises(FaradayInputError, match="updated_after must be a datetime"):
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
def test_later_polls_wait_out_transient_failures(
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
    assert "WARNING Poll failed, retrying until the timeout" in task_log[-1]
    all_ready.set_dataset(ORDERS, status="ready")
    assert gate.poke(context).is_done


@pytest.mark.parametrize("status", [400, 403, 404])
def test_later_polls_fail_on_permanent_errors(all_ready: Sandbox, status: int) -> None:
    gate = sensor(scope_id=SCOPE)
    gate.poke(FIRST)
    all_ready.fail_next(times=1, status=status)
    with pytest.raises(FaradayApiError) as caught:
        gate.poke(LATER)
    assert caught.value.status_code == status


def test_a_wait_uses_a_rotated_key(all_ready: Sandbox, faraday_default: Callable[..., None]) -> None:
    gate = sensor(scope_id=SCOPE)
    assert gate.poke(FIRST).is_done
    all_ready.rotate_key("the-new-key")
    with pytest.raises(FaradayAuthenticationError):
        gate.poke(LATER)
    faraday_default(password="the-new-key")
    assert gate.poke(LATER).is_done


def test_datasets_in_an_unexpected_format_are_an_error(faraday_default: Callable[..., None]) -> None:
    with RawServer([answer(body=[{"id": "a", "status": 5}])]) as server:
        faraday_default(host=server.url)
        with pytest.raises(FaradayResponseError, match="unexpected format"):
            sensor(scope_id=SCOPE).poke(FIRST)


def test_a_reset_tcp_connection_is_retried_within_the_poll(
    faraday_default: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    with RawServer([reset, answer(body=[{"id": "a", "status": "ready"}])]) as server:
        faraday_default(host=server.url)
        assert sensor(scope_id=SCOPE).poke(FIRST).is_done


def test_a_timeout_says_what_was_not_ready_and_why(all_ready: Sandbox, task_log: list[str]) -> None:
    all_ready.set_dataset(ORDERS, status="running")
    gate = sensor(scope_id=SCOPE, poke_interval=0.02, timeout=0.05)
    with pytest.raises(AirflowSensorTimeout, match=f"'orders' .{ORDERS}.: status running"):
        gate.execute(FIRST)
    assert "'orders'" in task_log[-1]
    gate.soft_fail = True
    with pytest.raises(AirflowSkipException, match=f"'orders' .{ORDERS}.: status running"):
        gate.execute(FIRST)


def test_a_timeout_names_the_failure_of_the_last_poll(
    all_ready: Sandbox, faraday_default: Callable[..., None]
) -> None:
    faraday_default(extra={"max_attempts": 1})
    all_ready.set_dataset(ORDERS, status="running")

    class Gate(DatasetsReadySensor):
        def poke(self, context: Any) -> Any:
            result = super().poke(context)
            all_ready.fail_next(times=1000, status=503)
            return result

    gate = Gate(task_id="gate", scope_id=SCOPE, poke_interval=0.1, timeout=2)
    with pytest.raises(AirflowSensorTimeout, match=r"'orders'.*503"):
        gate.execute(FIRST)


def test_soft_fail_skips_with_the_reason(sandbox: Sandbox) -> None:
    sandbox.set_dataset(RETURNS, status="error", status_error="No such table")
    with pytest.raises(AirflowSkipException, match="No such table"):
        sensor(connection_id=UPLOADS, soft_fail=True).execute(FIRST)


def test_a_time_per_dataset_is_applied_to_each(all_ready: Sandbox) -> None:
    for id_ in (CUSTOMERS, ORDERS):
        all_ready.set_dataset(id_, status="ready", last_updated_output_at="2026-06-01T00:00:00Z")
        all_ready.set_dataset(id_, last_updated_config_at="2026-01-01T00:00:00Z")
    times = {CUSTOMERS: "2026-06-01T00:00:00+00:00", ORDERS.upper(): "2026-06-02T00:00:00+00:00"}
    assert not sensor(scope_id=SCOPE, updated_after=times).poke(FIRST).is_done
    # As a mapped force update returns it.
    several = [{CUSTOMERS: "2026-06-01T00:00:00+00:00"}, {ORDERS: "2026-06-01T00:00:00+00:00"}]
    assert sensor(scope_id=SCOPE, updated_after=several).poke(FIRST).is_done
    with pytest.raises(FaradayInputError, match=rf"not for 'orders' \({ORDERS}\)"):
        sensor(scope_id=SCOPE, updated_after=several[:1]).poke(FIRST)


def test_of_two_times_for_a_dataset_the_later_one_counts(all_ready: Sandbox) -> None:
    all_ready.set_dataset(ORDERS, last_updated_output_at="2026-06-01T00:00:00Z")
    all_ready.set_dataset(ORDERS, last_updated_config_at="2026-01-01T00:00:00Z")
    times = [{ORDERS: "2026-07-01T00:00:00Z"}, {ORDERS: "2026-05-01T00:00:00Z"}]
    assert not sensor(datasets=[ORDERS], updated_after=times).poke(FIRST).is_done
    assert not sensor(datasets=[ORDERS], updated_after=times[::-1]).poke(FIRST).is_done


def test_previews_are_left_out(all_ready: Sandbox) -> None:
    all_ready.set_dataset(ORDERS, preview=True)
    done = sensor(scope_id=SCOPE).poke(FIRST)
    assert [d["name"] for d in done.xcom_value] == ["customers"]
    with pytest.raises(NothingToWaitForError, match="preview"):
        sensor(datasets=[ORDERS]).poke(FIRST)
