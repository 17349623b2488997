"""The control surface: datasets changed by hand, faults, the log of requests, and starting over."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox, SandboxError

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Client

ORDERS = "d0000000-0000-4000-8000-000000000002"
WAREHOUSE = "c0000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize("status", ["new", "starting", "running", "ready", "error", "pending", None])
def test_a_dataset_can_be_put_into_any_status(client: Client, status: str | None) -> None:
    changed = client.control("PATCH", f"/datasets/{ORDERS}", {"status": status, "someday": 1})

    assert changed.status_code == 200
    dataset = client.get(f"/datasets/{ORDERS}").json()
    assert (dataset["status"], dataset["someday"]) == (status, 1)
    assert dataset == changed.json()


def test_a_dataset_in_error_says_why(client: Client, sandbox: Sandbox) -> None:
    sandbox.set_dataset(ORDERS, status="error", status_error="No such table")

    assert client.get(f"/datasets/{ORDERS}").json()["status_error"] == "No such table"


def test_a_dataset_can_be_archived_and_brought_back(client: Client) -> None:
    client.control("PATCH", f"/datasets/{ORDERS}", {"archived": True})
    assert client.get(f"/datasets/{ORDERS}").json()["archived_at"] is not None

    client.control("PATCH", f"/datasets/{ORDERS}", {"archived": False})
    assert client.get(f"/datasets/{ORDERS}").json()["archived_at"] is None


def test_a_dataset_can_be_added_and_removed(client: Client) -> None:
    added = client.control("POST", "/datasets", {"name": "gift_cards", "connection_id": WAREHOUSE})

    assert added.status_code == 201
    dataset_id = added.json()["id"]
    listed = client.get(f"/connections/{WAREHOUSE}/datasets").json()
    assert listed[-1]["name"] == "gift_cards"
    assert listed[-1]["options"] == {"type": "snowflake", "table_name": "gift_cards"}
    assert client.control("POST", "/datasets", {"id": dataset_id, "name": "again"}).status_code == 409
    assert client.control("DELETE", f"/datasets/{dataset_id}").status_code == 204
    assert client.get(f"/datasets/{dataset_id}").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/datasets", {}),
        ("PATCH", f"/datasets/{ORDERS}", {"sandbox": {"nwe": 1}}),
        ("PATCH", f"/datasets/{ORDERS}", {"archived": "perhaps"}),
        ("PATCH", "/datasets/orders", {}),
        ("POST", "/faults", {"times": 0}),
        ("POST", "/faults", {"path": "("}),
        ("POST", "/faults", {"broken": "badly"}),
        ("PUT", "/api_key", {"api_key": "two words"}),
        ("PATCH", "/settings", {"page_size": 0}),
    ],
)
def test_a_wrong_order_is_refused_in_faradays_shape(
    client: Client, method: str, path: str, body: dict[str, Any]
) -> None:
    answer = client.control(method, path, body)

    assert answer.status_code == 400
    assert answer.json()["error"] == "VALIDATION_FAILED"


def test_the_list_of_datasets_tells_what_comes_next(client: Client) -> None:
    orders = client.control("GET", "/datasets").json()[1]

    assert orders["name"] == "orders"
    assert [each["status"] for each in orders["upcoming"]] == ["starting", "running", "ready"]


def test_history_tells_every_status_in_order_of_time(client: Client, sandbox: Sandbox) -> None:
    sandbox.advance(6)

    history = client.control("GET", "/history").json()

    assert [move["at"] for move in history] == sorted(move["at"] for move in history)
    moves = [move["status"] for move in history if move["name"] == "orders"]
    assert moves == ["new", "starting", "running", "ready"]


def test_the_next_answers_fail_and_then_no_more(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(2, status=503, headers={"Retry-After": "7"})

    answers = [client.get("/scopes") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[0].json()["error"] == "INTERNAL_SERVER_ERROR"


def test_a_fault_befalls_only_what_it_is_meant_for(client: Client) -> None:
    client.control("POST", "/faults", {"path": "/datasets$", "method": "GET", "status": 429})

    assert client.get("/scopes").status_code == 200
    assert client.get("/datasets").status_code == 429
    assert client.control("GET", "/faults").json() == []


def test_a_fault_may_have_any_body(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(status=502, body="<h1>Bad gateway</h1>", headers={"Content-Type": "text/html"})
    sandbox.fail_next(body={"not": "a list"})

    html = client.get("/datasets")
    assert (html.status_code, html.text, html.headers["Content-Type"]) == (
        502, "<h1>Bad gateway</h1>", "text/html",
    )  # fmt: skip
    assert client.get("/datasets").json() == {"not": "a list"}


@pytest.mark.parametrize("broken", ["invalid_json", "html", "empty", "wrong_length"])
def test_a_broken_body_arrives_and_means_nothing(client: Client, sandbox: Sandbox, broken: str) -> None:
    sandbox.fail_next(broken=broken)

    answer = client.get("/datasets")

    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert client.get("/datasets").status_code == 200


def test_a_body_may_be_no_text_at_all(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(broken="not_utf8")

    with pytest.raises(UnicodeDecodeError):
        client.get("/datasets").content.decode("utf-8")


def test_a_truncated_body_breaks_off(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(broken="truncated")

    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        client.get("/datasets")
    assert client.get("/datasets").status_code == 200


def test_a_dropped_connection_has_no_answer(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(broken="dropped")

    with pytest.raises(requests.ConnectionError):
        client.get("/datasets")
    assert [entry["status"] for entry in sandbox.requests()] == [None]
    assert client.get("/datasets").status_code == 200


@pytest.mark.parametrize(("taken", "reruns"), [(True, 1), (False, 0)])
def test_a_lost_answer_may_be_to_a_request_that_was_carried_out(
    client: Client, sandbox: Sandbox, taken: bool, reruns: int
) -> None:
    sandbox.advance(10)
    sandbox.fail_next(broken="dropped", taken=taken)

    with pytest.raises(requests.ConnectionError):
        client.post(f"/datasets/{ORDERS}/force_update")

    upcoming = [each["status"] for each in sandbox.datasets()[1]["upcoming"]]
    assert upcoming.count("starting") == reruns


def test_a_delay_is_only_a_delay(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(delay=0.3)
    began = time.monotonic()

    assert client.get("/datasets").status_code == 200
    assert time.monotonic() - began >= 0.3


def test_faults_can_be_called_off(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(5, status=500)

    assert client.control("GET", "/faults").json() == [{"times": 5, "status": 500}]
    assert client.control("DELETE", "/faults").status_code == 204
    assert client.get("/datasets").status_code == 200


def test_faults_do_not_reach_the_control_surface(client: Client, sandbox: Sandbox) -> None:
    sandbox.fail_next(status=500)

    assert client.control("GET", "/datasets").status_code == 200
    assert len(sandbox.faults.pending()) == 1


def test_a_rotated_key_expires(client: Client, sandbox: Sandbox) -> None:
    assert client.control("PUT", "/api_key", {"api_key": "fresh-key"}).status_code == 204

    old = client.get("/datasets")
    assert (old.status_code, old.json()["error"]) == (401, "EXPIRED_API_KEY")
    client.session.headers["Authorization"] = "Bearer fresh-key"
    assert client.get("/datasets").status_code == 200
    sandbox.rotate_key("faraday-sandbox-key")
    assert client.get("/datasets").json()["error"] == "EXPIRED_API_KEY"


def test_the_log_tells_what_was_asked_and_never_the_key(client: Client, sandbox: Sandbox) -> None:
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


def test_the_log_tells_connections_apart(client: Client, sandbox: Sandbox) -> None:
    for _ in range(3):
        client.get("/scopes")
    assert len({entry["client"] for entry in sandbox.requests()}) == 1

    requests.get(f"{sandbox.url}/datasets", timeout=10)

    assert len({entry["client"] for entry in sandbox.requests()}) == 2
    assert len(sandbox.requests("/v1/scopes")) == 3


def test_reset_starts_over(client: Client, sandbox: Sandbox) -> None:
    sandbox.remove_dataset(ORDERS)
    sandbox.fail_next(status=500)
    sandbox.advance(1000)
    sandbox.rotate_key("another")

    assert client.control("POST", "/reset").status_code == 204

    assert client.get(f"/datasets/{ORDERS}").json()["status"] == "new"
    assert len(sandbox.requests()) == 1
    assert client.control("GET", "/settings").json()["clock_offset"] == 0


def test_it_can_be_stopped_and_started_again_on_its_port() -> None:
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


def test_an_answer_that_is_being_held_back_does_not_hold_up_the_stop() -> None:
    with Sandbox() as sandbox:
        sandbox.fail_next(delay=60)

        def ask() -> None:
            with pytest.raises(requests.ConnectionError):
                requests.get(f"{sandbox.url}/scopes", timeout=30)

        asking = threading.Thread(target=ask)
        asking.start()
        while not sandbox.requests():
            time.sleep(0.01)
        began = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - began < 5
        asking.join(5)


def test_a_taken_port_is_a_sentence(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match=f"Cannot listen on 127.0.0.1, port {sandbox.port}: "):
        Sandbox(port=sandbox.port).start()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"speed": 0}, "speed must be a number above 0"),
        ({"speed": float("nan")}, "speed must be a number above 0"),
        ({"port": 70000}, "between 0 and 65535"),
        ({"api_key": "two words"}, "without white space"),
        ({"page_size": 0}, "page size"),
        ({"account": {"datasets": [{}]}}, "datasets.0.name"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SandboxError, match=told):
        Sandbox(**options)
