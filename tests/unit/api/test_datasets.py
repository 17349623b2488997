"""Datasets: which fields are handed on."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_faraday.api.datasets import checked_fields, count_by_status, trimmed
from airflow_provider_faraday.api.errors import FaradayInputError

DATASET = {"id": "a", "status": "ready", "sample": {"email": "x@y.z"}, "new_field": [1]}


def test_every_field_but_the_sample_is_handed_on() -> None:
    assert trimmed(DATASET, None) == {"id": "a", "status": "ready", "new_field": [1]}


def test_named_fields_alone_are_kept_the_sample_included_and_unknown_ones_absent() -> None:
    assert trimmed(DATASET, ["id", "sample", "nonsense"]) == {"id": "a", "sample": {"email": "x@y.z"}}


@pytest.mark.parametrize("fields", ["id", [], {"id": 1}, [1], 5, b"id"])
def test_fields_that_are_no_list_of_names_are_refused(fields: Any) -> None:
    with pytest.raises(FaradayInputError, match="fields must be a list of dataset field names"):
        checked_fields(fields)


def test_datasets_are_counted_by_status() -> None:
    assert count_by_status([]) == "0 datasets"
    assert count_by_status([DATASET]) == "1 dataset: 1 ready"
    assert count_by_status([DATASET, {"id": "b"}, DATASET]) == "3 datasets: 2 ready, 1 without a status"
