"""What tests can change and inspect, in Python and over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.account_file import RESOURCE_TYPES
from airflow_provider_faraday.sandbox.errors import FaradayError
from support.ids import ORDERS, SCOPE, UNKNOWN
from support.published import schema_of

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Client


def test_sets_any_status_and_any_field(client: Client) -> None:
    changed = client.control("PATCH", f"/datasets/{ORDERS}", {"status": "pending", "future_field": 1})

    dataset = client.get(f"/datasets/{ORDERS}").json()
    assert (dataset["status"], dataset["future_field"]) == ("pending", 1)
    assert dataset == changed.json()
    assert client.control("PATCH", f"/datasets/{ORDERS}", {"archived": True}).json()["archived_at"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"statis": "error"}, "'status'"),
        ({"status": "failed"}, "new, starting, running, ready, error"),
    ],
)
def test_refuses_typos(client: Client, sandbox: Sandbox, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(FaradayError, match=says):
        sandbox.set_dataset(ORDERS, **changes)
    assert client.control("PATCH", f"/datasets/{ORDERS}", changes).status_code == 400


@pytest.mark.parametrize("resource_type", RESOURCE_TYPES)
def test_sets_every_published_field(sandbox: Sandbox, resource_type: str) -> None:
    for name in schema_of(resource_type).keys() - {"id", "resource_type"}:
        added = sandbox.add_resource(resource_type, name="any")
        sandbox.set_resource(resource_type, added["id"], **{name: None})


def test_adds_lists_and_removes_a_resource_of_any_type(client: Client, sandbox: Sandbox) -> None:
    added = client.control("POST", "/targets", {"name": "to Redshift", "scope_id": SCOPE}).json()

    (listed,) = (each for each in client.control("GET", "/targets").json() if each["id"] == added["id"])
    assert (listed["scope_id"], listed["upstream_ids"]) == (SCOPE, [SCOPE])
    sandbox.advance(60)
    assert client.get(f"/targets/{added['id']}").json()["count"] == 18230
    assert client.control("DELETE", f"/targets/{added['id']}").status_code == 204
    assert client.get(f"/targets/{added['id']}").status_code == 404


def test_a_rotated_key_expires(client: Client, sandbox: Sandbox) -> None:
    sandbox.rotate_key("new-key")

    response = client.get("/datasets")
    assert (response.status_code, response.json()["error"]) == (401, "EXPIRED_API_KEY")
    client.session.headers["Authorization"] = "Bearer new-key"
    assert client.get("/datasets").status_code == 200


def test_logs_requests_but_not_the_key(client: Client, sandbox: Sandbox) -> None:
    client.get("/datasets", params={"ids": ORDERS}, headers={"User-Agent": "a-test"})
    client.get("/nowhere")
    client.control("GET", "/datasets")

    log = client.control("GET", "/requests").json()

    assert [(entry["method"], entry["path"], entry["query"], entry["status"]) for entry in log] == [
        ("GET", "/v1/datasets", f"ids={ORDERS}", 200),
        ("GET", "/v1/nowhere", "", 404),
    ]
    assert log[0]["user_agent"] == "a-test"
    assert sandbox.api_key not in str(log)
    assert client.control("DELETE", "/requests").status_code == 204
    assert sandbox.requests() == []


def test_forced_updates_are_those_that_clients_have_requested_and_faraday_accepted(
    client: Client, sandbox: Sandbox
) -> None:
    sandbox.force_update(ORDERS)
    sandbox.fail_next(status=429)
    for _ in range(2):
        client.post(f"/datasets/{ORDERS}/force_update")
    client.post(f"/scopes/{SCOPE.upper()}/force_update")
    client.post(f"/datasets/{UNKNOWN}/force_update")
    client.post("/uploads/web_orders/force_update.csv", data=b"id\n")

    assert sandbox.forced_updates() == [ORDERS, SCOPE]
    assert len(sandbox.requests(method="POST")) == 5
    assert len(sandbox.requests(f"/v1/datasets/{ORDERS}/force_update", method="POST")) == 2


def test_rebuilds_do_not_count_the_first_build_nor_failed_ones(sandbox: Sandbox) -> None:
    sandbox.advance(60)
    assert sandbox.rebuilds(ORDERS) == 0

    sandbox.force_update(ORDERS)
    sandbox.advance(60)
    sandbox.set_dataset(ORDERS, sandbox={"outcome": "error", "starting": 3600}, rebuild=True)
    (orders,) = (each for each in sandbox.datasets() if each["id"] == ORDERS)
    assert [each["status"] for each in orders["upcoming"]] == ["running", "error"]
    sandbox.advance(4000)

    assert (sandbox.rebuilds(ORDERS), sandbox.rebuilds(SCOPE)) == (1, 1)


def test_reset_restores_the_initial_state(client: Client, sandbox: Sandbox) -> None:
    sandbox.remove_dataset(ORDERS)
    sandbox.fail_next(status=500)
    sandbox.advance(1000)
    sandbox.set(page_size=1)
    sandbox.rotate_key("another")

    assert client.control("POST", "/reset").status_code == 204

    assert client.get(f"/datasets/{ORDERS}").status_code == 200
    assert len(sandbox.requests()) == 1
    settings = client.control("GET", "/settings").json()
    assert (settings["clock_offset"], settings["page_size"]) == (0, None)


def test_stops_and_starts_on_the_same_port() -> None:
    with Sandbox() as sandbox:
        url = sandbox.url
        sandbox.set_dataset(ORDERS, status="pending")

        sandbox.stop()
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=10)

        sandbox.start()
        assert requests.get(url, timeout=10).status_code == 401
        assert sandbox.dataset(ORDERS)["status"] == "pending"


def test_a_dataset_that_is_made_ready_has_read_all_that_was_there(sandbox: Sandbox) -> None:
    """Otherwise, a wait for a force update would take it for the build that was running before."""
    sandbox.set_dataset(ORDERS, status="running")
    sandbox.set_dataset(ORDERS, status="ready")
    dataset = sandbox.dataset(ORDERS)
    assert dataset["last_read_input_at"] == dataset["last_updated_output_at"]


def test_the_help_lists_the_control_api(sandbox: Sandbox) -> None:
    response = requests.get(sandbox.origin + "/sandbox", timeout=10)

    assert "/sandbox/datasets" in response.text
    assert sandbox.api_key not in response.text
