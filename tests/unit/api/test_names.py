"""Names in place of UUIDs: what is a name, and which resource has it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_faraday.api.errors import FaradayInputError, FaradayLookupError
from airflow_provider_faraday.api.inputs import resource_id_or_name, resource_ids_or_names
from airflow_provider_faraday.api.names import id_of
from airflow_provider_faraday.api.resources import RESOURCE_TYPES

ID = "d0000000-0000-4000-8000-00000000000a"


def named(*names: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": f"{ID[:-1]}{n:x}", "name": name, **fields} for n, name in enumerate(names)]


LISTED = [*named("customers", "orders", "store_visits"), *named("legacy", archived_at="2026-01-01")]


def find(name: str, listed: list[dict[str, Any]] = LISTED, resource_type: str = "datasets") -> str:
    return id_of(RESOURCE_TYPES[resource_type], name, listed, "crm")


def test_a_resource_is_found_by_its_exact_name() -> None:
    assert find("orders") == LISTED[1]["id"]


@pytest.mark.parametrize("name", ["ORDERS", "orders ", "ordrs"])
def test_an_error_has_similar_names_and_the_airflow_connection(name: str) -> None:
    with pytest.raises(FaradayLookupError, match=rf"named '{name}'. Candidates: 'orders'.\n.*'crm'"):
        find(name)


def test_an_archived_resource_is_not_found_and_the_error_says_so_only_for_its_name() -> None:
    with pytest.raises(FaradayLookupError, match="'legacy' that is not archived"):
        find("legacy")
    with pytest.raises(FaradayLookupError) as caught:
        find("no such name")
    assert "archived" not in str(caught.value)
    assert find("legacy", [*LISTED, *named("legacy")]) == LISTED[0]["id"]


def test_a_name_of_several_resources_lists_at_most_ten_of_them() -> None:
    with pytest.raises(FaradayLookupError, match=r"13 datasets are named 'orders': .* and 3 more") as caught:
        find("orders", named(*["orders"] * 13))
    assert str(caught.value).count(ID[:-1]) == 10


def test_an_airflow_connection_in_place_of_a_faraday_connection_is_recognized() -> None:
    with pytest.raises(FaradayLookupError, match="faraday_conn_id"):
        find("faraday_default", resource_type="connections")


def test_a_uuid_is_never_a_name() -> None:
    assert resource_id_or_name(ID.upper(), "x") == ID
    assert resource_ids_or_names(["orders", ID.upper(), {"id": ID}, "orders"], "x") == ["orders", ID]
    assert resource_ids_or_names("orders", "x") == ["orders"]


@pytest.mark.parametrize(
    "value",
    ["None", " ", "[orders]", "{'name': 'orders'}", f"{ID}0", f" {ID}", ID[:-4], 7, True, b"orders"],
)
def test_a_likely_mistake_is_no_name(value: Any) -> None:
    with pytest.raises(FaradayInputError, match="scope_id must be the UUID or the exact name"):
        resource_id_or_name(value, "scope_id")
