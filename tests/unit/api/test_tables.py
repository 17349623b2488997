"""Which datasets read a table: case, schemas and databases."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.tables import reads, select_by_table, table_names

PUBLIC = {"schema": "public"}


@pytest.mark.parametrize(
    ("options", "table", "expected"),
    [
        ({"table_name": "orders"}, "orders", True),
        ({"table_name": "ORDERS"}, "orders", True),
        ({"table_name": "web_orders"}, "orders", False),
        # The dataset does not say its schema.
        ({"table_name": "orders"}, "public.orders", True),
        ({"table_name": "orders"}, "retail.public.orders", True),
        ({"table_name": "orders"}, "orders.public", False),
        # It does, in the name or next to it.
        ({"table_name": "Public.orders"}, "public.ORDERS", True),
        ({"table_name": "public.orders"}, "sales.orders", False),
        ({"table_name": "public.orders"}, "retail.public.orders", True),
        ({"table_name": "orders"} | PUBLIC, "PUBLIC.orders", True),
        ({"table_name": "orders"} | PUBLIC, "sales.orders", False),
        ({"table_name": "orders", "dataset": "sales"}, "sales.orders", True),
        ({"upload_directory": "orders"}, "orders", False),
        (None, "orders", False),
    ],
)
def test_a_dataset_reads_a_table(options: Any, table: str, expected: bool) -> None:
    assert reads({"id": "a", "options": options}, table) is expected


def test_datasets_are_selected_in_their_order_with_the_tables_that_none_of_them_reads() -> None:
    datasets = [{"id": n, "options": {"table_name": name}} for n, name in enumerate(("a", "b", "b", "c"))]
    found, unread = select_by_table(datasets, ["x", "b", "A"])
    assert [dataset["id"] for dataset in found] == [0, 1, 2]
    assert unread == ["x"]
    assert select_by_table(datasets, []) == ([], [])


def test_tables_are_a_list_of_names_or_a_single_one() -> None:
    assert table_names({"a": 1, "s.b": 2}.keys()) == ["a", "s.b"]
    # As a mapped task gets it.
    assert table_names("public.orders") == ["public.orders"]


@pytest.mark.parametrize("tables", [None, "", [None], {"a": 1}, 7, b"a", ["a."], "a..b", [["a"]]])
def test_anything_else_is_an_input_error(tables: Any) -> None:
    with pytest.raises(FaradayInputError, match="tables must be a list of names"):
        table_names(tables)
