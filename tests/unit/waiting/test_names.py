"""Names in place of UUIDs: each is looked up once, on the worker, before anything waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_faraday.exceptions import FaradayLookupError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
    ListConnectionDatasetsOperator,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from support.ids import CUSTOMERS, ORDERS, SCOPE, WAREHOUSE
from support.modes import deferral_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_faraday.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("faraday_default")

FIRST: Any = {"task_reschedule_count": 0}
READY: Any = {"status": "ready", "criteria": {}, "deadline": 0}
DATASETS = f"/connections/{WAREHOUSE}/datasets"


@pytest.fixture
def faraday_sandbox_age() -> float:
    """Return an age at which everything is built."""
    return 3600.0


def sent(sandbox: Sandbox) -> list[str]:
    return [entry["path"].removeprefix("/v1") for entry in sandbox.requests()]


def run(kind: Any, **arguments: Any) -> Any:
    return kind(task_id="t", **arguments).execute(FIRST)


@pytest.mark.parametrize(
    ("use", "requests"),
    [
        (lambda: run(ListConnectionDatasetsOperator, connection_id="Warehouse"), ["/connections", DATASETS]),
        (lambda: run(ListConnectionDatasetsOperator, connection_id=WAREHOUSE), [DATASETS]),
        (
            lambda: run(ForceUpdateDatasetsOperator, datasets=["orders", {"id": ORDERS}, "customers"]),
            ["/datasets", "/datasets", *(f"/datasets/{id_}/force_update" for id_ in (ORDERS, CUSTOMERS))],
        ),
        (lambda: run(DatasetsReadySensor, datasets="orders"), ["/datasets", "/datasets"]),
        (
            lambda: run(TargetsReadySensor, scope_id="Likely buyers"),
            ["/scopes", f"/scopes/{SCOPE}/targets"],
        ),
        (lambda: FaradayHook().get_dataset("orders"), ["/datasets", f"/datasets/{ORDERS}"]),
        (lambda: FaradayHook().list_datasets(["orders", "customers"]), ["/datasets", "/datasets"]),
        (lambda: FaradayHook().find_ids("datasets", [ORDERS, CUSTOMERS]), []),
    ],
)
def test_a_name_takes_one_request_and_a_uuid_none(
    use: Callable[[], Any], requests: list[str], sandbox: Sandbox
) -> None:
    use()
    assert sent(sandbox) == requests


def test_a_target_is_downloaded_by_name(sandbox: Sandbox, tmp_path: Path) -> None:
    assert FaradayHook().download_target("Likely buyers CSV", tmp_path / "hook.csv")["bytes"]
    assert sent(sandbox).count("/targets") == 1


def test_a_missing_name_fails_the_task_before_anything_else_is_sent(sandbox: Sandbox) -> None:
    with pytest.raises(FaradayLookupError, match=r"^ForceUpdateDatasetsOperator 't'.*'custmers'"):
        run(ForceUpdateDatasetsOperator, datasets=[ORDERS, "custmers"])
    assert sent(sandbox) == ["/datasets"]


def test_a_missing_name_is_never_skipped() -> None:
    with pytest.raises(FaradayLookupError):
        run(DatasetsReadySensor, datasets=["custmers"], soft_fail=True)


@pytest.mark.parametrize("arguments", [{"datasets": ["orders", CUSTOMERS]}, {"scope_id": "Likely buyers"}])
def test_triggers_get_uuids_only(arguments: dict[str, Any], sandbox: Sandbox) -> None:
    sandbox.set_dataset(ORDERS, status="running")
    deferral = deferral_of(DatasetsReadySensor(task_id="t", deferrable=True, **arguments))
    source = deferral.trigger.serialize()[1]["source"]
    assert source["resource_ids"] == ([ORDERS, CUSTOMERS] if "datasets" in arguments else None)
    assert source["scope_id"] == (SCOPE if "scope_id" in arguments else None)

    sandbox.set_dataset(ORDERS, status="ready")
    sandbox.clear_requests()
    resumed = DatasetsReadySensor(task_id="t", deferrable=True, **arguments)
    resumed.execute_complete(FIRST, READY, **(deferral.kwargs or {}))
    assert len(sent(sandbox)) == 1


def test_dags_test_resumes_a_task_by_name_without_its_wait() -> None:
    sensor = DatasetsReadySensor(task_id="t", deferrable=True, datasets=["orders"])
    assert [each["id"] for each in sensor.execute_complete(FIRST, READY)] == [ORDERS]


def test_a_lookup_that_fails_after_a_successful_poke_is_retried(
    sandbox: Sandbox, faraday_default: Callable[..., None]
) -> None:
    faraday_default(extra={"max_attempts": 1})
    sandbox.fail_next(path="/connections", status=503)
    again: Any = {"task_reschedule_count": 1}
    sensor = DatasetsReadySensor(task_id="t", mode="reschedule", connection_id="Warehouse")
    assert not sensor.poke(again).is_done
    assert sensor.poke(again).is_done
