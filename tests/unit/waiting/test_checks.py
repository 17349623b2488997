"""Checks end a wait alike in all modes: judged once, when all resources are ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_faraday.exceptions import ChecksFailedError, FaradayInputError
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.sensors.scopes import ScopesReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import MODES, deferral_of, outcome

Serve = Callable[[Account], Account]

FIRST, SECOND = id_of(13), id_of(13, 2)
AT_LEAST_100: Any = {"row_count": {"geq_to": 100}}
MISSING: Any = object()


def dataset(id_: str = FIRST, row_count: Any = MISSING, **fields: Any) -> dict[str, Any]:
    counted = {} if row_count is MISSING else {"row_count": row_count}
    return node(id_, "datasets", **counted, **fields)


def sensor(checks: Any = AT_LEAST_100, **arguments: Any) -> Callable[..., Any]:
    defaults = {"datasets": [FIRST, SECOND], "poke_interval": 0.02, "timeout": 10}
    return lambda **mode: DatasetsReadySensor(task_id="t", checks=checks, **{**defaults, **arguments, **mode})


def becoming_ready(*datasets: dict[str, Any]) -> Account:
    """Return an account whose first dataset is ready at the second poll."""
    account = Account(*datasets, waited="datasets")
    datasets[0]["status"] = "running"
    account.script = [lambda: datasets[0].update(status="ready")]
    return account


@pytest.mark.parametrize("mode", MODES)
def test_good_resources_are_returned(serve: Serve, mode: str) -> None:
    serve(becoming_ready(dataset(row_count=100), dataset(SECOND, row_count=1000)))
    assert [each["id"] for each in outcome(sensor(), mode)] == [FIRST, SECOND]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [99, MISSING, None, "1000", True, {"total": 1000}, [1000]])
def test_a_bad_resource_fails_the_task(serve: Serve, mode: str, value: Any) -> None:
    serve(becoming_ready(dataset(row_count=value), dataset(SECOND, row_count=100)))
    says = rf"1 of 2 datasets .*{FIRST}.*row_count.*geq_to 100"
    with pytest.raises(ChecksFailedError, match=says) as caught:
        outcome(sensor(), mode)
    assert caught.value.resource_ids == [FIRST]
    assert SECOND not in str(caught.value)
    # Airflow does not retry.
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("mode", MODES)
def test_nested_fields_are_checked(serve: Serve, mode: str) -> None:
    checks = {"enrichment.fig.person": {"geq_to": 10}}
    serve(becoming_ready(dataset(enrichment={"fig": {"person": 9}}), dataset(SECOND, enrichment={})))
    with pytest.raises(ChecksFailedError, match=r"2 of 2 .*person is 9, .*person is missing") as caught:
        outcome(sensor(checks), mode)
    assert caught.value.resource_ids == [FIRST, SECOND]


@pytest.mark.parametrize("mode", MODES)
def test_soft_fail_skips(serve: Serve, mode: str) -> None:
    serve(becoming_ready(dataset(row_count=1), dataset(SECOND, row_count=1)))
    with pytest.raises(AirflowSkipException, match="row_count"):
        outcome(sensor(soft_fail=True), mode)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_forced_update_checks_the_builds_that_it_waits_for(serve: Serve, mode: str) -> None:
    built = dataset(row_count=100)
    account = serve(Account(built, waited="datasets"))

    def build() -> None:
        later = "2026-02-01T00:00:00Z"
        built.update(row_count=99, last_updated_output_at=later, last_read_input_at=later)

    account.script = [lambda: None, build]
    with pytest.raises(ChecksFailedError, match="row_count is 99"):
        outcome(
            lambda **arguments: ForceUpdateDatasetsOperator(
                task_id="t",
                datasets=[FIRST],
                checks=AT_LEAST_100,
                wait_for_completion=True,
                poke_interval=0.02,
                timeout=10,
                **arguments,
            ),
            mode,
        )
    assert account.posted == [f"/datasets/{FIRST}/force_update"]


def test_nothing_is_checked_before_all_are_ready(serve: Serve) -> None:
    serve(Account(dataset(row_count=1, status="running"), dataset(SECOND, row_count=1), waited="datasets"))
    assert not sensor()().poke({"task_reschedule_count": 0}).is_done


def test_skipped_resources_and_an_empty_list_are_not_checked(serve: Serve) -> None:
    archived = {"archived_at": "2026-01-01T00:00:00Z"}
    serve(
        Account(
            dataset(row_count=1, **archived),
            dataset(SECOND, row_count=None, preview=True),
            dataset(id_of(13, 3), row_count=100),
            waited="datasets",
        )
    )
    ready = sensor(datasets=[FIRST, SECOND, id_of(13, 3)])
    assert [each["id"] for each in outcome(ready, "poke")] == [id_of(13, 3)]
    assert outcome(sensor(allow_empty=True), "poke") == []


def test_fields_that_are_not_returned_are_checked(serve: Serve) -> None:
    serve(Account(dataset(row_count=100), dataset(SECOND, row_count=100), waited="datasets"))
    assert outcome(sensor(fields=["id"]), "poke") == [{"id": FIRST}, {"id": SECOND}]


def test_a_message_names_at_most_ten_resources(serve: Serve) -> None:
    ids = [id_of(13, number) for number in range(1, 13)]
    serve(Account(*(dataset(id_, row_count=1) for id_ in ids), waited="datasets"))
    with pytest.raises(ChecksFailedError, match=r"12 of 12 .* and 2 more") as caught:
        outcome(sensor(datasets=ids), "poke")
    assert caught.value.resource_ids == ids
    assert sum(id_ in str(caught.value) for id_ in ids) == 10


def test_the_trigger_does_not_get_the_checks(serve: Serve) -> None:
    serve(Account(dataset(status="running"), dataset(SECOND), waited="datasets"))
    with_checks, without = (deferral_of(sensor(checks)(deferrable=True)) for checks in (AT_LEAST_100, None))
    arguments, plain = (each.trigger.serialize()[1] for each in (with_checks, without))
    assert arguments | {"deadline": 0} == plain | {"deadline": 0}
    assert (with_checks.kwargs or {})["wait"]["checks"] == AT_LEAST_100
    assert "checks" not in (without.kwargs or {})["wait"]


@pytest.mark.parametrize(
    "build",
    [
        lambda checks: DatasetsReadySensor(task_id="t", datasets=[FIRST], checks=checks),
        lambda checks: ScopesReadySensor(task_id="t", scopes=[FIRST], checks=checks),
        lambda checks: TargetsReadySensor(task_id="t", targets=[FIRST], checks=checks),
        lambda checks: ResourcesReadySensor(
            task_id="t", resource_type="outcomes", resource_ids=[FIRST], checks=checks
        ),
        lambda checks: ForceUpdateDatasetsOperator(
            task_id="t", datasets=[FIRST], wait_for_completion=True, checks=checks
        ),
    ],
)
def test_mistakes_are_found_when_the_dag_file_is_parsed(build: Callable[[Any], Any]) -> None:
    for checks in ("{{ params.checks }}", {"roc_auc": {"at_least": 0.6}}, {"roc_auc": {"geq_to": "0.6"}}):
        with pytest.raises(FaradayInputError, match=r"'t'.*checks"):
            build(checks)


def test_an_update_that_does_not_wait_cannot_check() -> None:
    with pytest.raises(FaradayInputError, match="wait_for_completion"):
        ForceUpdateDatasetsOperator(task_id="t", datasets=[FIRST], checks=AT_LEAST_100)
