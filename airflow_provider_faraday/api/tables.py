"""Which datasets read a table, by the ``options`` of the datasets."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.inputs import excerpt, is_list


def table_names(tables: object) -> list[str]:
    """Return a ``tables`` argument as a list of names.

    :param tables: a list of names, or a single one, as a mapped task receives it.
    :raises FaradayInputError: if it is anything else.
    """
    names = list(tables) if is_list(tables) else [tables]
    if not all(isinstance(name, str) and all(name.split(".")) for name in names):
        raise FaradayInputError(
            "tables must be a list of names such as orders or public.orders, but is "
            f"{type(tables).__name__} {excerpt(tables)}.\n"
            "If it comes from a template or an XCom, check the rendered value."
        )
    return [str(name) for name in names]


def table_of(dataset: dict[str, Any]) -> str | None:
    """Return the table that a dataset reads, with its schema if the dataset has one; None without a table."""
    options = dataset.get("options") or {}
    name: str | None = options.get("table_name")
    if not name:
        return None
    schema = options.get("schema")
    return f"{schema}.{name}" if schema and "." not in name else name


def reads(dataset: dict[str, Any], table: str) -> bool:
    """Return whether a dataset reads a table.

    Case is ignored. The names are compared from the right, as far as both go: ``orders`` matches any schema,
    and ``public.orders`` matches ``orders``, whose schema is unknown.
    """
    read = table_of(dataset)
    if read is None:
        return False
    parts = (name.casefold().split(".")[::-1] for name in (read, table))
    return all(a is None or b is None or a == b for a, b in zip_longest(*parts))


def select_by_table(
    datasets: list[dict[str, Any]], tables: list[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the datasets that read one of the tables, and the tables that no dataset reads."""
    found = [dataset for dataset in datasets if any(reads(dataset, table) for table in tables)]
    unread = [table for table in tables if not any(reads(dataset, table) for dataset in found)]
    return found, unread
