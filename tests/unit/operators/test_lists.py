"""List operators: what they request, return and log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_faraday.exceptions import FaradayNotFoundError
from airflow_provider_faraday.operators.datasets import (
    ListConnectionDatasetsOperator,
    ListScopeDatasetsOperator,
)
from airflow_provider_faraday.operators.resources import ListResourcesOperator
from airflow_provider_faraday.operators.targets import (
    ListConnectionTargetsOperator,
    ListScopeTargetsOperator,
)
from support.ids import (
    CUSTOMERS,
    LEGACY_ORDERS,
    ORDERS,
    ORDERS_STREAM,
    SCOPE,
    SUBSCRIBERS,
    TARGET,
    UNKNOWN,
    VISITS,
    WAREHOUSE,
    WAREHOUSE_TARGET,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_faraday.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("faraday_default")

ALL = [CUSTOMERS, ORDERS, SUBSCRIBERS, VISITS, LEGACY_ORDERS]
OF_WAREHOUSE, OF_SCOPE = f"connections/{WAREHOUSE}", f"scopes/{SCOPE}"


def list_warehouse(**arguments: Any) -> list[dict[str, Any]]:
    operator = ListConnectionDatasetsOperator(task_id="t", connection_id=WAREHOUSE, **arguments)
    return operator.execute({})


@pytest.mark.parametrize(
    ("kind", "arguments", "path", "ids"),
    [
        (ListConnectionDatasetsOperator, {"connection_id": WAREHOUSE}, f"{OF_WAREHOUSE}/datasets", ALL),
        (ListScopeDatasetsOperator, {"scope_id": SCOPE}, f"{OF_SCOPE}/datasets", [CUSTOMERS, ORDERS]),
        (
            ListConnectionTargetsOperator,
            {"connection_id": WAREHOUSE},
            f"{OF_WAREHOUSE}/targets",
            [WAREHOUSE_TARGET],
        ),
        (ListScopeTargetsOperator, {"scope_id": SCOPE}, f"{OF_SCOPE}/targets", [TARGET, WAREHOUSE_TARGET]),
        (ListResourcesOperator, {"resource_type": "scopes"}, "scopes", [SCOPE]),
        (
            ListResourcesOperator,
            {"resource_type": "streams", "resource_ids": [ORDERS_STREAM, UNKNOWN]},
            "streams",
            [ORDERS_STREAM],
        ),
    ],
)
def test_the_resources_of_a_source_are_listed(
    sandbox: Sandbox, kind: Any, arguments: dict[str, Any], path: str, ids: list[str]
) -> None:
    # For other tasks of the DAG.
    others = (
        {}
        if kind is ListResourcesOperator
        else {"connection_id": WAREHOUSE, "scope_id": SCOPE, "resource_ids": [ORDERS]}
    )
    operator = kind(task_id="t", fields=["id", "no_such_field"], default_args=others, **arguments)
    listed = operator.execute({})
    assert listed == [{"id": id_} for id_ in ids]
    assert [request["path"] for request in sandbox.requests()] == [f"/v1/{path}"]


def test_datasets_are_returned_with_all_fields_but_the_sample_and_counted(
    sandbox: Sandbox, task_log: list[str]
) -> None:
    for id_ in (ORDERS, SUBSCRIBERS, VISITS):
        sandbox.set_dataset(id_, status="ready")
    sandbox.set_dataset(CUSTOMERS, status="running", brand_new_field={"a": [1, None]})
    datasets = list_warehouse()
    assert datasets[0]["brand_new_field"] == {"a": [1, None]}
    assert all("sample" not in dataset and "options" in dataset for dataset in datasets)
    assert "INFO Faraday returned 5 datasets: 3 ready, 1 running, 1 archived" in task_log


def test_another_airflow_connection_can_be_used(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, faraday_default: Callable[..., None]
) -> None:
    faraday_default(password="wrong")
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(sandbox.airflow_connection))
    assert len(list_warehouse(faraday_conn_id="other")) == 5


@pytest.mark.parametrize(
    ("tables", "ids"),
    [(["PUBLIC.Orders", "customers"], [CUSTOMERS, ORDERS]), ("orders", [ORDERS]), ([], [])],
)
def test_only_datasets_that_read_the_tables_are_listed(tables: Any, ids: list[str]) -> None:
    assert list_warehouse(tables=tables, fields=["id"]) == [{"id": id_} for id_ in ids]


def test_a_table_that_no_dataset_reads_is_an_error() -> None:
    with pytest.raises(FaradayNotFoundError, match=f"connection {WAREHOUSE} reads ordres, nope"):
        list_warehouse(tables=["orders", "ordres", "nope"])
