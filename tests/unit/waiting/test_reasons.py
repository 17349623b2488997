"""The error of a failed dataset has the reason in its ingress logs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from airflow_provider_faraday.exceptions import ChecksFailedError, DatasetsFailedError, ResourcesFailedError
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.waiting import reasons
from raw_server import answer, stall
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import deferral_of, event_of, outcome

Serve = Callable[[Account], Account]

ORDERS, TARGET = id_of(13), id_of(7)
FAILED = {"status": "error", "status_error": "Ingress failed"}
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


def account_of(*datasets: dict[str, Any], logs: Any = None) -> Account:
    account = Account(*datasets, waited="datasets")
    for each in datasets:
        account.steps[f"/datasets/{each['id']}/logs/ingress"] = logs or answer(body=LOGS)
    return account


def gate(*ids: str, resource_type: str = "datasets", **arguments: Any) -> Callable[..., Any]:
    fields = {"resource_ids": list(ids or [ORDERS]), "poke_interval": 0.02, "timeout": 60, **arguments}
    return partial(ResourcesReadySensor, task_id="gate", resource_type=resource_type, **fields)


def requested_logs(account: Account) -> int:
    return sum("/logs/ingress" in target for target in account.server.targets)


@pytest.mark.parametrize(
    ("fields", "checks", "error", "remedy"),
    [
        (FAILED, None, DatasetsFailedError, "fail_on_error"),
        ({"row_count": 7}, {"row_count": {"geq_to": 10}}, ChecksFailedError, "change checks"),
    ],
)
def test_the_error_has_the_reason_and_the_counts_that_shrank(
    serve: Serve, fields: dict[str, Any], checks: Any, error: type[Exception], remedy: str
) -> None:
    account = serve(account_of(node(ORDERS, "datasets", **fields)))
    with pytest.raises(error) as caught:
        outcome(gate(checks=checks), "poke")
    _, reason, what_to_do = str(caught.value).splitlines()
    for words in (ORDERS, "Column 'email' is gone", "total_row_count fell from 1,000 to 7"):
        assert words in reason
    assert remedy in what_to_do
    assert requested_logs(account) == 1


def test_the_logs_for_a_deferred_wait_are_requested_by_the_worker(serve: Serve) -> None:
    dataset = node(ORDERS, "datasets", status="running")
    account = serve(account_of(dataset))
    deferral = deferral_of(gate()(deferrable=True))
    dataset.update(FAILED)
    event = event_of(deferral.trigger)
    assert requested_logs(account) == 0
    with pytest.raises(DatasetsFailedError, match="Column 'email' is gone"):
        gate()(deferrable=True).execute_complete({}, event, **(deferral.kwargs or {}))


def test_the_error_of_a_target_has_the_reason_of_a_failed_dataset_upstream(serve: Serve) -> None:
    dataset, target = node(ORDERS, "datasets", **FAILED), node(TARGET, "targets")
    account = account_of(dataset)
    account.resources.append(target)
    account.links = [(dataset, target)]
    serve(account)
    waiting = gate(TARGET, resource_type="targets", include_upstream=True)
    with pytest.raises(ResourcesFailedError, match="Column 'email' is gone"):
        outcome(waiting, "poke")


@pytest.mark.parametrize("logs", [answer(500), answer(401), answer(body=b"[5]"), answer(body=[]), stall(10)])
def test_logs_that_cannot_be_read_do_not_change_the_error(
    serve: Serve, logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "TIMEOUT_SECONDS", 0.5)
    serve(account_of(node(ORDERS, "datasets", **FAILED), logs=logs))
    with pytest.raises(DatasetsFailedError, match="Ingress failed") as caught:
        outcome(gate(), "poke")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(("logs", "requests"), [(None, 3), (answer(503), 1)])
def test_the_logs_of_the_first_failed_datasets_are_requested_until_a_request_fails(
    serve: Serve, logs: Any, requests: int
) -> None:
    failed = [node(id_of(13, number), "datasets", **FAILED) for number in range(5)]
    account = serve(account_of(*failed, logs=logs))
    with pytest.raises(DatasetsFailedError):
        outcome(gate(*(each["id"] for each in failed)), "poke")
    assert requested_logs(account) == requests


def test_the_logs_of_other_types_are_not_requested(serve: Serve) -> None:
    account = serve(Account(node(TARGET, "targets", **FAILED)))
    with pytest.raises(ResourcesFailedError, match="Ingress failed"):
        outcome(gate(TARGET, resource_type="targets"), "poke")
    assert requested_logs(account) == 0
