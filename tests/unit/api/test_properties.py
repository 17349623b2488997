"""What holds for every response and every list of datasets, searched with hypothesis."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from airflow_provider_faraday.api import endpoints, responses, states
from airflow_provider_faraday.api.errors import FaradayApiError
from airflow_provider_faraday.api.readiness import Criteria, assess
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.client.environment import next_link
from support.clients import ID, KEY

# The same examples on every run and machine.
searched = settings(derandomize=True, deadline=None, database=None)

DATASET_TYPE = RESOURCE_TYPES["datasets"]
decode_states = states.decode_states(DATASET_TYPE)

JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.just(KEY),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=5,
)
DATASETS = st.lists(
    st.dictionaries(st.sampled_from(["id", "name", "status"]), JSON | st.just(ID)), max_size=3
)
ERRORS = st.dictionaries(st.sampled_from(["error", "id", "note", "validationErrors", KEY]), JSON)
BODIES = (JSON | DATASETS | ERRORS).map(lambda value: json.dumps(value).encode())
CUT = st.tuples(BODIES, st.integers(0, 60)).map(lambda pair: pair[0][: pair[1]])
HEADERS = st.dictionaries(
    st.sampled_from(["Link", "Retry-After", "Date", "Content-Type"]),
    st.text(st.characters(max_codepoint=255), max_size=40)
    | st.from_regex(r"<[a-z:/\[\]@?#%.]{0,20}>; ?rel=\"?next\"?", fullmatch=True)
    | st.integers().map(str)
    | st.just(f"<http://evil.example/{KEY}>; rel=next"),
)


@searched
@given(
    st.sampled_from([0, 200, 200, 302, 400, 401, 404, 429, 999]),
    HEADERS,
    BODIES | CUT | st.binary(max_size=200),
    st.sampled_from([responses.decode_resources, decode_states]),
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
        items = exchange.fetched.value
        assert all(item["id"] if isinstance(item, dict) else item.id for item in items)


def check(error: FaradayApiError) -> None:
    """Check that an error can be shown and stored, and does not leak the key."""
    str(error).encode()
    assert str(error).replace("\n", "", 1).isprintable()
    assert len(str(error)) < 2000
    assert KEY not in f"{error}{vars(error)}"


BUILT = "2026-01-02T00:00:00Z"
ORDER = [None, "2026-01-01T00:00:00Z", BUILT, "2026-01-03T00:00:00+05:30"]
IDS = ["d1", "d2", "d3"]
RESOURCES = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(IDS),
            "status": st.sampled_from(["ready", "ready", "running", "error", "pending", None]),
            "last_updated_config_at": st.sampled_from(ORDER),
            "last_updated_output_at": st.sampled_from(ORDER),
            "archived_at": st.sampled_from([None, None, BUILT]),
        }
    ),
    max_size=4,
    unique_by=lambda dataset: dataset["id"],
)


@searched
@given(RESOURCES, st.booleans(), st.none() | st.lists(st.sampled_from(IDS), unique=True).map(tuple))
def test_ready_never_covers_a_waiting_a_failed_or_a_missing_dataset(
    datasets: list[dict[str, Any]], only_new: bool, ids: tuple[str, ...] | None
) -> None:
    found = decode_states(responses.Response(200, {}, json.dumps(datasets).encode()))
    criteria = Criteria(updated_after=datetime(2026, 1, 2, tzinfo=UTC) if only_new else None)
    result = assess(DATASET_TYPE, found, criteria, ids, now=datetime(2026, 1, 4, tzinfo=UTC))
    live = [d for d in datasets if (ids is None or d["id"] in ids) and not d["archived_at"]]
    ready = [d["id"] for d in live if is_ready(d, only_new)]
    assert [state.id for state in result.ready] == ready
    there = {d["id"] for d in datasets} >= set(ids or ())
    assert result.is_ready == (there and 0 < len(live) == len(ready))


def is_ready(dataset: dict[str, Any], only_new: bool) -> bool:
    configured, built = (ORDER.index(dataset[f"last_updated_{what}_at"]) for what in ("config", "output"))
    is_new = not only_new or built >= ORDER.index(BUILT)
    return dataset["status"] == "ready" and (built == 0 or configured <= built) and is_new
