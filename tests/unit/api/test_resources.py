"""The table of resource types, and what is returned of a resource."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.resources import (
    RESOURCE_TYPES,
    count_by_status,
    resource_type_named,
    select_fields,
)

DATASETS = RESOURCE_TYPES["datasets"]
DATASET = {"id": "a", "status": "ready", "sample": {"email": "x@y.z"}, "new_field": [1]}
log = logging.getLogger(__name__)


@pytest.mark.parametrize(
    ("name", "says"), [("tables", r"one of .*datasets.*but is 'tables'"), ("accounts", "but is 'accounts'")]
)
def test_an_unknown_resource_type_is_rejected(name: str, says: str) -> None:
    with pytest.raises(FaradayInputError, match=says):
        resource_type_named(name)


def test_all_fields_but_the_excluded_ones_are_returned_unless_they_are_requested() -> None:
    assert select_fields(DATASETS, [DATASET], None, log) == [{"id": "a", "status": "ready", "new_field": [1]}]
    assert select_fields(DATASETS, [DATASET], ["sample"], log) == [{"sample": {"email": "x@y.z"}}]
    for name in ("connections", "targets"):
        secret = {"id": "a", "options": {"password": "x"}}
        assert select_fields(RESOURCE_TYPES[name], [secret], None, log) == [{"id": "a"}]


def test_a_requested_field_that_no_resource_has_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    assert select_fields(DATASETS, [DATASET, {"id": "b"}], ["id", "rowcount", "new_field"], log) == [
        {"id": "a", "new_field": [1]},
        {"id": "b"},
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "No dataset has these requested fields: rowcount"
    ]
    caplog.clear()
    select_fields(DATASETS, [], ["rowcount"], log)
    assert not caplog.records


def test_resources_are_counted_by_status_and_archived_ones_apart() -> None:
    archived = {"id": "c", "status": "ready", "archived_at": "2026-01-01T00:00:00Z"}
    assert count_by_status(DATASETS, []) == "0 datasets"
    assert count_by_status(DATASETS, [DATASET]) == "1 dataset: 1 ready"
    assert count_by_status(DATASETS, [DATASET, {"id": "b"}, DATASET, archived]) == (
        "4 datasets: 2 ready, 1 without a status, 1 archived"
    )
