"""Endpoints: paths, and ids that are checked before they reach a URL."""

from __future__ import annotations

import uuid

import pytest

from airflow_provider_faraday.api import endpoints
from airflow_provider_faraday.api.endpoints import origin
from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.resources import RESOURCE_TYPES

ID = "5e0dfa56-2d52-4c06-a870-bc79c71e86a3"
DATASETS = RESOURCE_TYPES["datasets"]


def test_an_id_is_a_uuid_in_any_case() -> None:
    assert endpoints.get_resource(DATASETS, ID.upper()).path == f"/datasets/{ID}"
    with pytest.raises(FaradayInputError, match="persona_set_id must be the UUID of a Faraday resource"):
        endpoints.force_update(RESOURCE_TYPES["persona_sets"], "../accounts/current")


def test_requests_100_ids_at_a_time() -> None:
    ids = [str(uuid.UUID(int=n)) for n in range(250)]
    batches = endpoints.resources_by_id(DATASETS, ids)
    assert [len(batch.query) for batch in batches] == [100, 100, 50]
    assert [value for batch in batches for _, value in batch.query] == ids
    assert batches[2].url("https://x/v1").startswith("https://x/v1/datasets?ids=00000000-")


def test_responses_that_may_hold_secrets_are_private() -> None:
    assert endpoints.current_account().private
    for kind in (RESOURCE_TYPES["connections"], RESOURCE_TYPES["targets"]):
        assert endpoints.list_resources(kind).private
        assert endpoints.get_resource(kind, ID).private
        assert all(batch.private for batch in endpoints.resources_by_id(kind, [ID]))
    assert endpoints.resources_of(RESOURCE_TYPES["scopes"], ID, RESOURCE_TYPES["targets"]).private
    assert not endpoints.list_resources(DATASETS).private


def test_an_origin_has_the_default_port() -> None:
    assert origin("HTTPS://API.faraday.ai/v1") == origin("https://api.faraday.ai:443/x?y#z")
    assert origin("https://api.faraday.ai") != origin("http://api.faraday.ai:443")


@pytest.mark.parametrize(("directory", "filename"), [("..", "a.csv"), ("web_orders", "../a.csv")])
def test_only_an_upload_can_be_deleted(directory: str, filename: str) -> None:
    with pytest.raises(FaradayInputError):
        endpoints.delete_upload(directory, filename)
