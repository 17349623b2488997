"""The sandbox as a Faraday API: its endpoints, its errors and its authentication, over a real socket."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Client

WAREHOUSE = "c0000000-0000-4000-8000-000000000001"
EMPTY = "c0000000-0000-4000-8000-000000000003"
BUYERS = "50000000-0000-4000-8000-000000000001"
CUSTOMERS = "d0000000-0000-4000-8000-000000000001"
ORDERS = "d0000000-0000-4000-8000-000000000002"
RETURNS = "d0000000-0000-4000-8000-000000000006"
NOWHERE = "00000000-0000-4000-8000-000000000000"


def names(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [resource["name"] for resource in answer.json()]


def assert_faraday_error(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert body["error"] == code
    assert UUID(body["id"])
    assert body["note"].endswith(".")
    assert set(body) <= {"error", "id", "note", "validationErrors"}
    return body


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/connections", ["Warehouse", "Uploads", "Empty"]),
        (
            f"/connections/{WAREHOUSE}/datasets",
            ["customers", "orders", "email_subscribers", "store_visits", "legacy_orders"],
        ),
        (f"/connections/{EMPTY}/datasets", []),
        ("/scopes", ["Likely buyers"]),
        (f"/scopes/{BUYERS}/datasets", ["customers", "orders"]),
        (f"/datasets?ids={ORDERS}&ids={RETURNS}&ids={NOWHERE}", ["orders", "returns"]),
        (f"/connections/{WAREHOUSE}/datasets?ids={ORDERS}&ids={RETURNS}", ["orders"]),
        (f"/connections?ids={EMPTY}", ["Empty"]),
        (f"/scopes?ids={NOWHERE}", []),
    ],
)
def test_lists(client: Client, path: str, expected: list[str]) -> None:
    assert names(client.get(path)) == expected


def test_single_resources(client: Client) -> None:
    assert client.get(f"/connections/{WAREHOUSE}").json()["name"] == "Warehouse"
    assert client.get(f"/scopes/{BUYERS}").json()["name"] == "Likely buyers"
    assert client.get(f"/datasets/{ORDERS.upper()}").json()["name"] == "orders"


def test_the_account_holds_the_key(client: Client, sandbox: Sandbox) -> None:
    account = client.get("/accounts/current").json()

    assert account["api_key"] == sandbox.api_key
    assert account["name"] == "Acme Outfitters (sandbox)"


def test_a_ready_dataset_has_every_documented_field(client: Client, sandbox: Sandbox) -> None:
    documented = (
        "archived_at connection_id created_at detected_columns enrichment id identified_count "
        "identity_providers identity_sets incremental_column last_read_input_at last_updated_config_at "
        "last_updated_output_at managed matched_count merge_datasets name options "
        "output_all_columns_as_traits output_to_streams output_to_streams_array output_to_traits preview "
        "privacy reference_key_column reference_key_columns resource_type row_count sample status "
        "status_changed_at status_error updated_at updates upsert_columns"
    )
    sandbox.advance(60)

    dataset = client.get(f"/datasets/{CUSTOMERS}").json()

    assert set(dataset) == set(documented.split())
    assert dataset["status"] == "ready"
    assert dataset["options"] == {"type": "snowflake", "table_name": "customers"}
    assert "ada.lovelace@example.com" in json.dumps(dataset["sample"])


def test_the_bundled_datasets_become_ready_one_after_the_other_within_six_seconds(
    client: Client, sandbox: Sandbox
) -> None:
    assert {each["status"] for each in client.get("/datasets").json()} == {"new", "ready"}

    sandbox.advance(6)

    datasets = client.get("/datasets").json()
    assert {each["name"]: each["status"] for each in datasets} == {
        "customers": "ready",
        "orders": "ready",
        "email_subscribers": "ready",
        "store_visits": "ready",
        "legacy_orders": "ready",
        "returns": "error",
    }
    assert len({each["last_updated_output_at"] for each in datasets}) == 6
    assert "return_date" in datasets[-1]["status_error"]
    assert datasets[-2]["archived_at"] is not None


def test_force_update_answers_before_the_rerun_has_begun(client: Client, sandbox: Sandbox) -> None:
    sandbox.advance(6)
    before = client.get(f"/datasets/{ORDERS}").json()

    answer = client.post(f"/datasets/{ORDERS}/force_update")

    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(f"/datasets/{ORDERS}").json() == before
    sandbox.advance(1.1)
    assert client.get(f"/datasets/{ORDERS}").json()["status"] == "starting"
    sandbox.advance(10)
    rebuilt = client.get(f"/datasets/{ORDERS}").json()
    assert rebuilt["status"] == "ready"
    assert rebuilt["last_updated_output_at"] > before["last_updated_output_at"]
    assert rebuilt["row_count"] == before["row_count"] + 310
    assert len(rebuilt["updates"]) == len(before["updates"]) + 1


def test_force_update_of_an_archived_dataset_is_a_conflict(client: Client) -> None:
    answer = client.post("/datasets/d0000000-0000-4000-8000-000000000005/force_update")

    assert_faraday_error(answer, 409, "CONFLICT")


def test_ingress_logs_come_in_pages(client: Client, sandbox: Sandbox) -> None:
    for _ in range(2):
        sandbox.advance(20)
        client.post(f"/datasets/{ORDERS}/force_update")
    sandbox.advance(20)

    answer = client.get(f"/datasets/{ORDERS}/logs/ingress?limit=1&offset=1")

    (log,) = answer.json()
    assert log["metrics"] == {"row_count": 5400 + 310}
    assert set(log) == {"id", "started_at", "finished_at", "status", "status_error", "metrics"}
    assert answer.headers["X-Total-Count"] == "3"


def test_the_graph_leads_from_connections_to_scopes(client: Client) -> None:
    edges = {
        (edge["upstream_literate"], edge["downstream_literate"], edge["downstream_type"])
        for edge in client.get("/graph").json()
    }

    assert ("Warehouse", "customers", "datasets") in edges
    assert ("customers", "Likely buyers", "scopes") in edges


def test_lists_come_in_linked_pages_when_told_to(client: Client, sandbox: Sandbox) -> None:
    sandbox.set(page_size=2)
    seen = []
    url: str | None = f"{sandbox.url}/connections/{WAREHOUSE}/datasets"
    while url:
        answer = client.session.get(url, timeout=10)
        seen.append(names(answer))
        assert answer.headers["X-Total-Count"] == "5"
        url = answer.links.get("next", {}).get("url")
        assert url is None or url.startswith(sandbox.url)

    assert seen == [["customers", "orders"], ["email_subscribers", "store_visits"], ["legacy_orders"]]


def test_the_next_page_keeps_the_ids(client: Client, sandbox: Sandbox) -> None:
    sandbox.set(page_size=1)

    first = client.get(f"/datasets?ids={CUSTOMERS}&ids={ORDERS}")
    second = client.session.get(first.links["next"]["url"], timeout=10)

    assert (names(first), names(second)) == (["customers"], ["orders"])
    assert "next" not in second.links


def test_lists_are_whole_unless_told_otherwise(client: Client) -> None:
    answer = client.get("/datasets?limit=1")

    assert len(answer.json()) == 6
    assert "Link" not in answer.headers


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        (None, 401, "MISSING_API_KEY"),
        ("Bearer ", 401, "MISSING_API_KEY"),
        ("Bearer not-the-key", 401, "MALFORMED_API_KEY"),
        ("Basic dXNlcjpwYXNz", 400, "INVALID_AUTHORIZATION"),
        ("faraday-sandbox-key", 400, "INVALID_AUTHORIZATION"),
    ],
)
@pytest.mark.parametrize("path", ["/datasets", "/nowhere"])
def test_a_request_without_the_key_is_refused(
    sandbox: Sandbox, header: str | None, status: int, code: str, path: str
) -> None:
    headers = {} if header is None else {"Authorization": header}

    assert_faraday_error(requests.get(sandbox.url + path, headers=headers, timeout=10), status, code)


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/datasets/",
        f"/datasets/{NOWHERE}",
        f"/connections/{NOWHERE}/datasets",
        f"/scopes/{NOWHERE}",
    ],
)
def test_what_is_not_there_is_not_found(client: Client, path: str) -> None:
    assert_faraday_error(client.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/datasets/orders", "dataset_id"),
        ("/connections/1/datasets", "connection_id"),
        (f"/scopes/{BUYERS.replace('-', '')}", "scope_id"),
        (f"/datasets?ids={ORDERS}&ids=orders", "ids[1]"),
        (f"/datasets/{ORDERS}/logs/ingress?limit=many", "limit"),
        ("/datasets?" + "&".join(f"ids={uuid4()}" for _ in range(101)), "ids"),
    ],
)
def test_what_is_not_valid_is_named(client: Client, path: str, place: str) -> None:
    body = assert_faraday_error(client.get(path), 400, "VALIDATION_FAILED")

    (problem,) = body["validationErrors"]
    assert problem["path"] == place
    assert set(problem) == {"path", "message", "context"}


def test_a_hundred_ids_are_not_too_many(client: Client) -> None:
    ids = [CUSTOMERS, *(str(uuid4()) for _ in range(99))]

    assert names(client.get("/datasets", params={"ids": ids})) == ["customers"]


def test_a_wrong_method_is_an_error_in_faradays_shape(client: Client) -> None:
    assert_faraday_error(client.post("/datasets"), 405, "BAD_REQUEST")


def test_a_crash_inside_is_an_error_in_faradays_shape(
    client: Client, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox.account, "graph", lambda: 1 / 0)

    assert_faraday_error(client.get("/graph"), 500, "INTERNAL_SERVER_ERROR")


def test_the_date_header_is_the_sandboxs_own_clock(client: Client, sandbox: Sandbox) -> None:
    here = parsedate_to_datetime(client.get("/scopes").headers["Date"])
    sandbox.set(clock_offset=86400)

    answer = client.get("/scopes")

    ahead = parsedate_to_datetime(answer.headers["Date"]) - here
    assert 86400 <= ahead.total_seconds() < 86410


def test_a_person_at_the_root_is_told_what_this_is(sandbox: Sandbox) -> None:
    answer = requests.get(sandbox.origin + "/", timeout=10)

    assert "stand-in for the Faraday API" in answer.text
    assert sandbox.api_key not in answer.text


def test_an_account_of_ones_own_is_served(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    path.write_text(json.dumps({"datasets": [{"id": ORDERS, "name": "mine", "status": "pending"}]}))

    with Sandbox(account=path, page_size=1, api_key="mine") as sandbox:
        answer = requests.get(f"{sandbox.url}/datasets", headers={"Authorization": "Bearer mine"}, timeout=10)

    assert [(each["name"], each["status"]) for each in answer.json()] == [("mine", "pending")]
