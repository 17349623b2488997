"""The sandbox as a Faraday API: lists, the graph and times, over a real socket."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from airflow_provider_faraday.sandbox import Sandbox
from support.ids import CUSTOMERS, ORDERS, SCOPE, SUBSCRIBERS

if TYPE_CHECKING:
    import pytest

    from tests.unit.sandbox.conftest import Client


def test_everything_is_ready_within_nine_seconds_of_its_clock() -> None:
    sandbox = Sandbox()
    sandbox.advance(600)

    statuses = {each["name"]: each["status"] for each in sandbox.summaries()}
    assert {name for name, status in statuses.items() if status != "ready"} == {"returns", "Next product"}
    history = sandbox.history()
    times = [datetime.fromisoformat(change["at"]) for change in history]
    assert times == sorted(times)
    assert times[-1] - times[0] <= timedelta(seconds=9)
    changes = [change["status"] for change in history if change["id"] == ORDERS]
    assert changes == ["new", "starting", "running", "ready"]


def test_the_graph_leads_from_connections_to_targets(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_dataset(ORDERS, status="error")
    edges = client.get("/graph").json()

    labels = [f"{edge['upstream_literate']} > {edge['downstream_literate']}" for edge in edges]
    assert labels[0] == "Warehouse > customers"
    for label in ("orders > orders", "orders > Customers", "Will buy in 30 days > Likely buyers"):
        assert label in labels
    assert labels[-1] == "Likely buyers > Likely buyers to Snowflake"
    assert "Warehouse > Likely buyers to Snowflake" not in labels
    for end in ("upstream", "downstream"):
        assert {edge[f"{end}_status"] for edge in edges if edge[f"{end}_id"] == ORDERS} == {"error"}


def test_lists_are_paginated_on_request(client: Client, sandbox: Sandbox) -> None:
    sandbox.set(page_size=2)
    pages = []
    url: str | None = f"{sandbox.url}/datasets?ids={CUSTOMERS}&ids={ORDERS}&ids={SUBSCRIBERS}"
    while url:
        response = client.session.get(url, timeout=10)
        pages.append([dataset["id"] for dataset in response.json()])
        assert response.headers["X-Total-Count"] == "3"
        url = response.links.get("next", {}).get("url")

    assert pages == [[CUSTOMERS, ORDERS], [SUBSCRIBERS]]


def test_the_date_header_follows_the_clock_of_the_sandbox(client: Client, sandbox: Sandbox) -> None:
    before = parsedate_to_datetime(client.get("/scopes").headers["Date"])
    sandbox.set(clock_offset=86400)

    ahead = parsedate_to_datetime(client.get("/scopes").headers["Date"]) - before
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


def test_the_datasets_of_a_scope_can_be_given() -> None:
    account = {
        "datasets": [{"id": ORDERS, "name": "orders", "status": "ready"}, {"name": "another"}],
        "scopes": [{"id": SCOPE, "name": "scope", "sandbox": {"dataset_ids": [ORDERS]}}],
    }
    sandbox = Sandbox(account=account)

    assert [each["name"] for each in sandbox.resources_of("scopes", SCOPE, "datasets")] == ["orders"]
    assert [edge["upstream_id"] for edge in sandbox.graph()] == [ORDERS]
    sandbox.advance(10)
    assert sandbox.resource("scopes", SCOPE)["status"] == "ready"
