"""Limits on the size of messages and stored arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_faraday.exceptions import FaradayApiError
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from raw_server import answer
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import deferral_of

Serve = Callable[[Account], Account]


def datasets(number: int, **fields: Any) -> list[dict[str, Any]]:
    return [node(id_of(13, n), "datasets", f"Dataset {n:04}", **fields) for n in range(number)]


def force_update(some: list[dict[str, Any]]) -> ForceUpdateDatasetsOperator:
    ids = [each["id"] for each in some]
    return ForceUpdateDatasetsOperator(task_id="force_update", datasets=ids, allow_empty=True)


@pytest.mark.parametrize("fields", [{"status": "ready"}, {"archived_at": "2026-01-01T00:00:00Z"}])
def test_the_log_of_a_forced_update_names_at_most_ten_datasets(
    serve: Serve, task_log: list[str], fields: dict[str, Any]
) -> None:
    some = datasets(50, **fields)
    serve(Account(*some, waited="datasets"))
    force_update(some).execute({})
    assert all(len(re.findall(r"Dataset \d{4}", line)) <= 10 for line in task_log)


def test_the_error_of_a_rejected_update_names_at_most_ten_datasets(serve: Serve) -> None:
    some = datasets(50)
    account = serve(Account(*some, waited="datasets"))
    rejected = answer(409, {"error": "CONFLICT", "note": "The table is gone. " * 15})
    account.steps = {f"/datasets/{each['id']}/force_update": rejected for each in some[1:]}
    with pytest.raises(FaradayApiError, match="1 of 50 datasets") as caught:
        force_update(some).execute({})
    assert len(set(re.findall(r"Dataset \d{4}", str(caught.value)))) <= 10
    assert len(str(caught.value)) < 20_000


def test_a_dataset_that_is_listed_twice_is_returned_once(serve: Serve) -> None:
    """A list can change between the requests for its pages."""
    first, second = datasets(2, status="ready")
    serve(Account(first, second, {**first, "row_count": 2}, waited="datasets"))
    result = DatasetsReadySensor(task_id="gate", datasets=[first["id"], second["id"]]).execute({})
    assert [each["id"] for each in result] == [first["id"], second["id"]]
    assert result[0]["row_count"] == 2


def test_a_deferred_wait_stores_the_times_that_it_may_need(serve: Serve) -> None:
    """A thousand mapped tasks may get a thousand times each. What is upstream of them may change."""
    [dataset] = datasets(1, status="running")
    delivered = node(id_of(7, 0), "targets", status="running")
    serve(Account(dataset, delivered, links=[(dataset, delivered)]))
    times = {id_of(13, n): f"2026-01-02T00:00:00.{n:06}Z" for n in range(1000)}
    arguments: Any = {"task_id": "gate", "updated_after": times, "deferrable": True}
    for sensor, needed in (
        (DatasetsReadySensor(datasets=dataset["id"], **arguments), {dataset["id"]}),
        (TargetsReadySensor(targets=delivered["id"], include_upstream=True, **arguments), times.keys()),
    ):
        deferral = deferral_of(sensor)
        for stored in (deferral.trigger.serialize()[1], (deferral.kwargs or {})["wait"]):
            assert stored["criteria"]["updated_after"].keys() == needed
