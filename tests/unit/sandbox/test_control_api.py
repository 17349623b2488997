"""What tests can change and inspect, in Python and over HTTP."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox, SandboxError
from airflow_provider_faraday.sandbox.account_file import RESOURCE_TYPES
from airflow_provider_faraday.sandbox.errors import FaradayError
from support.published import schema_of

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Client

ORDERS = "d0000000-0000-4000-8000-000000000002"
BUYERS = "50000000-0000-4000-8000-000000000001"
UNKNOWN = "d0000000-0000-4000-8000-00000000dead"


@pytest.mark.parametrize("status", ["pending", None])
def test_sets_any_status_and_any_field(client: Client, status: str | None) -> None:
    changed = client.control("PATCH", f"/datasets/{ORDERS}", {"status": status, "future_field": 1})

    assert changed.status_code == 200
    dataset = client.get(f"/datasets/{ORDERS}").json()
    assert (dataset["status"], dataset["future_field"]) == (status, 1)
    assert dataset == changed.json()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"statis": "error"}, "'status'"),
        ({"status": "failed"}, "new, starting, running, ready, error"),
    ],
)
def test_refuses_typos(client: Client, sandbox: Sandbox, changes: dict[str, Any], says: str) -> None:
    before = sandbox.dataset(ORDERS)

    with pytest.raises(FaradayError, match=says):
        sandbox.set_dataset(ORDERS, **changes)
    response = client.control("PATCH", f"/datasets/{ORDERS}", changes)

    assert (response.status_code, response.json()["error"]) == (400, "VALIDATION_FAILED")
    assert sandbox.dataset(ORDERS)["status_changed_at"] == before["status_changed_at"]


@pytest.mark.parametrize("resource_type", RESOURCE_TYPES)
def test_sets_every_published_field(sandbox: Sandbox, resource_type: str) -> None:
    for name in schema_of(resource_type).keys() - {"id", "resource_type"}:
        added = sandbox.add_resource(resource_type, name="any")
        sandbox.set_resource(resource_type, added["id"], **{name: None})


def test_adds_lists_and_removes_a_resource_of_any_type(client: Client, sandbox: Sandbox) -> None:
    added = client.control("POST", "/targets", {"name": "to Redshift", "scope_id": BUYERS}).json()

    listed = client.control("GET", "/targets").json()
    assert [each["name"] for each in listed][2:] == ["to Redshift"]
    assert (listed[2]["scope_id"], listed[2]["upstream_ids"]) == (BUYERS, [BUYERS])
    assert added["id"] in {edge["downstream_id"] for edge in client.get("/graph").json()}
    sandbox.advance(60)
    assert client.get(f"/targets/{added['id']}").json()["count"] == 18230
    assert client.control("DELETE", f"/targets/{added['id']}").status_code == 204
    assert client.get(f"/targets/{added['id']}").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "invalid"),
    [
        ("POST", "/targets", {"name": "a", "scope_id": "b"}, "scope_id"),
        ("PATCH", f"/datasets/{ORDERS}", {"sandbox": {"upstream_ids": []}}, "sandbox.upstream_ids"),
        ("PATCH", f"/datasets/{ORDERS}", {"archived": "perhaps"}, "archived"),
        ("POST", "/faults", {"path": "("}, "path"),
        ("PUT", "/api_key", {"api_key": "two words"}, None),
        ("PATCH", "/settings", {"page_size": 0}, "page_size"),
    ],
)
def test_rejects_invalid_input(
    client: Client, method: str, path: str, body: dict[str, Any], invalid: str | None
) -> None:
    response = client.control(method, path, body)

    assert response.status_code == 400
    error = response.json()
    assert error["error"] == "VALIDATION_FAILED"
    assert [each["path"] for each in error.get("validationErrors", [])] == ([invalid] if invalid else [])


@pytest.mark.parametrize("path", [f"/datasets/{BUYERS}", f"/nonsense/{ORDERS}"])
def test_changing_an_unknown_resource_is_a_404(client: Client, path: str) -> None:
    assert client.control("PATCH", path, {"status": "ready"}).status_code == 404


def test_lists_status_changes_in_order_of_time(client: Client, sandbox: Sandbox) -> None:
    sandbox.advance(6)

    history = client.control("GET", "/history").json()

    assert [change["at"] for change in history] == sorted(change["at"] for change in history)
    changes = [change["status"] for change in history if change["id"] == ORDERS]
    assert "targets" in {change["resource_type"] for change in history}
    assert changes == ["new", "starting", "running", "ready"]


def test_a_rotated_key_expires(client: Client, sandbox: Sandbox) -> None:
    assert client.control("PUT", "/api_key", {"api_key": "new-key"}).status_code == 204

    response = client.get("/datasets")
    assert (response.status_code, response.json()["error"]) == (401, "EXPIRED_API_KEY")
    client.session.headers["Authorization"] = "Bearer new-key"
    assert client.get("/datasets").status_code == 200
    sandbox.rotate_key("faraday-sandbox-key")
    assert client.get("/datasets").json()["error"] == "EXPIRED_API_KEY"


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
    assert not any(entry["fault"] for entry in log)
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
    client.post(f"/scopes/{BUYERS.upper()}/force_update")
    client.post(f"/datasets/{UNKNOWN}/force_update")
    client.post("/uploads/web_orders/force_update.csv", data=b"id\n")

    assert sandbox.forced_updates() == [ORDERS, BUYERS]
    assert len(sandbox.requests(method="POST")) == 5
    assert len(sandbox.requests(f"/v1/datasets/{ORDERS}/force_update", method="POST")) == 2
    assert sandbox.requests(f"/v1/datasets/{ORDERS}/force_update", method="GET") == []


def test_rebuilds_do_not_count_the_first_build_nor_failed_ones(sandbox: Sandbox) -> None:
    assert sandbox.rebuilds(ORDERS) == 0
    sandbox.advance(60)
    assert sandbox.rebuilds(ORDERS) == 0

    sandbox.set_dataset(ORDERS, sandbox={"lag": 30})
    sandbox.force_update(ORDERS)
    # The build has not begun yet.
    assert (sandbox.rebuilds(ORDERS), sandbox.rebuilds(BUYERS)) == (0, 0)
    sandbox.advance(60)
    assert (sandbox.rebuilds(ORDERS), sandbox.rebuilds(BUYERS)) == (1, 1)

    sandbox.set_dataset(ORDERS, sandbox={"outcome": "error"}, rebuild=True)
    sandbox.advance(60)
    assert (sandbox.rebuilds(ORDERS), sandbox.rebuilds(BUYERS)) == (1, 1)
    with pytest.raises(FaradayError, match=f"No resource with the id {UNKNOWN}"):
        sandbox.rebuilds(UNKNOWN)


def test_reset_restores_the_initial_state(client: Client, sandbox: Sandbox) -> None:
    sandbox.remove_dataset(ORDERS)
    sandbox.fail_next(status=500)
    sandbox.advance(1000)
    sandbox.set(page_size=1)
    sandbox.rotate_key("another")
    sandbox.set_resource("scopes", BUYERS, name="renamed")

    assert client.control("POST", "/reset").status_code == 204

    assert client.get(f"/datasets/{ORDERS}").status_code == 200
    assert client.get(f"/scopes/{BUYERS}").json()["name"] == "Likely buyers"
    assert len(sandbox.requests()) == 2
    settings = client.control("GET", "/settings").json()
    assert (settings["clock_offset"], settings["page_size"]) == (0, None)


def test_stops_and_starts_on_the_same_port() -> None:
    with Sandbox() as sandbox, requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {sandbox.api_key}"
        orders = f"{sandbox.url}/datasets/{ORDERS}"
        sandbox.set_dataset(ORDERS, status="pending")
        assert session.get(orders, timeout=10).status_code == 200

        sandbox.stop()
        with pytest.raises(requests.ConnectionError):
            session.get(orders, timeout=10)

        sandbox.start()
        assert session.get(orders, timeout=10).json()["status"] == "pending"


def test_stops_while_a_response_is_delayed() -> None:
    with Sandbox() as sandbox:
        sandbox.fail_next(delay=600)

        def request() -> None:
            with pytest.raises(requests.ConnectionError):
                requests.get(f"{sandbox.url}/scopes", timeout=500)

        waiting = threading.Thread(target=request)
        waiting.start()
        while not sandbox.requests():
            time.sleep(0.01)
        sandbox.stop()
        waiting.join(60)
        assert not waiting.is_alive()


def test_a_port_in_use_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match=f"Cannot listen on 127.0.0.1, port {sandbox.port}: "):
        Sandbox(port=sandbox.port).start()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"speed": 0}, "speed must be greater than 0"),
        ({"age": -1}, "age must be 0 or more"),
        ({"api_key": "two words"}, "without spaces"),
        ({"account": {"datasets": [{}]}}, "datasets.0.name"),
    ],
)
def test_rejects_invalid_options(options: dict[str, Any], error: str) -> None:
    with pytest.raises(SandboxError, match=error):
        Sandbox(**options)


def test_a_dataset_that_is_made_ready_has_read_all_that_was_there(sandbox: Sandbox) -> None:
    """Otherwise, a wait for a force update would take it for the build that was running before."""
    sandbox.set_dataset(ORDERS, status="running")
    sandbox.set_dataset(ORDERS, status="ready")
    dataset = sandbox.dataset(ORDERS)
    assert dataset["last_read_input_at"] == dataset["last_updated_output_at"]
