"""What holds for every response, searched with hypothesis."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from airflow_provider_faraday.api import endpoints, responses, states
from airflow_provider_faraday.api.errors import FaradayApiError
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.client.environment import next_link
from support.clients import KEY

DATASET_TYPE = RESOURCE_TYPES["datasets"]

JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.just(KEY),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=5,
)
DATASETS = st.lists(st.dictionaries(st.sampled_from(["id", "name", "status"]), JSON), max_size=3)
ERRORS = st.dictionaries(st.sampled_from(["error", "id", "note", "validationErrors"]), JSON)
BODIES = (JSON | DATASETS | ERRORS).map(lambda value: json.dumps(value).encode())
HEADERS = st.dictionaries(
    st.sampled_from(["Link", "Retry-After", "Date", "Content-Type"]),
    st.text(st.characters(max_codepoint=255)) | st.from_regex(r"<[a-z:/\[\]@?#%.]{0,20}>; rel=next"),
)


# The same examples on every run and machine, however slow it is.
@settings(derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([0, 200, 200, 302, 400, 401, 404, 429, 999]),
    HEADERS,
    BODIES | st.binary(max_size=200),
    st.sampled_from([responses.decode_resources, states.decode_states(DATASET_TYPE)]),
)
def test_any_response_is_a_page_of_datasets_or_one_of_our_errors(
    status: int, headers: dict[str, str], body: bytes, decode: Any
) -> None:
    config = ClientConfig(conn_id="faraday_default", api_key=KEY)
    fields = CIMultiDict(headers)
    response = responses.Response(status, fields, body, next_link(fields.get("Link", "")))
    exchange = responses.Exchange(config.request(endpoints.list_resources(DATASET_TYPE)), decode)
    try:
        exchange.receive(response)
    except FaradayApiError as error:
        check(error)
    else:
        following = exchange.next_request
        assert following is None or following.url.startswith("https://api.faraday.ai/")


def check(error: FaradayApiError) -> None:
    """Check that an error can be shown and stored, and does not leak the key."""
    str(error).encode()
    assert str(error).replace("\n", "", 1).isprintable()
    assert len(str(error)) < 2000
    assert KEY not in f"{error}{vars(error)}"
