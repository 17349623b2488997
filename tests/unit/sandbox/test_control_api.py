"""What tests can change and inspect, in Python and over HTTP."""

from __future__ import annotations

import threading
import time
from datetime import datetime
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
WAREHOUSE = "c0000000-0000-4000-8000-000000000001"
BUYERS = "50000000-0000-4000-8000-000000000001"
UNKNOWN = "d0000000-0000-4000-8000-00000000dead"


@pytest.mark.parametrize("status", ["new", "starting", "running", "ready", "error", "pending", None])
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
        ({"row_cuont": 5}, "'row_count'"),
        ({"achived": True}, "'archived'"),
        ({"status": "failed"}, "new, starting, running, ready, error"),
        ({"status": 5}, "not 5"),
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


def test_sets_a_status_error(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_dataset(ORDERS, status="error", status_error="No such table")

    assert client.get(f"/datasets/{ORDERS}").json()["status_error"] == "No such table"


def test_archives_and_restores_a_dataset(client: Client) -> None:
    client.control("PATCH", f"/datasets/{ORDERS}", {"archived": True})
    assert client.get(f"/datasets/{ORDERS}").json()["archived_at"] is not None

    client.control("PATCH", f"/datasets/{ORDERS}", {"archived": False})
    assert client.get(f"/datasets/{ORDERS}").json()["archived_at"] is None


def test_changes_a_scope(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_resource("scopes", BUYERS, status="running")
    assert client.get(f"/scopes/{BUYERS}").json()["status"] == "running"

    client.control("PATCH", f"/scopes/{BUYERS}", {"status": "error", "status_error": "Too small"})
    assert client.get(f"/scopes/{BUYERS}").json()["status_error"] == "Too small"


def test_adds_and_removes_a_dataset(client: Client) -> None:
    added = client.control("POST", "/datasets", {"name": "gift_cards", "connection_id": WAREHOUSE})

    assert added.status_code == 201
    dataset_id = added.json()["id"]
    listed = client.get(f"/connections/{WAREHOUSE}/datasets").json()
    assert listed[-1]["name"] == "gift_cards"
    assert listed[-1]["options"] == {"type": "snowflake", "table_name": "gift_cards"}
    assert client.control("POST", "/datasets", {"id": dataset_id, "name": "again"}).status_code == 409
    assert client.control("DELETE", f"/datasets/{dataset_id}").status_code == 204
    assert client.get(f"/datasets/{dataset_id}").status_code == 404


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


def test_lists_all_resources_with_what_is_upstream_of_each(client: Client) -> None:
    listed = client.control("GET", "/resources").json()

    assert [each["id"] for each in listed if not each["upstream_ids"]][:4] == [
        each["id"] for each in client.get("/connections").json()
    ]
    edges = {(up, each["id"]) for each in listed for up in each["upstream_ids"]}
    assert edges == {(each["upstream_id"], each["downstream_id"]) for each in client.get("/graph").json()}


def test_adds_a_preview(client: Client, sandbox: Sandbox) -> None:
    added = sandbox.add_dataset(name="draft", preview=True)

    assert client.get(f"/datasets/{added['id']}").json()["preview"] is True


@pytest.mark.parametrize(
    ("method", "path", "body", "invalid"),
    [
        ("POST", "/datasets", {}, "name"),
        ("POST", "/targets", {"name": "a", "scope_id": "b"}, "scope_id"),
        ("PATCH", f"/datasets/{ORDERS}", {"sandbox": {"upstream_ids": []}}, "sandbox.upstream_ids"),
        ("PATCH", f"/datasets/{ORDERS}", {"sandbox": {"nwe": 1}}, "sandbox.nwe"),
        ("PATCH", f"/datasets/{ORDERS}", {"archived": "perhaps"}, "archived"),
        ("PATCH", "/datasets/orders", {}, "resource_id"),
        ("POST", "/faults", {"times": 0}, "times"),
        ("POST", "/faults", {"path": "("}, "path"),
        ("POST", "/faults", {"broken": "badly"}, "broken"),
        ("PUT", "/api_key", {}, "api_key"),
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


def test_an_unknown_resource_type_is_a_404(client: Client) -> None:
    assert client.control("GET", "/nonsense").status_code == 404
    assert client.control("POST", "/nonsense", {"name": "a"}).status_code == 404


def test_lists_upcoming_statuses(client: Client) -> None:
    orders = client.control("GET", "/datasets").json()[1]

    assert orders["name"] == "orders"
    assert [each["status"] for each in orders["upcoming"]] == ["starting", "running", "ready"]


def test_lists_status_changes_in_order_of_time(client: Client, sandbox: Sandbox) -> None:
    sandbox.advance(6)

    history = client.control("GET", "/history").json()

    assert [change["at"] for change in history] == sorted(change["at"] for change in history)
    changes = [change["status"] for change in history if change["id"] == ORDERS]
    assert "targets" in {change["resource_type"] for change in history}
    assert changes == ["new", "starting", "running", "ready"]


def test_faults_break_the_next_responses_only(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(2, status=503, headers={"Retry-After": "7"})

    responses = [client.get("/scopes") for _ in range(3)]

    assert [response.status_code for response in responses] == [503, 503, 200]
    assert responses[0].headers["Retry-After"] == "7"
    assert responses[0].json()["error"] == "INTERNAL_SERVER_ERROR"


@pytest.mark.parametrize("method", ["GET", "get"])
def test_a_fault_breaks_matching_requests_only(client: Client, method: str) -> None:
    client.control("POST", "/faults", {"path": "/datasets$", "method": method, "status": 429})

    assert client.get("/scopes").status_code == 200
    assert client.post("/datasets").status_code == 405
    assert client.get("/datasets").status_code == 429
    assert client.control("GET", "/faults").json() == []


def test_a_request_gets_the_oldest_matching_fault(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(path="/scopes", status=502)
    sandbox.fail_next(status=503)
    sandbox.fail_next(status=504)

    assert [client.get("/datasets").status_code for _ in range(2)] == [503, 504]
    assert client.get("/scopes").status_code == 502


def test_a_fault_can_have_any_body_and_headers(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(status=502, body="<h1>Bad gateway</h1>", headers={"Content-Type": "text/html"})
    sandbox.fail_next(body={"not": "a list"})
    sandbox.fail_next(headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})

    html = client.get("/datasets")
    assert (html.status_code, html.text, html.headers["Content-Type"]) == (
        502, "<h1>Bad gateway</h1>", "text/html",
    )  # fmt: skip
    assert client.get("/datasets").json() == {"not": "a list"}
    dated = client.get("/datasets")
    assert (dated.headers["Date"], len(dated.json())) == ("Thu, 01 Jan 2026 00:00:00 GMT", 7)


@pytest.mark.parametrize("status", [204, 304])
def test_a_fault_without_a_body_keeps_the_tcp_connection_open(
    client: Client, sandbox: Sandbox, status: int
) -> None:
    sandbox.fail_next(status=status)

    response = client.get("/datasets")

    assert (response.status_code, response.content) == (status, b"")
    assert client.get("/datasets").status_code == 200
    assert len({entry["client"] for entry in sandbox.requests()}) == 1


@pytest.mark.parametrize("broken", ["invalid_json", "html", "empty", "wrong_length"])
def test_a_broken_body_arrives_but_is_not_json(client: Client, sandbox: Sandbox, broken: str) -> None:
    sandbox.fail_next(broken=broken)

    response = client.get("/datasets")

    assert response.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        response.json()
    assert client.get("/datasets").status_code == 200


def test_a_body_can_be_invalid_utf8(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(broken="not_utf8")

    with pytest.raises(UnicodeDecodeError):
        client.get("/datasets").content.decode("utf-8")


def test_a_body_can_be_truncated(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(broken="truncated")

    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        client.get("/datasets")
    assert client.get("/datasets").status_code == 200


def test_a_response_can_be_dropped(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(broken="dropped")

    with pytest.raises(requests.ConnectionError):
        client.get("/datasets")
    assert [(entry["status"], entry["fault"]) for entry in sandbox.requests()] == [(None, True)]
    assert client.get("/datasets").status_code == 200


@pytest.mark.parametrize(("processed", "updates"), [(True, 1), (False, 0)])
@pytest.mark.parametrize("fault", [{"broken": "dropped"}, {"status": 504}])
def test_a_request_is_processed_despite_a_fault_only_if_told_to(
    client: Client, sandbox: Sandbox, fault: dict[str, Any], processed: bool, updates: int
) -> None:
    sandbox.advance(10)
    sandbox.fail_next(**fault, processed=processed)

    try:
        assert client.post(f"/datasets/{ORDERS}/force_update").status_code == 504
    except requests.ConnectionError:
        assert fault == {"broken": "dropped"}

    upcoming = [each["status"] for each in sandbox.datasets()[1]["upcoming"]]
    assert upcoming.count("starting") == updates


def test_a_delay_only_delays(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(delay=0.3)
    start = time.monotonic()

    assert client.get("/datasets").status_code == 200
    assert time.monotonic() - start >= 0.3


def test_clears_faults(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(5, status=500)

    assert client.control("GET", "/faults").json() == [{"times": 5, "status": 500}]
    assert client.control("DELETE", "/faults").status_code == 204
    assert client.get("/datasets").status_code == 200


def test_faults_do_not_affect_the_control_api(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(status=500)

    assert client.control("GET", "/datasets").status_code == 200
    assert len(sandbox.pending_faults()) == 1


def test_a_rotated_key_expires(client: Client, sandbox: Sandbox) -> None:
    assert client.control("PUT", "/api_key", {"api_key": "new-key"}).status_code == 204

    response = client.get("/datasets")
    assert (response.status_code, response.json()["error"]) == (401, "EXPIRED_API_KEY")
    client.session.headers["Authorization"] = "Bearer new-key"
    assert client.get("/datasets").status_code == 200
    sandbox.rotate_key("faraday-sandbox-key")
    assert client.get("/datasets").json()["error"] == "EXPIRED_API_KEY"


def test_the_current_key_can_be_set_again(client: Client, sandbox: Sandbox) -> None:
    sandbox.rotate_key(sandbox.api_key)

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
    assert not any(entry["fault"] for entry in log)
    assert sandbox.api_key not in str(log)
    assert client.control("DELETE", "/requests").status_code == 204
    assert sandbox.requests() == []


def test_the_request_log_tells_tcp_connections_apart(client: Client, sandbox: Sandbox) -> None:
    for _ in range(3):
        client.get("/scopes")
    assert len({entry["client"] for entry in sandbox.requests()}) == 1

    requests.get(f"{sandbox.url}/datasets", timeout=10)

    assert len({entry["client"] for entry in sandbox.requests()}) == 2
    assert len(sandbox.requests("/v1/scopes")) == 3


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

    sandbox.force_update(ORDERS)
    # The refresh has not arrived there yet.
    assert (sandbox.rebuilds(ORDERS), sandbox.rebuilds(BUYERS)) == (0, 0)
    sandbox.advance(60)
    assert (sandbox.rebuilds(ORDERS), sandbox.rebuilds(BUYERS)) == (1, 1)

    sandbox.set_dataset(ORDERS, sandbox={"outcome": "error"}, rebuild=True)
    sandbox.advance(60)
    assert (sandbox.rebuilds(ORDERS), sandbox.rebuilds(BUYERS)) == (1, 1)
    with pytest.raises(FaradayError, match=f"No resource with the id {UNKNOWN}"):
        sandbox.rebuilds(UNKNOWN)


def test_settings_can_be_changed_one_at_a_time(client: Client, sandbox: Sandbox) -> None:
    client.control("PATCH", "/settings", {"clock_offset": 60})

    settings = client.control("PATCH", "/settings", {"page_size": 2}).json()

    assert (settings["clock_offset"], settings["page_size"], settings["speed"]) == (60, 2, 1)
    sandbox.set(page_size=None)
    assert len(client.get("/datasets").json()) == 7


def test_reset_restores_the_initial_state(client: Client, sandbox: Sandbox) -> None:
    sandbox.remove_dataset(ORDERS)
    sandbox.fail_next(status=500)
    sandbox.advance(1000)
    sandbox.set(page_size=1)
    sandbox.rotate_key("another")
    sandbox.set_resource("scopes", BUYERS, name="renamed")

    assert client.control("POST", "/reset").status_code == 204

    assert client.get(f"/datasets/{ORDERS}").json()["status"] == "new"
    assert client.get(f"/scopes/{BUYERS}").json()["name"] == "Likely buyers"
    assert len(sandbox.requests()) == 2
    settings = client.control("GET", "/settings").json()
    assert (settings["clock_offset"], settings["page_size"]) == (0, None)


def test_its_first_builds_can_have_begun_in_the_past() -> None:
    sandbox = Sandbox(age=3600)
    for _ in range(2):
        orders = sandbox.dataset(ORDERS)
        assert orders["status"] == "ready"
        assert orders["created_at"] < orders["last_updated_output_at"]
        built_at = datetime.fromisoformat(orders["last_updated_output_at"])
        assert 3500 < (sandbox.now() - built_at).total_seconds() < 3700
        sandbox.set_dataset(ORDERS, status="error")
        sandbox.reset()


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
        sandbox.fail_next(delay=60)

        def request() -> None:
            with pytest.raises(requests.ConnectionError):
                requests.get(f"{sandbox.url}/scopes", timeout=30)

        waiting = threading.Thread(target=request)
        waiting.start()
        while not sandbox.requests():
            time.sleep(0.01)
        start = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - start < 5
        waiting.join(5)
        assert not waiting.is_alive()


def test_a_port_in_use_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match=f"Cannot listen on 127.0.0.1, port {sandbox.port}: "):
        Sandbox(port=sandbox.port).start()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"speed": 0}, "speed must be greater than 0"),
        ({"speed": -1}, "speed must be greater than 0, not -1"),
        ({"speed": float("nan")}, "speed must be greater than 0"),
        ({"age": -1}, "age must be 0 or more"),
        ({"age": float("nan")}, "age must be 0 or more"),
        ({"port": 70000}, "between 0 and 65535"),
        ({"api_key": "two words"}, "without spaces"),
        ({"api_key": ""}, "without spaces"),
        ({"page_size": 0}, "page size"),
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
