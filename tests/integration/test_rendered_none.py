"""Arguments that render to ``None``, in real DAG runs."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, task

from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
    ListConnectionDatasetsOperator,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from support.ids import CUSTOMERS, ORDERS, WAREHOUSE
from support.markdown_pages import PAGES
from support.run_dag import AIRFLOW_3

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_faraday.sandbox import Sandbox
    from support.run_dag import DagRunResult

pytestmark = pytest.mark.usefixtures("faraday_default")

Run = Callable[..., "DagRunResult"] if TYPE_CHECKING else Any


@pytest.fixture(autouse=True)
def built_yesterday(sandbox: Sandbox) -> None:
    for id_ in (CUSTOMERS, ORDERS):
        sandbox.set_dataset(id_, status="ready")


@task
def skip() -> None:
    raise AirflowSkipException


@task(multiple_outputs=True)
def names() -> dict[str, Any]:
    return {"tables": ["customers"]}


def check_input_error(result: DagRunResult, task_id: str, argument: str, *more: str) -> None:
    """Check that a task failed with an error that names it and its argument, and has more words."""
    assert result[task_id].state == "failed"
    error = result[task_id].error
    assert isinstance(error, FaradayInputError)
    text = str(error).lower()
    assert [word for word in (f"'{task_id}'", argument, *more) if word not in text] == []


@pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])
def test_updated_after_that_renders_to_none_fails_the_sensor(run_dag: Run, mode: str) -> None:
    how: dict[str, Any] = (
        {"deferrable": True} if mode == "deferrable" else {"mode": mode, "deferrable": False}
    )
    gate = partial(
        DatasetsReadySensor,
        datasets=[CUSTOMERS],
        trigger_rule="none_failed",
        poke_interval=0.1,
        timeout=20,
        **how,
    )
    with DAG(f"rendered_none_{mode}", schedule=None) as dag:
        skipped = ForceUpdateDatasetsOperator(task_id="skipped", datasets=[CUSTOMERS])
        skip() >> skipped
        gate(task_id="of_a_skipped_task", updated_after=skipped.output["requested_at"])
        refresh = ForceUpdateDatasetsOperator(task_id="refresh", datasets=[ORDERS])
        gate(task_id="of_a_mistyped_key", updated_after=refresh.output["requested"])

    result = run_dag(dag)

    assert (result["skipped"].state, result["refresh"].state) == ("skipped", "success")
    for task_id in ("of_a_skipped_task", "of_a_mistyped_key"):
        check_input_error(result, task_id, "updated_after", "upstream task", "key")


def test_a_template_that_renders_to_none_is_an_error(run_dag: Run) -> None:
    with DAG("rendered_none_native", schedule=None, render_template_as_native_obj=True) as dag:
        ResourcesReadySensor(
            task_id="gate",
            resource_type="datasets",
            resource_ids=[CUSTOMERS],
            updated_after="{{ ti.xcom_pull(task_ids='nobody', key='requested_at') }}",
            poke_interval=0.1,
            timeout=20,
        )

    check_input_error(run_dag(dag), "gate", "updated_after", "upstream task", "key")


def test_the_template_in_the_docs_renders_without_a_logical_date(run_dag: Run, sandbox: Sandbox) -> None:
    block = PAGES["docs/sensor.md"].blocks[0].text
    (template,) = re.findall(r'updated_after="(.+)"', block)
    sandbox.advance(3600)
    sandbox.set_dataset(CUSTOMERS, status="ready")
    with DAG("manual", schedule=None) as dag:
        DatasetsReadySensor(
            task_id="gate", datasets=[CUSTOMERS], updated_after=template, fields=["id"], timeout=20
        )

    result = run_dag(dag, **({"logical_date": None} if AIRFLOW_3 else {}))

    assert result["gate"].xcom == [{"id": CUSTOMERS}]


def test_a_mapped_none_counts_as_not_given(run_dag: Run) -> None:
    arguments: dict[str, Any] = {"datasets": [CUSTOMERS], "fields": ["id"], "poke_interval": 0.1}
    with DAG("mapped_none", schedule=None) as dag:
        for deferrable in (False, True):
            task_id = "deferred" if deferrable else "poked"
            DatasetsReadySensor.partial(task_id=task_id, deferrable=deferrable, **arguments).expand(
                updated_after=[None, "2020-01-01T00:00:00Z"]
            )

    result = run_dag(dag)

    for key in ("poked[0]", "poked[1]", "deferred[0]", "deferred[1]"):
        assert result[key].xcom == [{"id": CUSTOMERS}]


def test_an_argument_that_renders_to_none_never_selects_everything(run_dag: Run, sandbox: Sandbox) -> None:
    with DAG("never_all", schedule=None) as dag:
        nothing: Any = names()["table"]
        ForceUpdateDatasetsOperator(task_id="tables", connection_id=WAREHOUSE, tables=nothing)
        ForceUpdateDatasetsOperator(task_id="connection_id", connection_id=nothing)
        ForceUpdateDatasetsOperator(task_id="datasets", datasets=nothing, allow_empty=True)
        ListConnectionDatasetsOperator(task_id="listed_tables", connection_id=WAREHOUSE, tables=nothing)
        gate = partial(DatasetsReadySensor, allow_empty=True, poke_interval=0.1, timeout=20)
        gate(task_id="gate_of_datasets", datasets=nothing)
        gate(task_id="gate_of_scope_id", scope_id=nothing)

    result = run_dag(dag)

    for task_id in ("tables", "connection_id", "datasets", "listed_tables"):
        check_input_error(result, task_id, task_id.removeprefix("listed_"))
    for argument in ("datasets", "scope_id"):
        check_input_error(result, f"gate_of_{argument}", argument)
    assert sandbox.requests() == []
