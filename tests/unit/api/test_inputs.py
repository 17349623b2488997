"""Inputs: what DAG authors and templates may pass, and what the errors say."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.inputs import field_names, resource_id, resource_ids_or_names

ID = "5e0dfa56-2d52-4c06-a870-bc79c71e86a3"
OTHER = str(uuid.UUID(int=1))


@pytest.mark.parametrize("value", ["", None, f"{ID}\n", f" {ID}", ID.replace("-", ""), [ID]])
def test_an_id_must_be_a_uuid(value: Any) -> None:
    with pytest.raises(FaradayInputError, match="scope_id must be the UUID"):
        resource_id(value, "scope_id")


def test_an_error_quotes_a_long_value_in_part() -> None:
    with pytest.raises(FaradayInputError, match=r"xxx…\.\n"):
        resource_id("x" * 5000, "scope_id")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (iter([ID, {"id": OTHER, "name": "x"}, {"id": ID.upper()}]), [ID, OTHER]),
        # A mapped task gets a single one.
        (ID, [ID]),
        ({"id": ID, "name": "x"}, [ID]),
        # A mapped list operator returns a list of lists.
        ([[{"id": ID}], [], [{"id": OTHER}]], [ID, OTHER]),
        ([], []),
    ],
)
def test_accepts_ids_and_dicts(values: Any, expected: list[str]) -> None:
    assert resource_ids_or_names(values, "datasets") == expected


@pytest.mark.parametrize("values", [b"x", {"name": ID}, None, "[]"])
def test_rejects_what_is_not_a_list(values: Any) -> None:
    with pytest.raises(FaradayInputError, match="datasets must be a list"):
        resource_ids_or_names(values, "datasets")


@pytest.mark.parametrize("values", [[{"name": "no id"}], [None], [[[ID]]], ID[:-1]])
def test_names_the_item_that_is_wrong(values: Any) -> None:
    with pytest.raises(FaradayInputError, match=r"datasets\[0\] must be the UUID"):
        resource_ids_or_names(values, "datasets")


def test_accepts_field_names() -> None:
    assert field_names(None) is None
    assert field_names(("id", "name")) == ["id", "name"]


@pytest.mark.parametrize("fields", ["id", [], [1], {"id": 1}, 5])
def test_rejects_anything_but_a_list_of_field_names(fields: Any) -> None:
    with pytest.raises(FaradayInputError, match="fields must be a list of field names"):
        field_names(fields)
