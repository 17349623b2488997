"""Webhooks over a socket: which asset events they create, and which requests are rejected."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox
from support.ids import CUSTOMERS, ORDERS, RETURNS, TARGET, UNKNOWN
from support.run_dag import AIRFLOW_3, AIRFLOW_3_3
from support.webhooks import (
    CONN_ID,
    Database,
    Receiver,
    message,
    new_secret,
    read_response,
    receiving,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no API server")

SECRET, NEXT_SECRET = new_secret(), new_secret()
BUILT = "2026-01-31T06:00:00.000Z"
# The secrets backend of the tests never finds this Airflow connection.
SLOW = "slow"
# The time limits of two processes: tests that do not exceed one must pass on a busy machine, too.
PATIENT, HASTY = (
    dict.fromkeys(("BODY_SECONDS", "FETCH_SECONDS", "LOOKUP_PATIENCE_SECONDS"), seconds)
    for seconds in (120.0, 3.0)
)


def connection(sandbox: Sandbox, secret: Any) -> str:
    extra = {"webhook_secret": secret}
    return json.dumps(
        {"conn_type": "faraday", "host": sandbox.url, "password": sandbox.api_key, "extra": extra}
    )


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def faraday(shared_sandbox: Sandbox) -> Sandbox:
    """Return a Faraday in which all datasets that the tests use have been built."""
    shared_sandbox.reset()
    for id_ in (CUSTOMERS, ORDERS):
        shared_sandbox.set_dataset(id_, status="ready", last_updated_output_at=BUILT)
    return shared_sandbox


@pytest.fixture(scope="module")
def home(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    created = tmp_path_factory.mktemp("webhooks")
    shutil.copy(airflow_home / "migrated.db", created / "airflow.db")
    return created


@pytest.fixture(scope="module")
def env(shared_sandbox: Sandbox) -> dict[str, str]:
    return {
        "AIRFLOW__FARADAY__WEBHOOK_CONN_IDS": f"{CONN_ID}, no_secret,not_there,stored,{SLOW}",
        f"AIRFLOW_CONN_{CONN_ID.upper()}": connection(shared_sandbox, [SECRET, NEXT_SECRET]),
        "AIRFLOW_CONN_NO_SECRET": connection(shared_sandbox, None),
        "AIRFLOW_CONN_NOT_SERVED": connection(shared_sandbox, SECRET),
        "AIRFLOW__SECRETS__BACKEND": "slow_secrets.SlowSecrets",
    }


@pytest.fixture(scope="module")
def receiver(home: Path, env: dict[str, str]) -> Iterator[Receiver]:
    with receiving(home, env, PATIENT) as started:
        yield started


@pytest.fixture(scope="module")
def hasty(home: Path, env: dict[str, str]) -> Iterator[Receiver]:
    """Return a process with short time limits, which shares the metadata database with the other one."""
    with receiving(home, env, HASTY) as started:
        yield started


@pytest.fixture
def database(home: Path) -> Database:
    """Return the metadata database, without assets."""
    found = Database(home)
    for table in ("asset_event", "asset_active", "asset"):
        found.execute(f"DELETE FROM {table}")
    return found


@pytest.fixture
def customers(database: Database) -> int:
    """Return the id of the asset of a dataset."""
    return database.add_asset(f"faraday://datasets/{CUSTOMERS}")


def post(receiver: Receiver, resource_id: str, conn_id: str = CONN_ID, **data: Any) -> requests.Response:
    body = message(resource_id, **data)
    return receiver.post(body, signed(SECRET, body), conn_id)


def test_a_build_is_an_event_with_the_payload_of_a_watcher(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    body = message(CUSTOMERS.upper())

    response = receiver.post(body, signed(NEXT_SECRET, body, message_id="msg_1"))

    assert response.status_code == 200, receiver.logged()
    payload = {
        "resource_type": "datasets",
        "id": CUSTOMERS,
        "name": "customers",
        "status": "ready",
        "last_updated_output_at": BUILT,
        "row_count": faraday.dataset(CUSTOMERS)["row_count"],
    }
    assert database.events(customers) == [{"payload": payload, "webhook_id": "msg_1"}]
    [request] = faraday.requests()
    assert (request["path"], request["query"]) == ("/v1/datasets", f"ids={CUSTOMERS}")
    if AIRFLOW_3_3:
        # Watchers read this, because they cannot read events.
        sql = "SELECT key, value FROM asset_state_store WHERE asset_id = ?"
        [(key, value)] = database.execute(sql, customers)
        assert key == "airflow-provider-faraday.webhook"
        assert json.loads(value) == {CUSTOMERS: {"built": BUILT, "failed": None}}


def test_any_type_of_resource_has_events(receiver: Receiver, faraday: Sandbox, database: Database) -> None:
    faraday.set_resource("targets", TARGET, status="ready", last_updated_output_at=BUILT, count=7)
    target = database.add_asset(f"faraday://targets/{TARGET}")

    assert post(receiver, TARGET, resource_type="targets").status_code == 200
    [event] = database.events(target)
    assert (event["payload"]["id"], event["payload"]["count"]) == (TARGET, 7)


def test_an_unknown_airflow_connection_looks_like_a_bad_signature(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    body = message(CUSTOMERS)
    bad = receiver.post(body, signed(new_secret(), body))
    assert bad.status_code == 401

    # The first one exists, but not in the setting. Of those in the setting, not all exist or have a secret.
    for conn_id in ("not_served", "faraday_default", "no_secret", "not_there", "a'b%20c", "x" * 5000):
        response = receiver.post(body, signed(SECRET, body), conn_id)
        assert (response.status_code, response.content) == (401, bad.content)
        assert {*response.headers} == {*bad.headers}
    assert (faraday.requests(), database.events(customers)) == ([], [])


def test_only_another_build_creates_a_second_event(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    body = message(CUSTOMERS)
    headers = signed(SECRET, body)
    assert receiver.post(body, headers).status_code == 200
    assert post(receiver, CUSTOMERS).status_code == 200
    assert len(database.events(customers)) == 1
    faraday.set_dataset(CUSTOMERS, status="ready", last_updated_output_at="2026-02-01T00:00:00Z")
    faraday.clear_requests()

    # A replay.
    assert receiver.post(body, headers).status_code == 200
    assert faraday.requests() == []
    assert post(receiver, CUSTOMERS).status_code == 200
    times = [event["payload"]["last_updated_output_at"] for event in database.events(customers)]
    assert times == [BUILT, "2026-02-01T00:00:00Z"]


def test_processes_that_race_create_one_event(
    receiver: Receiver, hasty: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    # Two messages about one build, as from two webhook endpoints, and each of them several times.
    bodies = [message(CUSTOMERS, number=number % 2) for number in range(12)]
    sent = [signed(SECRET, body, message_id=f"msg_{number % 2}") for number, body in enumerate(bodies)]
    barrier = threading.Barrier(len(bodies))

    def deliver(number: int) -> int:
        barrier.wait()
        return (receiver, hasty)[number // 2 % 2].post(bodies[number], sent[number]).status_code

    with ThreadPoolExecutor(len(bodies)) as pool:
        statuses = list(pool.map(deliver, range(len(bodies))))

    # On a busy machine, one of them may exceed its time limit. Faraday would resend the message.
    assert {200} <= {*statuses} <= {200, 503}, receiver.logged() + hasty.logged()
    assert len(database.events(customers)) == 1


def test_a_failed_build_is_logged_and_creates_no_event(
    receiver: Receiver, faraday: Sandbox, database: Database
) -> None:
    asset = database.add_asset(f"faraday://datasets/{RETURNS}")

    assert post(receiver, RETURNS, event="resource.errored").status_code == 200
    assert (database.events(asset), faraday.requests()) == ([], [])
    assert f"Faraday failed to build the dataset {RETURNS}" in receiver.logged()


def test_only_a_resource_with_an_active_asset_is_requested(
    receiver: Receiver, faraday: Sandbox, database: Database
) -> None:
    inactive = database.add_asset(f"faraday://datasets/{ORDERS}", active=False)
    deleted = database.add_asset(f"faraday://datasets/{UNKNOWN}")

    for id_ in (ORDERS, CUSTOMERS, UNKNOWN):
        assert post(receiver, id_).status_code == 200
    assert [request["query"] for request in faraday.requests()] == [f"ids={UNKNOWN}"]
    assert database.events(inactive) == database.events(deleted) == []


def test_only_unknown_messages_are_accepted_without_an_event(receiver: Receiver, faraday: Sandbox) -> None:
    assert post(receiver, CUSTOMERS, event="resource.created").status_code == 200
    assert post(receiver, "../accounts/current").status_code == 400
    assert faraday.requests() == []


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 404}, {"status": 401}, {"delay": 3600.0}])
def test_a_message_is_delivered_later_if_the_resource_cannot_be_requested(
    receiver: Receiver,
    hasty: Receiver,
    faraday: Sandbox,
    database: Database,
    customers: int,
    fault: dict[str, Any],
) -> None:
    faraday.fail_next(**fault)
    body = message(CUSTOMERS)
    headers = signed(SECRET, body)

    assert hasty.post(body, headers).status_code == 503
    assert (len(faraday.requests()), database.events(customers)) == (1, [])

    assert receiver.post(body, headers).status_code == 200
    assert len(database.events(customers)) == 1


def test_a_replaced_api_key_is_used_at_once(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    stored = {"host": faraday.url, "extra": {"webhook_secret": SECRET}}
    database.store_connection("stored", password="old-key", **stored)
    assert post(receiver, CUSTOMERS, "stored").status_code == 503

    database.store_connection("stored", password=faraday.api_key, **stored)
    assert post(receiver, CUSTOMERS, "stored").status_code == 200
    assert len(database.events(customers)) == 1


def test_the_next_build_in_progress_does_not_hide_the_last_one(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    faraday.set_dataset(CUSTOMERS, status="running")

    assert post(receiver, CUSTOMERS).status_code == 200
    [event] = database.events(customers)
    assert (event["payload"]["status"], event["payload"]["last_updated_output_at"]) == ("ready", BUILT)


def test_a_build_that_the_api_does_not_return_yet_is_announced_later(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    now = datetime.now(UTC).isoformat()
    body = message(CUSTOMERS, timestamp=now)
    headers = signed(SECRET, body)

    assert receiver.post(body, headers).status_code == 503
    assert database.events(customers) == []
    assert f"the new build of the dataset {CUSTOMERS}" in receiver.logged()

    faraday.set_dataset(CUSTOMERS, status="ready", last_updated_output_at=now)
    assert receiver.post(body, headers).status_code == 200
    [event] = database.events(customers)
    assert event["payload"]["last_updated_output_at"] == now


def test_a_message_about_the_next_build_is_not_taken_for_one_about_the_announced_build(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    now = datetime.now(UTC)
    builds = [(now - timedelta(minutes=minutes)).isoformat() for minutes in (4, 0)]
    faraday.set_dataset(CUSTOMERS, status="ready", last_updated_output_at=builds[0])
    assert post(receiver, CUSTOMERS, timestamp=builds[0]).status_code == 200
    # From another endpoint, about the same build.
    assert post(receiver, CUSTOMERS, timestamp=builds[0]).status_code == 200

    assert post(receiver, CUSTOMERS, timestamp=builds[1]).status_code == 503
    faraday.set_dataset(CUSTOMERS, status="ready", last_updated_output_at=builds[1])
    assert post(receiver, CUSTOMERS, timestamp=builds[1]).status_code == 200
    times = [event["payload"]["last_updated_output_at"] for event in database.events(customers)]
    assert times == builds


def test_a_locked_database_is_a_reason_to_send_the_message_again(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    body = message(CUSTOMERS)
    headers = signed(SECRET, body)
    with database.locked():
        assert receiver.post(body, headers).status_code == 503
    assert receiver.post(body, headers).status_code == 200
    assert len(database.events(customers)) == 1
    assert "Airflow's metadata database failed. OperationalError" in receiver.logged()
    assert "Traceback" not in receiver.logged()


@pytest.mark.skipif(not AIRFLOW_3_3, reason="Airflow before 3.3 stores nothing for assets")
def test_an_event_is_created_even_if_nothing_can_be_stored_for_watchers(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    database.execute("ALTER TABLE asset_state_store RENAME TO hidden")
    try:
        assert post(receiver, CUSTOMERS).status_code == 200
    finally:
        database.execute("ALTER TABLE hidden RENAME TO asset_state_store")
    assert len(database.events(customers)) == 1
    assert f"Watchers of asset {customers} may announce the build, too." in receiver.logged()


def test_a_large_body_is_rejected(receiver: Receiver, customers: int) -> None:
    body = message(CUSTOMERS)
    fits = body + b" " * (65_536 - len(body))
    assert receiver.post(fits, signed(SECRET, fits)).status_code == 200
    large = fits + b" "
    assert receiver.post(large, signed(SECRET, large)).status_code == 413
    # Without a Content-Length.
    assert receiver.post(iter([large]), signed(SECRET, large)).status_code == 413


@pytest.mark.parametrize(
    "framing", ["Content-Length: 60000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"]
)
def test_a_slow_sender_is_cut_off_and_does_not_delay_others(hasty: Receiver, framing: str) -> None:
    head = f"POST /faraday/webhooks/{CONN_ID} HTTP/1.1\r\nHost: x\r\n{framing}"
    slow = [socket.create_connection(("127.0.0.1", hasty.port), 60) for _ in range(20)]
    try:
        for client in slow:
            client.sendall(head.encode())
        assert post(hasty, ORDERS).status_code == 200
        for client in slow:
            response = read_response(client)
            assert response.startswith(b"HTTP/1.1 408")
            # Otherwise, the server would continue to read.
            assert b"connection: close" in response.lower()
    finally:
        for client in slow:
            client.close()


def test_a_slow_lookup_is_shared_and_does_not_delay_others(hasty: Receiver) -> None:
    body = message(CUSTOMERS)
    with ThreadPoolExecutor(10) as pool:
        slow = [pool.submit(hasty.post, body, signed(SECRET, body), SLOW) for _ in range(10)]
        assert post(hasty, ORDERS).status_code == 200
        assert {each.result().status_code for each in slow} == {401}
    assert hasty.logged().count(f"looks up {SLOW}") == 1


@pytest.mark.anyio
async def test_the_last_secret_is_used_while_a_lookup_is_slow_but_not_if_it_never_ends(
    faraday: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_faraday.plugins import connections

    monkeypatch.setenv("AIRFLOW_CONN_STORED", connection(faraday, SECRET))
    monkeypatch.setattr(connections, "LOOKUP_PATIENCE_SECONDS", 60.0)
    stored = connections.WebhookConnection("stored", connections.ThrottledLog())
    first = await stored.config()
    assert first

    released = threading.Event()
    monkeypatch.setattr(stored, "_look_up", lambda: released.wait(60) and None)
    monkeypatch.setattr(connections, "LOOKUP_PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(connections, "LOOKUP_SECONDS", 0.0)
    assert await stored.config() == first
    # Half a minute later.
    assert await stored.config() is None
    released.set()


@pytest.mark.anyio
async def test_a_lookup_that_began_before_it_was_forgotten_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow_provider_faraday.plugins import connections

    monkeypatch.setattr(connections, "LOOKUP_PATIENCE_SECONDS", 60.0)
    stored = connections.WebhookConnection("stored", connections.ThrottledLog())
    began, released = threading.Event(), threading.Event()
    keys: list[Any] = ["new", "old"]

    def look_up() -> Any:
        began.set()
        key = keys.pop()
        return key if released.wait(60) else None

    monkeypatch.setattr(stored, "_look_up", look_up)
    first = asyncio.create_task(stored.config())
    await asyncio.to_thread(began.wait, 60)
    stored.forget()
    released.set()
    assert [await first, await stored.config()] == ["old", "new"]


def test_a_sender_that_disconnects_is_not_an_error(receiver: Receiver, customers: int) -> None:
    head = f"POST /faraday/webhooks/{CONN_ID} HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", receiver.port), 60) as client:
        client.sendall(head.encode())

    assert post(receiver, CUSTOMERS).status_code == 200
    assert "Traceback" not in receiver.logged()


def test_a_message_without_a_valid_timestamp_is_logged(receiver: Receiver, customers: int) -> None:
    assert post(receiver, CUSTOMERS, timestamp="yesterday").status_code == 200
    assert "A webhook has no valid timestamp" in receiver.logged()


def test_there_is_one_route_and_no_description_of_it(receiver: Receiver) -> None:
    base = receiver.url("").removesuffix("/webhooks/")

    for path in ("", "/docs", "/redoc", "/openapi.json", "/webhooks", "/webhooks/", "/webhooks/a/b"):
        assert requests.get(base + path, timeout=60).status_code == 404, path
    assert requests.get(receiver.url(), timeout=60).status_code == 405


def test_a_problem_is_logged_once_a_minute_without_secrets(
    receiver: Receiver, faraday: Sandbox, customers: int
) -> None:
    body = message(CUSTOMERS)
    for number in range(10):
        receiver.post(body, signed(new_secret(), body))
        receiver.post(body, signed(SECRET, body), f"someone_{number}")
        faraday.fail_next(times=1, status=500, body=f"request {number}")
        assert post(receiver, CUSTOMERS).status_code == 503

    logged = receiver.logged()
    for problem in (
        f"for the Airflow connection '{CONN_ID}' (401)",
        "for an id not in webhook_conn_ids (401)",
        f"for the Airflow connection '{CONN_ID}' (503): the dataset {CUSTOMERS} could not be fetched",
    ):
        assert logged.count(problem) == 1
    assert "someone_" not in logged
    assert [each for each in (SECRET, NEXT_SECRET, faraday.api_key) if each in logged] == []
