"""The sandbox as a Faraday API: endpoints, pagination, errors and authentication, over a real socket."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox
from support.ids import (
    CUSTOMERS,
    EMPTY_CONNECTION,
    FILES,
    ORDERS,
    RETURNS,
    SCOPE,
    TARGET,
    WAREHOUSE,
)

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Client

EMPTY = EMPTY_CONNECTION
BUYERS = SCOPE
NOWHERE = "00000000-0000-4000-8000-000000000000"


def names(response: requests.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [resource["name"] for resource in response.json()]


def assert_faraday_error(response: requests.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert body["error"] == code
    assert UUID(body["id"])
    assert body["note"].endswith(".")
    assert set(body) <= {"error", "id", "note", "validationErrors"}
    return body


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/connections", ["Warehouse", "Uploads", "Empty", "Files"]),
        (
            f"/connections/{WAREHOUSE}/datasets",
            ["customers", "orders", "email_subscribers", "store_visits", "legacy_orders"],
        ),
        (f"/scopes/{BUYERS}/datasets", ["customers", "orders"]),
        (f"/datasets?ids={ORDERS}&ids={RETURNS}&ids={NOWHERE}", ["orders", "returns"]),
        (f"/connections/{WAREHOUSE}/datasets?ids={ORDERS}&ids={RETURNS}", ["orders"]),
        (f"/connections/{FILES}/targets", ["Likely buyers CSV"]),
        (f"/connections/{EMPTY}/targets", []),
        ("/places", []),
    ],
)
def test_lists_resources(client: Client, path: str, expected: list[str]) -> None:
    assert names(client.get(path)) == expected


def test_everything_is_ready_within_nine_seconds(client: Client, sandbox: Sandbox) -> None:
    assert {each["upstream_id"] for each in client.get("/graph").json()} >= {CUSTOMERS, ORDERS}
    assert client.get(f"/targets/{TARGET}").json()["status"] == "new"

    sandbox.advance(9)

    statuses = {each["name"]: each["status"] for each in sandbox.summaries()}
    assert {name for name, status in statuses.items() if status != "ready"} == {"returns", "Next product"}


def test_the_graph_leads_from_connections_to_targets(client: Client, sandbox: Sandbox) -> None:
    sandbox.advance(60)
    edges = client.get("/graph").json()

    labels = [f"{edge['upstream_literate']} > {edge['downstream_literate']}" for edge in edges]
    assert labels[0] == "Warehouse > customers"
    for label in ("orders > orders", "orders > Customers", "Will buy in 30 days > Likely buyers"):
        assert label in labels
    assert labels[-1] == "Likely buyers > Likely buyers to Snowflake"
    assert "Warehouse > Likely buyers to Snowflake" not in labels
    state = {"id", "status", "status_error", "status_changed_at", "archived_at"}
    times = {"last_read_input_at", "last_updated_config_at", "last_updated_output_at"}
    fields = {"type", "literate"} | state | times
    types = {edge["downstream_id"]: edge["downstream_type"] for edge in edges}
    for edge in edges:
        resource = client.get(f"/{types[edge['downstream_id']]}/{edge['downstream_id']}").json()
        resource |= {"type": resource["resource_type"], "literate": resource["name"]}
        assert {name: edge[f"downstream_{name}"] for name in fields} == {n: resource.get(n) for n in fields}


def test_lists_are_paginated_on_request(client: Client, sandbox: Sandbox) -> None:
    sandbox.set(page_size=2)
    pages = []
    url: str | None = f"{sandbox.url}/connections/{WAREHOUSE}/datasets"
    while url:
        response = client.session.get(url, timeout=10)
        pages.append(names(response))
        assert response.headers["X-Total-Count"] == "5"
        url = response.links.get("next", {}).get("url")
        assert url is None or url.startswith(sandbox.url)

    assert pages == [["customers", "orders"], ["email_subscribers", "store_visits"], ["legacy_orders"]]


def test_the_next_page_keeps_the_ids(client: Client, sandbox: Sandbox) -> None:
    sandbox.set(page_size=1)

    first = client.get(f"/datasets?ids={CUSTOMERS}&ids={ORDERS}")
    second = client.session.get(first.links["next"]["url"], timeout=10)

    assert (names(first), names(second)) == (["customers"], ["orders"])
    assert "next" not in second.links


@pytest.mark.parametrize(
    ("path", "invalid"),
    [
        ("/datasets/orders", "resource_id"),
        (f"/datasets?ids={ORDERS}&ids=orders", "ids[1]"),
        (f"/datasets/{ORDERS}/logs/ingress?limit=many", "limit"),
        ("/datasets?" + "&".join(f"ids={uuid4()}" for _ in range(101)), "ids"),
    ],
)
def test_a_validation_error_names_the_invalid_parameter(client: Client, path: str, invalid: str) -> None:
    body = assert_faraday_error(client.get(path), 400, "VALIDATION_FAILED")

    (problem,) = body["validationErrors"]
    assert problem["path"] == invalid
    assert set(problem) == {"path", "message", "context"}


def test_the_date_header_follows_the_clock_of_the_sandbox(client: Client, sandbox: Sandbox) -> None:
    before = parsedate_to_datetime(client.get("/scopes").headers["Date"])
    sandbox.set(clock_offset=86400)

    response = client.get("/scopes")

    ahead = parsedate_to_datetime(response.headers["Date"]) - before
    assert ahead.total_seconds() >= 86400


def test_a_forced_update_cannot_end_before_the_date_of_its_response(
    client: Client, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    force_update = sandbox.force_update

    def slow_force_update(*arguments: str) -> None:
        force_update(*arguments)
        sandbox.advance(3600)

    monkeypatch.setattr(sandbox, "force_update", slow_force_update)

    response = client.post(f"/datasets/{ORDERS}/force_update")

    requested_at = parsedate_to_datetime(response.headers["Date"]).isoformat()
    assert requested_at < client.get(f"/datasets/{ORDERS}").json()["last_updated_output_at"]


def test_the_help_lists_the_control_api(sandbox: Sandbox) -> None:
    response = requests.get(sandbox.origin + "/sandbox", timeout=10)

    assert "/sandbox/datasets" in response.text
    assert sandbox.api_key not in response.text


def test_the_datasets_of_a_scope_can_be_given() -> None:
    account = {
        "datasets": [{"id": ORDERS, "name": "orders", "status": "ready"}, {"name": "another"}],
        "scopes": [{"id": SCOPE, "name": "scope", "sandbox": {"dataset_ids": [ORDERS]}}],
    }
    sandbox = Sandbox(account=account)

    assert [each["name"] for each in sandbox.scope_datasets(SCOPE)] == ["orders"]
    assert [edge["upstream_id"] for edge in sandbox.graph()] == [ORDERS]
    sandbox.advance(10)
    assert sandbox.resource("scopes", SCOPE)["status"] == "ready"
