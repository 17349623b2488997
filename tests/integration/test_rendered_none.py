"""Arguments from XComs and templates, in real DAG runs: one that renders to ``None`` is an error."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, task

from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from support.ids import CUSTOMERS, WAREHOUSE
from support.markdown_pages import PAGES
from support.run_dag import AIRFLOW_3

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_faraday.sandbox import Sandbox
    from support.run_dag import DagRunResult

pytestmark = pytest.mark.usefixtures("faraday_default")

Run = Callable[..., "DagRunResult"] if TYPE_CHECKING else Any


@pytest.fixture(autouse=True)
def built_before_the_run(sandbox: Sandbox) -> None:
    sandbox.set_dataset(CUSTOMERS, status="ready")


@task
def skip() -> None:
    raise AirflowSkipException


@task(multiple_outputs=True)
def names() -> dict[str, Any]:
    return {"tables": ["customers"]}


def test_none_is_an_error_that_names_the_task_and_never_selects_everything(
    run_dag: Run, sandbox: Sandbox
) -> None:
    sensor = partial(
        DatasetsReadySensor, allow_empty=True, trigger_rule="none_failed", poke_interval=0.1, timeout=60
    )
    with DAG("rendered_none", schedule=None, render_template_as_native_obj=True) as dag:
        mistyped: Any = names()["table"]
        skipped = ForceUpdateDatasetsOperator(task_id="skipped", datasets=[CUSTOMERS])
        skip() >> skipped
        requested_at = skipped.output["requested_at"]
        ForceUpdateDatasetsOperator(task_id="tables", connection_id=WAREHOUSE, tables=mistyped)
        ForceUpdateDatasetsOperator(task_id="datasets", datasets=mistyped)
        sensor(task_id="scope_id", scope_id=mistyped)
        sensor(task_id="faraday_conn_id", datasets=[CUSTOMERS], faraday_conn_id=mistyped)
        sensor(task_id="updated_after", datasets=[CUSTOMERS], updated_after=requested_at)

    result = run_dag(dag)

    for task_id in ("tables", "datasets", "scope_id", "faraday_conn_id", "updated_after"):
        assert result[task_id].state == "failed"
        assert isinstance(result[task_id].error, FaradayInputError)
        assert re.search(f"'{task_id}' was given {task_id}.*None", str(result[task_id].error))
    assert result["skipped"].state == "skipped"
    assert sandbox.requests() == []


def test_the_template_in_the_docs_renders_without_a_logical_date(run_dag: Run, sandbox: Sandbox) -> None:
    block = PAGES["docs/sensor.md"].blocks[0].text
    (template,) = re.findall(r'updated_after="(.+)"', block)
    sandbox.advance(3600)
    sandbox.set_dataset(CUSTOMERS, status="ready")
    with DAG("manual", schedule=None) as dag:
        DatasetsReadySensor(
            task_id="gate", datasets=[CUSTOMERS], updated_after=template, fields=["id"], timeout=60
        )

    result = run_dag(dag, **({"logical_date": None} if AIRFLOW_3 else {}))

    assert result["gate"].xcom == [{"id": CUSTOMERS}]


def test_a_mapped_none_counts_as_not_given(run_dag: Run) -> None:
    with DAG("mapped_none", schedule=None) as dag:
        DatasetsReadySensor.partial(
            task_id="gate", datasets=[CUSTOMERS], fields=["id"], poke_interval=0.1
        ).expand(updated_after=[None, "2020-01-01T00:00:00Z"])

    result = run_dag(dag)

    assert [result[f"gate[{index}]"].xcom for index in range(2)] == [[{"id": CUSTOMERS}]] * 2
