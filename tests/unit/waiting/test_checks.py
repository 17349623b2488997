"""Checks of counts and scores: evaluated once, when all resources are ready."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_faraday.exceptions import ChecksFailedError
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import MODES, deferral_of, outcome

Serve = Callable[[Account], Account]

FIRST, SECOND, THIRD = (id_of(13, number) for number in (1, 2, 3))
AT_LEAST_100: Any = {"row_count": {"geq_to": 100}}


def dataset(id_: str = FIRST, **fields: Any) -> dict[str, Any]:
    return node(id_, "datasets", **fields)


def sensor(checks: Any = AT_LEAST_100, **arguments: Any) -> Callable[..., Any]:
    defaults = {"datasets": [FIRST, SECOND], "poke_interval": 0.02, "timeout": 60}
    return partial(DatasetsReadySensor, task_id="t", checks=checks, **{**defaults, **arguments})


def becoming_ready(*datasets: dict[str, Any]) -> Account:
    """Return an account whose first dataset is ready at the second poll."""
    account = Account(*datasets, waited="datasets")
    datasets[0]["status"] = "running"
    account.script = [lambda: datasets[0].update(status="ready")]
    return account


@pytest.mark.parametrize("mode", MODES)
def test_resources_that_pass_are_returned(serve: Serve, mode: str) -> None:
    serve(becoming_ready(dataset(row_count=100), dataset(SECOND, row_count=1000)))
    assert outcome(sensor(fields=["id"]), mode) == [{"id": FIRST}, {"id": SECOND}]


@pytest.mark.parametrize("mode", MODES)
def test_a_resource_that_does_not_pass_fails_the_task(serve: Serve, mode: str) -> None:
    serve(becoming_ready(dataset(row_count=99), dataset(SECOND, row_count=100)))
    message = rf"1 of 2 datasets .*{FIRST}.*row_count.*geq_to 100"
    with pytest.raises(ChecksFailedError, match=message) as caught:
        outcome(sensor(), mode)
    assert caught.value.resource_ids == [FIRST]
    assert SECOND not in str(caught.value)
    # Airflow does not retry.
    assert isinstance(caught.value, AirflowFailException)
    with pytest.raises(AirflowSkipException, match="row_count"):
        outcome(sensor(soft_fail=True), mode)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_forced_update_checks_the_builds_that_it_waits_for(serve: Serve, mode: str) -> None:
    built = dataset(row_count=100)
    account = serve(Account(built, waited="datasets"))
    later = "2026-02-01T00:00:00Z"
    new = {"row_count": 99, "last_updated_output_at": later, "last_read_input_at": later}
    account.script = [str, lambda: built.update(new)]
    arguments = {"datasets": [FIRST], "checks": AT_LEAST_100, "wait_for_completion": True, "timeout": 60}
    with pytest.raises(ChecksFailedError, match="row_count is 99"):
        outcome(partial(ForceUpdateDatasetsOperator, task_id="t", poke_interval=0.02, **arguments), mode)
    assert account.posted == [f"/datasets/{FIRST}/force_update"]


def test_checks_begin_when_all_resources_are_ready(serve: Serve) -> None:
    serve(Account(dataset(row_count=1, status="running"), dataset(SECOND, row_count=1), waited="datasets"))
    assert not sensor()().poke({"task_reschedule_count": 0}).is_done


def test_skipped_resources_are_not_checked(serve: Serve) -> None:
    archived = dataset(row_count=1, archived_at="2026-01-01T00:00:00Z")
    preview = dataset(SECOND, row_count=None, preview=True)
    serve(Account(archived, preview, dataset(THIRD, row_count=100), waited="datasets"))
    assert [each["id"] for each in outcome(sensor(datasets=[FIRST, SECOND, THIRD]), "poke")] == [THIRD]
    assert outcome(sensor(allow_empty=True), "poke") == []


def test_a_message_names_at_most_ten_resources(serve: Serve) -> None:
    ids = [id_of(13, number) for number in range(1, 13)]
    serve(Account(*(dataset(id_, row_count=1) for id_ in ids), waited="datasets"))
    with pytest.raises(ChecksFailedError, match=r"12 of 12 .* and 2 more") as caught:
        outcome(sensor(datasets=ids), "poke")
    assert caught.value.resource_ids == ids
    assert sum(id_ in str(caught.value) for id_ in ids) == 10


def test_the_trigger_does_not_get_the_checks(serve: Serve) -> None:
    serve(Account(dataset(status="running"), dataset(SECOND), waited="datasets"))
    deferral = deferral_of(sensor()(deferrable=True))
    assert "geq_to" not in str(deferral.trigger.serialize())
    assert (deferral.kwargs or {})["wait"]["checks"] == AT_LEAST_100
