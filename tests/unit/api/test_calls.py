"""Calls: ids are checked before they reach a URL, and batches keep to Faraday's limit."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from airflow_provider_faraday.api import calls
from airflow_provider_faraday.api.errors import FaradayInputError

ID = "5e0dfa56-2d52-4c06-a870-bc79c71e86a3"


def test_ids_are_taken_as_text_or_uuid_in_any_case() -> None:
    expected = f"/connections/{ID}/datasets"
    assert calls.connection_datasets(ID.upper()).path == expected
    assert calls.connection_datasets(uuid.UUID(ID)).path == expected


@pytest.mark.parametrize(
    "value",
    [
        "../accounts/current",
        "",
        None,
        7,
        ID + "\n",
        f" {ID}",
        ID.replace("-", ""),
        f"{ID}?x=1",
        [ID],
        "{{ x }}",
    ],
)
@pytest.mark.parametrize(
    "call", [calls.connection_datasets, calls.scope_datasets, calls.dataset, calls.force_update]
)
def test_anything_but_a_uuid_is_refused_with_a_sentence(call: Any, value: Any) -> None:
    with pytest.raises(FaradayInputError, match=r"_id must be the UUID of a Faraday resource.*but is"):
        call(value)


def test_a_long_wrong_id_is_shown_shortened() -> None:
    with pytest.raises(FaradayInputError) as caught:
        calls.dataset("x" * 5000)
    assert len(str(caught.value)) < 400


def test_ids_are_asked_for_once_each_a_hundred_at_a_time() -> None:
    ids = [str(uuid.UUID(int=n)) for n in range(250)]
    batches = calls.datasets_by_id([*ids, ids[0].upper()])
    assert [len(call.query) for call in batches] == [100, 100, 50]
    assert [value for call in batches for _, value in call.query] == ids
    assert batches[2].url("https://x/v1").startswith("https://x/v1/datasets?ids=00000000-")


def test_no_ids_make_no_call() -> None:
    assert calls.datasets_by_id([]) == []


def test_dataset_ids_takes_ids_and_dicts() -> None:
    other = str(uuid.UUID(int=1))
    assert calls.dataset_ids(iter([ID, {"id": other, "name": "x"}, {"id": ID}])) == [ID, other]


@pytest.mark.parametrize("value", [ID, {"id": ID, "name": "x"}])
def test_dataset_ids_takes_one_alone_as_a_mapped_task_gets_it(value: Any) -> None:
    assert calls.dataset_ids(value) == [ID]


@pytest.mark.parametrize("value", [b"x", {"name": ID}, 5, None, "[]", ID[:-1]])
def test_dataset_ids_refuses_what_is_no_list(value: Any) -> None:
    with pytest.raises(FaradayInputError, match="must be a list of dataset ids or of dataset dicts"):
        calls.dataset_ids(value)


def test_dataset_ids_takes_the_lists_that_a_mapped_list_operator_pushes() -> None:
    other = str(uuid.UUID(int=1))
    assert calls.dataset_ids([[{"id": ID}], [], [{"id": other}]]) == [ID, other]


@pytest.mark.parametrize("value", [[{"name": "no id"}], [None], [[[ID]]]])
def test_dataset_ids_names_the_item_that_is_wrong(value: Any) -> None:
    with pytest.raises(FaradayInputError, match=r"datasets\[0\] must be the UUID"):
        calls.dataset_ids(value)
