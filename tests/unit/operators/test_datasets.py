"""List operators: what they return, log and raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_faraday.exceptions import FaradayApiError, FaradayInputError, FaradayNotFoundError
from airflow_provider_faraday.operators.datasets import (
    ListConnectionDatasetsOperator,
    ListScopeDatasetsOperator,
)
from airflow_provider_faraday.operators.resources import ListResourcesOperator
from support.ids import CUSTOMERS, SCOPE, UNKNOWN, WAREHOUSE

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("faraday_default")


def list_connection(**arguments: Any) -> list[dict[str, Any]]:
    operator = ListConnectionDatasetsOperator(task_id="t", **{"connection_id": WAREHOUSE} | arguments)
    return operator.execute({})


def test_datasets_are_returned_with_all_fields_but_the_sample(sandbox: Sandbox) -> None:
    sandbox.set_dataset(CUSTOMERS, brand_new_field={"a": [1, None]})
    datasets = list_connection()
    assert [dataset["name"] for dataset in datasets][:2] == ["customers", "orders"]
    assert len(datasets) == 5
    assert datasets[0]["brand_new_field"] == {"a": [1, None]}
    assert all("sample" not in dataset and "options" in dataset for dataset in datasets)


def test_a_scopes_datasets_are_returned() -> None:
    datasets = ListScopeDatasetsOperator(task_id="t", scope_id=SCOPE).execute({})
    assert [dataset["name"] for dataset in datasets] == ["customers", "orders"]


def test_only_requested_fields_are_returned() -> None:
    datasets = list_connection(fields=["id", "sample", "no_such_field"])
    assert all(dataset.keys() == {"id", "sample"} for dataset in datasets)


def test_the_log_counts_the_datasets_by_status(sandbox: Sandbox, task_log: list[str]) -> None:
    for number in range(1, 6):
        sandbox.set_dataset(f"d0000000-0000-4000-8000-00000000000{number}", status="ready")
    sandbox.set_dataset(CUSTOMERS, status="running")
    list_connection()
    assert "INFO Faraday returned 5 datasets: 3 ready, 1 running, 1 archived" in task_log


def test_an_invalid_argument_sends_nothing(sandbox: Sandbox) -> None:
    with pytest.raises(FaradayInputError, match="connection_id must be the UUID"):
        list_connection(connection_id=WAREHOUSE[:-1])
    with pytest.raises(FaradayInputError, match="fields must be a list"):
        list_connection(fields="id")
    assert sandbox.requests() == []


def test_an_unknown_faraday_connection_is_an_error() -> None:
    with pytest.raises(FaradayNotFoundError, match=r"404 NOT_FOUND"):
        list_connection(connection_id=UNKNOWN)


def test_another_airflow_connection_can_be_used(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, faraday_default: Callable[..., None]
) -> None:
    faraday_default(password="wrong")
    with pytest.raises(FaradayApiError, match="Airflow connection 'faraday_default'"):
        list_connection()
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", f"faraday://:{sandbox.api_key}@127.0.0.1:{sandbox.port}/http")
    assert len(list_connection(faraday_conn_id="other")) == 5


def names(datasets: list[dict[str, Any]]) -> list[str]:
    return [dataset["name"] for dataset in datasets]


@pytest.mark.parametrize(
    ("tables", "listed"),
    [
        (["orders"], ["orders"]),
        (["PUBLIC.Orders", "customers"], ["customers", "orders"]),
        ("orders", ["orders"]),
        ([], []),
    ],
)
def test_only_datasets_that_read_the_tables_are_listed(tables: Any, listed: list[str]) -> None:
    assert names(list_connection(tables=tables)) == listed
    assert names(ListScopeDatasetsOperator(task_id="t", scope_id=SCOPE, tables=tables).execute({})) == listed


def test_a_table_that_no_dataset_reads_is_an_error_with_the_tables_that_exist() -> None:
    with pytest.raises(FaradayNotFoundError) as caught:
        list_connection(tables=["orders", "ordres", "nope"])
    what, remedy = str(caught.value).split("\n")
    assert what == f"None of the 5 datasets of Faraday connection {WAREHOUSE} reads ordres, nope."
    assert remedy == (
        "They read customers, email_subscribers, legacy_orders, orders, store_visits. Check tables."
    )


def test_tables_that_render_to_none_list_nothing(sandbox: Sandbox) -> None:
    operator = ListScopeDatasetsOperator(task_id="t", scope_id=SCOPE, tables="{{ tables }}")
    operator.tables = None
    with pytest.raises(FaradayInputError, match="was given tables"):
        operator.execute({})
    assert sandbox.requests() == []


def test_ids_that_render_to_none_do_not_list_the_whole_account(sandbox: Sandbox) -> None:
    operator = ListResourcesOperator(task_id="t", resource_type="datasets", resource_ids="{{ ids }}")
    operator.resource_ids = None
    with pytest.raises(FaradayInputError, match="was given resource_ids"):
        operator.execute({})
    assert sandbox.requests() == []


@pytest.mark.parametrize("operator", [ListConnectionDatasetsOperator, ListScopeDatasetsOperator])
def test_ids_airflow_connection_and_fields_are_templated(operator: Any) -> None:
    assert {"faraday_conn_id", "fields", "tables"} < set(operator.template_fields)
    assert {"connection_id", "scope_id"} & set(operator.template_fields)
