"""The table of resource types, and what is returned of a resource."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.inputs import field_names
from airflow_provider_faraday.api.resources import (
    RESOURCE_TYPES,
    count_by_status,
    resource_type_named,
    select_fields,
)

DATASETS = RESOURCE_TYPES["datasets"]
DATASET = {"id": "a", "status": "ready", "sample": {"email": "x@y.z"}, "new_field": [1]}
log = logging.getLogger(__name__)


def test_an_unknown_resource_type_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(FaradayInputError, match=r"one of .*datasets.*but is 'tables'"):
        resource_type_named("tables")


def test_accounts_are_refused_in_a_sentence_of_their_own() -> None:
    with pytest.raises(FaradayInputError, match=r"Accounts are not resources to list, wait for or update"):
        resource_type_named("accounts")


def test_every_type_but_accounts_is_in_the_table() -> None:
    assert ", ".join(RESOURCE_TYPES) == (
        "atlases, attributes, cohorts, connections, datasets, feature_stores, market_opportunity_analyses, "
        "outcomes, persona_sets, places, recommenders, scopes, streams, targets, traits"
    )


def test_messages_tell_faraday_connections_from_those_of_airflow() -> None:
    connections = RESOURCE_TYPES["connections"]
    assert (connections.label, connections.plural) == ("Faraday connection", "Faraday connections")
    assert connections.id_argument == "connection_id"
    assert count_by_status(connections, [{"status": "ready"}]) == "1 Faraday connection: 1 ready"


@pytest.mark.parametrize(
    ("name", "label", "plural", "id_argument"),
    [
        ("datasets", "dataset", "datasets", "dataset_id"),
        ("feature_stores", "feature store", "feature stores", "feature_store_id"),
        (
            "market_opportunity_analyses",
            "market opportunity analysis",
            "market opportunity analyses",
            "market_opportunity_analysis_id",
        ),
    ],
)
def test_a_type_is_named_in_messages(name: str, label: str, plural: str, id_argument: str) -> None:
    kind = RESOURCE_TYPES[name]
    assert (kind.label, kind.plural, kind.id_argument) == (label, plural, id_argument)


def test_all_fields_but_the_excluded_ones_are_returned_by_default() -> None:
    assert select_fields(DATASETS, [DATASET], None, log) == [{"id": "a", "status": "ready", "new_field": [1]}]


def test_credentials_of_faraday_connections_are_returned_only_on_request() -> None:
    connection = {"id": "a", "options": {"password": "x"}}
    connections = RESOURCE_TYPES["connections"]
    assert select_fields(connections, [connection], None, log) == [{"id": "a"}]
    assert select_fields(connections, [connection], ["options"], log) == [{"options": {"password": "x"}}]


def test_only_requested_fields_are_returned_excluded_ones_among_them() -> None:
    assert select_fields(DATASETS, [DATASET], ["id", "sample"], log) == [
        {"id": "a", "sample": {"email": "x@y.z"}}
    ]


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


@pytest.mark.parametrize("fields", ["id", [], {"id": 1}, [1], 5, b"id"])
def test_fields_must_be_a_list_of_names(fields: Any) -> None:
    with pytest.raises(FaradayInputError, match="fields must be a list of field names"):
        field_names(fields)


def test_resources_are_counted_by_status_and_archived_ones_apart() -> None:
    archived = {"id": "c", "status": "ready", "archived_at": "2026-01-01T00:00:00Z"}
    assert count_by_status(DATASETS, []) == "0 datasets"
    assert count_by_status(DATASETS, [DATASET]) == "1 dataset: 1 ready"
    assert count_by_status(DATASETS, [DATASET, {"id": "b"}, DATASET, archived]) == (
        "4 datasets: 2 ready, 1 without a status, 1 archived"
    )
