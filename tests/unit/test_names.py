"""Names in place of UUIDs: each is looked up once, on the worker, before anything waits."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_faraday.exceptions import FaradayInputError, FaradayLookupError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
    ListConnectionDatasetsOperator,
    ListScopeDatasetsOperator,
)
from airflow_provider_faraday.operators.resources import ListResourcesOperator
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from airflow_provider_faraday.transfers.targets import DownloadTargetOperator
from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger
from support.ids import CUSTOMERS, LEGACY_ORDERS, ORDERS, SCOPE, TARGET, WAREHOUSE
from support.run_dag import AIRFLOW_3

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("faraday_default")

FIRST: Any = {"task_reschedule_count": 0}
DATASETS = f"/connections/{WAREHOUSE}/datasets"


@pytest.fixture
def faraday_sandbox_age() -> float:
    """Return an age at which everything is built."""
    return 3600.0


def sent(sandbox: Sandbox) -> list[str]:
    return [entry["path"].removeprefix("/v1") for entry in sandbox.requests()]


def run(kind: Any, **arguments: Any) -> Any:
    return kind(task_id="t", **arguments).execute(FIRST)


def sense(kind: Any, **arguments: Any) -> list[str]:
    return [each["id"] for each in run(kind, deferrable=False, **arguments)]


@pytest.mark.parametrize(
    ("use", "requests"),
    [
        (lambda: run(ListConnectionDatasetsOperator, connection_id="Warehouse"), ["/connections", DATASETS]),
        (
            lambda: run(ListScopeDatasetsOperator, scope_id="Likely buyers"),
            ["/scopes", f"/scopes/{SCOPE}/datasets"],
        ),
        (
            lambda: run(ListResourcesOperator, resource_type="streams", resource_ids=["orders"]),
            ["/streams", "/streams"],
        ),
        (
            lambda: run(ForceUpdateDatasetsOperator, datasets=["orders", "customers"]),
            ["/datasets", "/datasets", *(f"/datasets/{id_}/force_update" for id_ in (ORDERS, CUSTOMERS))],
        ),
        (lambda: sense(DatasetsReadySensor, connection_id="Warehouse"), ["/connections", DATASETS]),
        (lambda: sense(DatasetsReadySensor, datasets="orders"), ["/datasets", "/datasets"]),
        (
            lambda: sense(TargetsReadySensor, scope_id="Likely buyers"),
            ["/scopes", f"/scopes/{SCOPE}/targets"],
        ),
        (
            lambda: sense(ResourcesReadySensor, resource_type="cohorts", resource_ids=["Customers"]),
            ["/cohorts", "/cohorts"],
        ),
        (lambda: FaradayHook().list_connection_datasets("Warehouse"), ["/connections", DATASETS]),
        (lambda: FaradayHook().get_dataset("orders"), ["/datasets", f"/datasets/{ORDERS}"]),
        (lambda: FaradayHook().list_datasets(["orders", "customers"]), ["/datasets", "/datasets"]),
        (
            lambda: FaradayHook().force_update_dataset("orders"),
            ["/datasets", f"/datasets/{ORDERS}/force_update"],
        ),
        (lambda: FaradayHook().find_id("scopes", "Likely buyers"), ["/scopes"]),
        (lambda: FaradayHook().find_ids("datasets", [ORDERS, CUSTOMERS]), []),
        (lambda: sense(DatasetsReadySensor, connection_id=WAREHOUSE), [DATASETS]),
    ],
)
def test_a_name_takes_one_request_and_a_uuid_none(
    use: Callable[[], Any], requests: list[str], sandbox: Sandbox
) -> None:
    use()
    assert sent(sandbox) == requests


def test_a_target_is_downloaded_by_name(sandbox: Sandbox, tmp_path: Path) -> None:
    run(DownloadTargetOperator, target_id="Likely buyers CSV", path=str(tmp_path / "target.csv"))
    assert sent(sandbox).count("/targets") == 1
    assert FaradayHook().download_target("Likely buyers CSV", tmp_path / "hook.csv")["bytes"]


def test_a_resource_that_is_given_twice_counts_once(sandbox: Sandbox) -> None:
    given = ["orders", {"id": ORDERS}, "customers", ORDERS.upper(), "orders"]
    assert sorted(sense(DatasetsReadySensor, datasets=given)) == [CUSTOMERS, ORDERS]
    run(ForceUpdateDatasetsOperator, datasets=given)
    assert sandbox.forced_updates() == [ORDERS, CUSTOMERS]


def test_a_missing_name_lists_close_matches_and_nothing_else_is_sent(sandbox: Sandbox) -> None:
    for use in (
        lambda: sense(DatasetsReadySensor, datasets=["custmers"]),
        lambda: run(ForceUpdateDatasetsOperator, datasets=[ORDERS, "custmers"]),
        lambda: FaradayHook().get_dataset("custmers"),
    ):
        sandbox.clear_requests()
        with pytest.raises(FaradayLookupError, match=r"'custmers'.*'customers'") as caught:
            use()
        assert "store_visits" not in str(caught.value)
        assert "'faraday_default'" in str(caught.value)
        assert sent(sandbox) == ["/datasets"]


@pytest.mark.parametrize("arguments", [{"soft_fail": True}, {}])
def test_a_missing_name_is_never_skipped(arguments: dict[str, Any]) -> None:
    with pytest.raises(FaradayLookupError):
        sense(DatasetsReadySensor, datasets=["nothing alike"], **arguments)


def test_a_name_of_several_resources_lists_at_most_ten_of_them(sandbox: Sandbox) -> None:
    twin = sandbox.add_dataset(name="orders")["id"]
    with pytest.raises(FaradayLookupError, match=f"2 datasets are named 'orders': {ORDERS}, {twin}"):
        FaradayHook().get_dataset("orders")
    for _ in range(11):
        sandbox.add_dataset(name="orders")
    with pytest.raises(FaradayLookupError, match=r"13 datasets are named 'orders': .* and 3 more") as caught:
        FaradayHook().get_dataset("orders")
    assert str(caught.value).count(", ") == 9


def test_archived_resources_are_not_found_by_name(sandbox: Sandbox) -> None:
    with pytest.raises(FaradayLookupError, match="'legacy_orders' that is not archived"):
        FaradayHook().get_dataset("legacy_orders")
    assert FaradayHook().get_dataset(LEGACY_ORDERS)["name"] == "legacy_orders"
    new = sandbox.add_dataset(name="legacy_orders")["id"]
    assert FaradayHook().find_id("datasets", "legacy_orders") == new


def test_a_uuid_is_never_taken_for_a_name(sandbox: Sandbox) -> None:
    sandbox.add_dataset(name=ORDERS)
    sandbox.clear_requests()
    assert FaradayHook().get_dataset(ORDERS)["name"] == "orders"
    assert sent(sandbox) == [f"/datasets/{ORDERS}"]


def test_a_missing_name_says_nothing_of_archived_resources() -> None:
    with pytest.raises(FaradayLookupError) as caught:
        FaradayHook().get_dataset("no such name")
    assert "archived" not in str(caught.value)
    assert "legacy_orders" not in str(caught.value)


def test_an_airflow_connection_in_place_of_a_faraday_connection_is_recognized() -> None:
    with pytest.raises(FaradayLookupError, match=r"'Warehouse'.*\n.*faraday_conn_id"):
        run(ListConnectionDatasetsOperator, connection_id="faraday_default")


def test_names_are_compared_exactly() -> None:
    for name in ("ORDERS", "orders ", "order"):
        with pytest.raises(FaradayLookupError, match=r"Candidates: .*'orders'"):
            FaradayHook().find_id("datasets", name)


def test_the_same_name_has_another_uuid_in_another_account(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = resources.files("airflow_provider_faraday.sandbox").joinpath("account.json").read_text()
    production = json.loads(bundled.replace("70000000-", "7f000000-").replace("50000000-", "5f000000-"))
    production["targets"] = [each for each in production["targets"] if "CSV" in each["name"]]
    with Sandbox(account=production, age=3600) as other:
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_PRODUCTION", json.dumps(other.airflow_connection))
        for conn_id, id_ in (("faraday_default", TARGET), ("faraday_production", f"7f{TARGET[2:]}")):
            arguments = {"targets": ["Likely buyers CSV"], "faraday_conn_id": conn_id}
            assert sense(TargetsReadySensor, **arguments) == [id_]
        with pytest.raises(FaradayLookupError, match="'faraday_production'"):
            FaradayHook("faraday_production").find_id("targets", "Likely buyers to Snowflake")


@pytest.mark.parametrize("arguments", [{"datasets": ["orders", CUSTOMERS]}, {"scope_id": "Likely buyers"}])
def test_triggers_get_uuids_only(arguments: dict[str, Any], sandbox: Sandbox) -> None:
    sandbox.set_dataset(ORDERS, status="running")
    with pytest.raises(TaskDeferred) as deferred:
        run(DatasetsReadySensor, deferrable=True, **arguments)
    source = deferred.value.trigger.serialize()[1]["source"]
    assert source["resource_ids"] == ([ORDERS, CUSTOMERS] if "datasets" in arguments else None)
    assert source["scope_id"] == (SCOPE if "scope_id" in arguments else None)

    sandbox.set_dataset(ORDERS, status="ready")
    sandbox.clear_requests()
    sensor = DatasetsReadySensor(task_id="t", deferrable=True, **arguments)
    event = {"status": "ready", "criteria": {}, "deadline": 0}
    sensor.execute_complete(FIRST, event, **(deferred.value.kwargs or {}))
    assert len(sent(sandbox)) == 1


def test_dags_test_resumes_a_task_by_name_without_its_wait() -> None:
    sensor = DatasetsReadySensor(task_id="t", deferrable=True, datasets=["orders"])
    event = {"status": "ready", "criteria": {}, "deadline": 0}
    assert [each["id"] for each in sensor.execute_complete(FIRST, event)] == [ORDERS]


def test_a_look_up_that_fails_after_a_successful_poke_is_retried(
    sandbox: Sandbox, faraday_default: Callable[..., None]
) -> None:
    faraday_default(extra={"max_attempts": 1})
    fault = {"path": "/connections", "status": 503}
    sandbox.fail_next(**fault)
    again: Any = {"task_reschedule_count": 1}
    sensor = DatasetsReadySensor(task_id="t", mode="reschedule", connection_id="Warehouse")
    assert not sensor.poke(again).is_done
    assert sensor.poke(again).is_done


@pytest.mark.parametrize("name", ["None", "[orders]", "{'name': 'orders'}", "", f"{ORDERS}0", ORDERS[:-4]])
def test_what_is_more_likely_a_mistake_is_no_name(name: str, sandbox: Sandbox) -> None:
    for use in (
        lambda: DatasetsReadySensor(task_id="t", scope_id=name),
        lambda: DatasetsReadySensor(task_id="t", datasets=[name]),
        lambda: FaradayHook().get_dataset(name),
    ):
        with pytest.raises(FaradayInputError, match="the UUID or the exact name"):
            use()
    assert sent(sandbox) == []


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers")
@pytest.mark.parametrize("arguments", [{"datasets": ["orders"]}, {"connection_id": "Warehouse"}])
def test_watchers_take_uuids_only(arguments: dict[str, Any]) -> None:
    with pytest.raises(FaradayInputError, match="must be"):
        DatasetUpdatedTrigger(**arguments)


def test_a_task_whose_name_was_not_found_reports_no_lineage(tmp_path: Path) -> None:
    download = DownloadTargetOperator(task_id="t", target_id="nothing", path=str(tmp_path / "x.csv"))
    sensor = DatasetsReadySensor(task_id="t", datasets=["nothing"], deferrable=False)
    for task in (download, sensor):
        with pytest.raises(FaradayLookupError):
            task.execute(FIRST)
        assert not any(task._lineage())
