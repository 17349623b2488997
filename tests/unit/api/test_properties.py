"""What holds for every response and every list of datasets, searched with hypothesis."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from airflow_provider_faraday.api import endpoints, responses, retries, states
from airflow_provider_faraday.api.errors import FaradayApiError
from airflow_provider_faraday.api.readiness import Criteria, Verdict, assess
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.api.times import timestamp
from airflow_provider_faraday.client.aiohttp_client import AiohttpClient
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.client.environment import next_link
from airflow_provider_faraday.client.requests_client import RequestsClient
from raw_server import RawServer, raw
from support.clients import ID, KEY, always

# The same examples on every run and machine.
searched = settings(derandomize=True, deadline=None, database=None, max_examples=300)
searched_over_sockets = settings(
    searched, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
FIELDS = (
    "id",
    "name",
    "status",
    "status_error",
    "archived_at",
    "last_updated_config_at",
    "last_updated_output_at",
    "sample",
)
NEARLY_DATASETS = st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON | st.just(ID)), max_size=3)
ERRORS = st.dictionaries(
    st.sampled_from(("error", "id", "note", "validationErrors", KEY)), JSON | st.just(KEY)
)
JSON_BODIES = st.one_of(JSON, NEARLY_DATASETS, ERRORS).map(lambda value: json.dumps(value).encode())
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON_BODIES,
    st.tuples(JSON_BODIES, st.integers(0, 60)).map(lambda pair: pair[0][: pair[1]]),
    # Broken in one byte, in the text of a name as often as not.
    st.builds(
        lambda at, byte: (
            (body := f'[{{"id": "{ID}", "name": "orders"}}]'.encode())[:at] + byte + body[at + 1 :]
        ),
        st.integers(0, 67),
        st.binary(min_size=1, max_size=2),
    ),
    st.tuples(st.sampled_from([b"\xef\xbb\xbf", KEY.encode(), b" "]), JSON_BODIES).map(b"".join),
)
HEADERS = st.dictionaries(
    st.sampled_from(["Link", "Location", "Retry-After", "Date", "Content-Type", "X-Any"]),
    st.one_of(
        st.text(st.characters(max_codepoint=255), max_size=40),
        st.from_regex(r"<[a-z:/\[\]@?#%.]{0,20}>; ?rel=\"?next\"?", fullmatch=True),
        st.integers().map(str),
        st.datetimes().map(lambda moment: f"{moment:%a, %d %b} {moment.year:04} {moment:%X} GMT"),
        st.just(f"http://evil.example/{KEY}"),
    ),
)
CONFIG = ClientConfig(conn_id="faraday_default", api_key=KEY, max_attempts=1, read_seconds=5)
DATASET_TYPE = RESOURCE_TYPES["datasets"]
ENDPOINT = endpoints.resources_of(RESOURCE_TYPES["connections"], ID, DATASET_TYPE)
decode_states = states.decode_states(DATASET_TYPE)


def check(error: FaradayApiError) -> None:
    """Check what holds for every error: it can be shown and stored, and does not leak the key."""
    str(error).encode()
    assert str(error).replace("\n", "", 1).isprintable()
    assert len(str(error)) < 2000
    assert KEY not in f"{error}{vars(error)}"
    assert retries.is_transient(error) in (True, False)
    assert error.retry_after is None or error.retry_after >= 0


# Responses


@searched
@given(
    st.integers(0, 1000) | st.sampled_from([200, 302, 400, 401, 404, 429]),
    HEADERS,
    BODIES,
    st.sampled_from([responses.decode_resources, decode_states]),
    st.sampled_from(["GET", "POST"]),
)
def test_any_response_is_a_page_of_datasets_or_one_of_our_errors(
    status: int, headers: dict[str, str], body: bytes, decode: Any, method: str
) -> None:
    endpoint = ENDPOINT if method == "GET" else endpoints.force_update(DATASET_TYPE, ID)
    request = CONFIG.request(endpoint)
    fields = CIMultiDict(headers)
    response = responses.Response(status, fields, body, next_link(fields.get("Link", "")))
    exchange = responses.Exchange(request, decode)
    try:
        exchange.receive(response)
    except FaradayApiError as error:
        check(error)
    else:
        if following := exchange.next_request:
            assert following.url.startswith(f"{CONFIG.base_url.removesuffix('/v1')}/")
        else:
            items = exchange.fetched.value
            assert all(item["id"] if isinstance(item, dict) else item.id for item in items)


@pytest.fixture
def any_server() -> Iterator[tuple[RawServer, list[bytes]]]:
    """Return a server that responds with the last bytes of a list."""
    says: list[bytes] = []
    with RawServer(lambda request: raw(says[-1])) as server:
        yield server, says


HEADS = st.one_of(
    st.just(b""),
    st.binary(max_size=60),
    st.builds(
        lambda status, lines: b"".join((b"HTTP/1.1 %d X\r\n" % status, *lines, b"\r\n")),
        st.integers(100, 599) | st.just(200),
        st.lists(
            st.sampled_from(
                [
                    b"Content-Length: 20\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"Content-Encoding: gzip\r\n",
                    b"Content-Type: multipart/mixed; boundary=x\r\n",
                    b"Connection: close\r\n",
                    b"Location: /v2\r\n",
                    b"Retry-After: 1\r\n",
                    b"Set-Cookie: a=\xff; expires=never; domain=[; =;\r\n",
                    b"Content-Encoding: deflate, gzip, zstd, br\r\n",
                    f"Echo {KEY}\r\n".encode(),
                ]
            )
            | st.binary(max_size=20),
            max_size=4,
        ),
    ),
)


@searched_over_sockets
@given(HEADS, BODIES)
def test_any_bytes_from_a_socket_are_datasets_or_one_of_our_errors(
    any_server: tuple[RawServer, list[bytes]], head: bytes, body: bytes
) -> None:
    server, says = any_server
    says.append(head + body)
    config = ClientConfig(
        conn_id="faraday_default", api_key=KEY, base_url=server.url, max_attempts=1, read_seconds=5
    )
    for fetch in (in_worker, in_triggerer):
        try:
            ids = fetch(config)
        except FaradayApiError as error:
            check(error)
        else:
            assert all(ids)


def in_worker(config: ClientConfig) -> list[str]:
    client = RequestsClient(lambda: config)
    try:
        return [item["id"] for item in client.fetch(ENDPOINT, responses.decode_resources).value]
    finally:
        client.close()


def in_triggerer(config: ClientConfig) -> list[str]:
    async def run() -> list[str]:
        client = AiohttpClient(always(config))
        try:
            return [state.id for state in (await client.fetch(ENDPOINT, decode_states)).value]
        finally:
            await client.close()

    return asyncio.run(run())


# Readiness

BUILT = "2026-01-02T00:00:00Z"
TIMES = st.sampled_from([None, "2026-01-01T00:00:00Z", BUILT, "2026-01-03T00:00:00+05:30", "soon"])
IDS = [f"d0000000-0000-4000-8000-00000000000{number}" for number in range(8)]
DATASETS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(IDS),
        "status": st.sampled_from(["ready"] * 5 + ["running", "error", "pending", None]),
    },
    optional={
        "last_updated_config_at": TIMES,
        "last_updated_output_at": TIMES,
        "archived_at": st.sampled_from([None, None, BUILT]),
        "name": st.text(max_size=3),
    },
)
LISTS = st.lists(DATASETS, max_size=6, unique_by=lambda dataset: dataset["id"])
CRITERIA = st.builds(
    Criteria,
    updated_after=st.none() | st.just(datetime(2026, 1, 2, tzinfo=UTC)),
    fail_on_error=st.booleans(),
    allow_empty=st.booleans(),
)
WANTED = st.none() | st.lists(st.sampled_from(IDS), unique=True, max_size=3).map(tuple)


def verdict(datasets: list[dict[str, Any]], criteria: Criteria, ids: tuple[str, ...] | None) -> Verdict:
    found = decode_states(responses.Response(200, {}, json.dumps(datasets).encode()))
    return assess(DATASET_TYPE, found, criteria, ids, now=datetime(2026, 1, 4, tzinfo=UTC))


@searched
@given(LISTS, CRITERIA, WANTED)
def test_ready_never_covers_a_waiting_a_failed_or_a_missing_dataset(
    datasets: list[dict[str, Any]], criteria: Criteria, ids: tuple[str, ...] | None
) -> None:
    result = verdict(datasets, criteria, ids)
    wanted = [d for d in datasets if ids is None or d["id"] in ids]
    live = [d for d in wanted if not d.get("archived_at")]
    assert [state.id for state in result.ready] == [d["id"] for d in live if ready_by_hand(d, criteria)]
    if result.is_ready:
        assert all(ready_by_hand(dataset, criteria) for dataset in live)
        assert live or criteria.allow_empty
        assert {dataset["id"] for dataset in wanted} >= set(ids or ())


def ready_by_hand(dataset: dict[str, Any], criteria: Criteria) -> bool:
    built, configured = dataset.get("last_updated_output_at"), dataset.get("last_updated_config_at")
    order = [None, "2026-01-01T00:00:00Z", BUILT, "2026-01-03T00:00:00+05:30"]
    return (
        dataset["status"] == "ready"
        and "soon" not in (built, configured)
        and (built is None or configured is None or order.index(configured) <= order.index(built))
        and (criteria.updated_after is None or order.index(built) >= order.index(BUILT))
    )


@searched
@given(LISTS, CRITERIA, WANTED, st.randoms(use_true_random=False), JSON)
def test_order_duplicates_and_unknown_fields_change_nothing(
    datasets: list[dict[str, Any]],
    criteria: Criteria,
    ids: tuple[str, ...] | None,
    random: Any,
    anything: Any,
) -> None:
    other: list[dict[str, Any]] = []
    for dataset in [*datasets, *random.sample(datasets, len(datasets) // 2)]:
        items = [*dataset.items(), ("brand_new_field", finite(anything)), ("row_count", None)]
        random.shuffle(items)
        other.append(dict(items))
    random.shuffle(other)
    assert outcome(verdict(other, criteria, ids)) == outcome(verdict(datasets, criteria, ids))


def finite(value: Any) -> Any:
    """Return JSON as the standard defines it, without NaN and lone surrogates."""
    text = re.sub(r"\\ud[89a-f][0-9a-f]{2}", "", json.dumps(value))
    return json.loads(text, parse_constant=str)


def outcome(result: Verdict) -> tuple[Any, ...]:
    skippable = (result.waiting, result.failed, result.skipped)
    groups = (
        {state.id for state in result.ready},
        *({(each.state.id, each.reason) for each in group} for group in skippable),
        set(result.missing),
    )
    problem = result.problem
    return (
        result.is_ready,
        problem and problem.kind,
        groups,
        result.unknown_statuses,
    )


# Timestamps

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001
OFFSETS = st.integers(-14 * 60, 14 * 60)
DIGITS = st.text("0123456789", max_size=12)


def rfc3339(moment: datetime, offset: int, digits: str, t: str, z: str, second: str | None = None) -> str:
    """Format a whole second and a fraction at an offset in minutes."""
    local = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=offset)))
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    zone = z if offset == 0 and z else f"{sign}{hours:02}:{minutes:02}"
    fraction = f".{digits}" if digits else ""
    return f"{local:%Y-%m-%d}{t}{local:%H:%M}:{second or f'{local:%S}'}{fraction}{zone}"


WRITTEN = st.tuples(OFFSETS, DIGITS, st.sampled_from("Tt "), st.sampled_from(["Z", "z", ""]))


@searched
@given(MOMENTS, WRITTEN)
def test_a_timestamp_is_the_same_moment_in_every_form(moment: datetime, form: Any) -> None:
    _, digits, _, _ = form
    exact = moment.replace(microsecond=0, tzinfo=UTC) + timedelta(microseconds=int(digits.ljust(6, "0")[:6]))
    read = timestamp(rfc3339(moment, *form))
    assert read is not None
    assert exact <= read <= exact + timedelta(microseconds=1)


@searched
@given(MOMENTS, WRITTEN, WRITTEN, st.integers(1, 10**9))
def test_the_later_timestamp_compares_later_in_every_form(
    moment: datetime, form: Any, other: Any, seconds: int
) -> None:
    earlier, later = (
        timestamp(rfc3339(moment, *form)),
        timestamp(rfc3339(moment + timedelta(seconds=seconds + 1), *other)),
    )
    assert earlier is not None
    assert later is not None
    assert earlier < later


@searched
@given(
    st.text(max_size=40) | st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{0,12})?(Z|[+-]\d\d:\d\d)?")
)
def test_any_text_is_a_timestamp_with_an_offset_or_none(text: str) -> None:
    read = timestamp(text)
    assert read is None or read.tzinfo is UTC
