"""A wait for a dataset that has failed says what its ingress logs say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_faraday.exceptions import (
    ChecksFailedError,
    DatasetsFailedError,
    ResourcesFailedError,
)
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.waiting import reasons
from airflow_provider_faraday.waiting.reasons import MAX_DATASETS
from support.ids import CUSTOMERS, ORDERS, TARGET
from support.modes import MODES, deferral_of, event_of, outcome

pytestmark = pytest.mark.usefixtures("faraday_default", "short_waits")

LOGS = [
    {
        "started_at": "2026-01-02T00:00:00Z",
        "finished_at": "2026-01-02T00:01:00Z",
        "status": "error",
        "status_error": "Column 'email' is gone",
        "metrics": {"total_row_count": 7},
    },
    {"started_at": "2026-01-01T00:00:00Z", "status": "ready", "metrics": {"total_row_count": 1000}},
]
SAID = ("Column 'email' is gone", "total_row_count fell from 1,000 to 7")


@pytest.fixture
def logs(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the ingress logs of every dataset."""
    found = list(LOGS)
    monkeypatch.setattr(sandbox, "ingress_logs", lambda dataset_id: found)
    return found


def waiting(*ids: str, resource_type: str = "datasets", **arguments: Any) -> Callable[..., Any]:
    fields = {"resource_type": resource_type, "resource_ids": list(ids), "poke_interval": 0.02, **arguments}
    return lambda **mode: ResourcesReadySensor(task_id="gate", timeout=10, **{**fields, **mode})


def requested_logs(sandbox: Sandbox) -> int:
    return len([each for each in sandbox.requests() if each["path"].endswith("/logs/ingress")])


def fail(sandbox: Sandbox, *ids: str) -> None:
    for id_ in ids:
        sandbox.set_dataset(id_, status="error", status_error="Ingress failed")


@pytest.mark.parametrize("mode", MODES)
def test_the_error_has_the_reason_and_the_counts_that_shrank(
    sandbox: Sandbox, logs: list[dict[str, Any]], mode: str
) -> None:
    fail(sandbox, ORDERS)

    with pytest.raises(DatasetsFailedError) as caught:
        outcome(waiting(ORDERS), mode)

    what, said, remedy = str(caught.value).splitlines()
    assert "Ingress failed" in what
    assert [words for words in (ORDERS, *SAID) if words not in said] == []
    assert "fail_on_error" in remedy
    assert requested_logs(sandbox) == 1


def test_a_deferred_wait_reads_the_logs_on_the_worker(sandbox: Sandbox, logs: list[dict[str, Any]]) -> None:
    sandbox.set_dataset(ORDERS, status="running")
    deferral = deferral_of(waiting(ORDERS)(deferrable=True))
    fail(sandbox, ORDERS)

    event = event_of(deferral.trigger)
    assert requested_logs(sandbox) == 0

    resumed = waiting(ORDERS)(deferrable=True)
    with pytest.raises(DatasetsFailedError, match="Column 'email' is gone"):
        resumed.execute_complete({}, event, **(deferral.kwargs or {}))
    assert requested_logs(sandbox) == 1


def test_a_failed_dataset_upstream_is_explained_too(sandbox: Sandbox, logs: list[dict[str, Any]]) -> None:
    sandbox.advance(60)
    fail(sandbox, ORDERS)

    with pytest.raises(ResourcesFailedError, match="Column 'email' is gone"):
        outcome(waiting(TARGET, resource_type="targets", include_upstream=True), "poke")


@pytest.mark.parametrize("mode", MODES)
def test_failed_checks_are_explained_too(sandbox: Sandbox, logs: list[dict[str, Any]], mode: str) -> None:
    sandbox.set_dataset(ORDERS, status="ready")

    with pytest.raises(ChecksFailedError) as caught:
        outcome(waiting(ORDERS, checks={"row_count": {"greater_than": 10**9}}), mode)

    _, said, remedy = str(caught.value).splitlines()
    assert [words for words in (ORDERS, *SAID) if words not in said] == []
    assert "change checks" in remedy
    assert requested_logs(sandbox) == 1


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 404}, {"status": 401}, {"body": "[5]"}])
def test_a_failure_to_read_the_logs_changes_nothing(
    sandbox: Sandbox, logs: list[dict[str, Any]], fault: dict[str, Any]
) -> None:
    fail(sandbox, ORDERS, CUSTOMERS)
    sandbox.fail_next(**{"times": 5, "path": "/logs/ingress$", **fault})

    with pytest.raises(DatasetsFailedError) as caught:
        outcome(waiting(ORDERS, CUSTOMERS), "poke")

    assert len(str(caught.value).splitlines()) == 2
    assert requested_logs(sandbox) == 1


def test_silence_does_not_hold_up_the_failure(
    sandbox: Sandbox, logs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "TIMEOUT_SECONDS", 0.1)
    fail(sandbox, ORDERS)
    sandbox.fail_next(path="/logs/ingress$", delay=5)

    with pytest.raises(DatasetsFailedError) as caught:
        outcome(waiting(ORDERS), "poke")

    assert "Column" not in str(caught.value)


def test_empty_logs_change_nothing(sandbox: Sandbox, logs: list[dict[str, Any]]) -> None:
    logs.clear()
    fail(sandbox, ORDERS)

    with pytest.raises(DatasetsFailedError) as caught:
        outcome(waiting(ORDERS), "poke")

    assert len(str(caught.value).splitlines()) == 2


def test_only_the_first_failed_datasets_are_looked_up(sandbox: Sandbox, logs: list[dict[str, Any]]) -> None:
    ids = [sandbox.add_dataset(name=f"added {n}")["id"] for n in range(MAX_DATASETS + 2)]
    fail(sandbox, *ids)

    with pytest.raises(DatasetsFailedError):
        outcome(waiting(*ids), "poke")

    assert requested_logs(sandbox) == MAX_DATASETS


def test_the_logs_of_other_types_are_not_requested(sandbox: Sandbox) -> None:
    sandbox.set_resource("targets", TARGET, status="error", status_error="No such bucket")

    with pytest.raises(ResourcesFailedError, match="No such bucket"):
        outcome(waiting(TARGET, resource_type="targets"), "poke")

    assert requested_logs(sandbox) == 0
