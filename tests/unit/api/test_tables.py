"""Which datasets read a table: case, schemas and databases."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.tables import reads, select_by_table, table_names, table_of

PUBLIC = {"schema": "public"}


@pytest.mark.parametrize(
    ("options", "table", "expected"),
    [
        ({"table_name": "orders"}, "orders", True),
        ({"table_name": "ORDERS"}, "orders", True),
        ({"table_name": "orders"}, "Orders", True),
        ({"table_name": "orders"}, "order", False),
        ({"table_name": "web_orders"}, "orders", False),
        # The dataset does not say its schema.
        ({"table_name": "orders"}, "public.orders", True),
        ({"table_name": "orders"}, "retail.public.orders", True),
        ({"table_name": "orders"}, "orders.public", False),
        # It does, in the name or next to it.
        ({"table_name": "Public.orders"}, "orders", True),
        ({"table_name": "Public.orders"}, "public.ORDERS", True),
        ({"table_name": "public.orders"}, "sales.orders", False),
        ({"table_name": "public.orders"}, "retail.public.orders", True),
        ({"table_name": "orders"} | PUBLIC, "orders", True),
        ({"table_name": "orders"} | PUBLIC, "PUBLIC.orders", True),
        ({"table_name": "orders"} | PUBLIC, "sales.orders", False),
        ({"table_name": "orders", "dataset": "sales"}, "sales.orders", True),
        ({"table_name": "orders", "dataset": "sales"}, "public.orders", False),
        ({"upload_directory": "orders"}, "orders", False),
        ({"table_name": None}, "None", False),
        ({"table_name": 7}, "7", False),
        (None, "orders", False),
    ],
)
def test_a_dataset_reads_a_table(options: Any, table: str, expected: bool) -> None:
    assert reads({"id": "a", "options": options}, table) is expected


def test_a_dataset_without_options_reads_no_table() -> None:
    assert table_of({"id": "a"}) is None


def test_datasets_are_selected_in_their_order_with_the_tables_that_none_of_them_reads() -> None:
    datasets = [{"id": n, "options": {"table_name": name}} for n, name in enumerate(("a", "b", "b", "c"))]
    found, unread = select_by_table(datasets, ["x", "b", "A"])
    assert [dataset["id"] for dataset in found] == [0, 1, 2]
    assert unread == ["x"]
    assert select_by_table(datasets, []) == ([], [])


@pytest.mark.parametrize("tables", [["a", "s.b"], ("a", "s.b"), {"a": 1, "s.b": 2}.keys()])
def test_tables_are_a_list_of_names(tables: Any) -> None:
    assert table_names(tables) == ["a", "s.b"]


def test_a_single_table_is_accepted_as_a_mapped_task_gets_it() -> None:
    assert table_names("public.orders") == ["public.orders"]


@pytest.mark.parametrize(
    "tables", [None, "", [""], [None], {"a": 1}, 7, b"a", ["a."], [".a"], "a..b", [["a"]]]
)
def test_anything_else_is_an_input_error(tables: Any) -> None:
    with pytest.raises(FaradayInputError, match="tables must be a list of names"):
        table_names(tables)
