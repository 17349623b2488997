"""Webhooks over a socket: who is let in, which asset events they create, and what happens to the rest."""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox
from support.ids import CUSTOMERS, LOYALTY_TIER, ORDERS, RETURNS, TARGET, UNKNOWN
from support.run_dag import AIRFLOW_3, AIRFLOW_3_3
from support.webhooks import CONN_ID, Database, Receiver, message, new_secret, read_response, signed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no API server")

SECRET, NEXT_SECRET = new_secret(), new_secret()
BUILT = "2026-01-31T06:00:00.000Z"
BODY_SECONDS, FETCH_SECONDS, LOOKUP_PATIENCE_SECONDS = 2.0, 3.0, 2.0
# The secrets backend of the tests takes a while to look this Airflow connection up.
SLOW = "slow"


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
def receivers(home: Path, shared_sandbox: Sandbox) -> Iterator[list[Receiver]]:
    """Return two processes that receive webhooks and share a metadata database."""
    env = {
        "AIRFLOW__FARADAY__WEBHOOK_CONN_IDS": f"{CONN_ID}, no_secret,not_there,stored,{SLOW}",
        f"AIRFLOW_CONN_{CONN_ID.upper()}": connection(shared_sandbox, [SECRET, NEXT_SECRET]),
        "AIRFLOW_CONN_NO_SECRET": connection(shared_sandbox, None),
        "AIRFLOW_CONN_NOT_SERVED": connection(shared_sandbox, SECRET),
        "AIRFLOW__SECRETS__BACKEND": "slow_secrets.SlowSecrets",
    }
    started = [Receiver(home, env) for _ in range(2)]
    try:
        for each in started:
            each.start(
                BODY_SECONDS=BODY_SECONDS,
                FETCH_SECONDS=FETCH_SECONDS,
                LOOKUP_PATIENCE_SECONDS=LOOKUP_PATIENCE_SECONDS,
            )
        yield started
    finally:
        for each in started:
            each.end()


@pytest.fixture
def receiver(receivers: list[Receiver]) -> Receiver:
    return receivers[0]


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


def ago(**duration: float) -> str:
    """Return a time in the past, as Faraday formats it."""
    return (datetime.now(UTC) - timedelta(**duration)).isoformat()


@pytest.mark.parametrize("prefix", ["webhook", "svix"])
def test_a_build_is_an_event_with_the_payload_of_a_watcher(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int, prefix: str
) -> None:
    body = message(CUSTOMERS.upper())

    response = receiver.post(body, signed(SECRET, body, message_id="msg_1", prefix=prefix))

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


def test_any_type_of_resource_has_events(receiver: Receiver, faraday: Sandbox, database: Database) -> None:
    faraday.set_resource("targets", TARGET, status="ready", last_updated_output_at=BUILT, count=7)
    target = database.add_asset(f"faraday://targets/{TARGET}")

    assert post(receiver, TARGET, resource_type="targets").status_code == 200
    [event] = database.events(target)
    assert (event["payload"]["id"], event["payload"]["count"]) == (TARGET, 7)


def test_each_secret_and_each_signature_is_tried(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    body = message(CUSTOMERS)
    headers = signed(NEXT_SECRET, body)
    foreign = signed(new_secret(), body)["webhook-signature"]
    headers["webhook-signature"] = f"v1a,{foreign[3:]} {foreign} {headers['webhook-signature']}"

    assert receiver.post(body, headers).status_code == 200
    assert len(database.events(customers)) == 1


@pytest.mark.parametrize("separator", [" ", ",", ", "])
def test_signatures_may_be_separated_by_spaces_or_commas(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int, separator: str
) -> None:
    body = message(CUSTOMERS)
    headers = signed(SECRET, body)
    foreign = signed(new_secret(), body)["webhook-signature"]
    headers["webhook-signature"] = separator.join([foreign, headers["webhook-signature"], foreign])

    assert receiver.post(body, headers).status_code == 200
    assert len(database.events(customers)) == 1


@pytest.mark.parametrize("name", ["id", "timestamp", "signature"])
def test_a_long_header_is_refused_before_it_is_split(
    receiver: Receiver, faraday: Sandbox, customers: int, name: str
) -> None:
    body = message(CUSTOMERS)
    headers = signed(SECRET, body)
    headers[f"webhook-{name}"] = "v1,A " * 6_000_000 + headers[f"webhook-{name}"]
    before = receiver.peak_megabytes()

    assert receiver.post(body, headers).status_code == 401
    # The server itself holds a few copies of the 30 MB.
    assert receiver.peak_megabytes() - before < 250


def forge(name: str) -> tuple[bytes, dict[str, str]]:
    """Return a message with something wrong about it."""
    body = message(CUSTOMERS)
    good = signed(SECRET, body)
    without = {key: value for key, value in good.items() if key != name}
    if without != good:
        return body, without
    signature = good["webhook-signature"]
    changed: dict[str, dict[str, str]] = {
        "another secret": signed(new_secret(), body),
        "too old": signed(SECRET, body, age=330),
        "too new": signed(SECRET, body, age=-330),
        "another id": good | {"webhook-id": "msg_other"},
        "another time": good | {"webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)},
        "no number": good | {"webhook-timestamp": "1e9"},
        "not a time": good | {"webhook-timestamp": "9" * 5000},
        "too long": good | {"webhook-signature": "v1,AAAA " * 1000 + signature},
        "another version": good | {"webhook-signature": signature.replace("v1,", "v2,")},
        "no comma": good | {"webhook-signature": signature[3:]},
        "not base64": good | {"webhook-signature": "v1,%%%"},
        "empty": good | {"webhook-signature": "v1,"},
        "mixed names": {key.replace("webhook-id", "svix-id"): value for key, value in good.items()},
    }
    return (body.replace(b"datasets", b"targets"), good) if name == "body" else (body, changed[name])


@pytest.mark.parametrize(
    "name",
    [
        *("webhook-id", "webhook-timestamp", "webhook-signature", "body", "another secret", "too old"),
        *("too new", "another id", "another time", "no number", "not a time", "another version"),
        *("no comma", "not base64", "empty", "mixed names", "too long"),
    ],
)
def test_what_is_not_proven_is_refused(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int, name: str
) -> None:
    body, headers = forge(name)

    response = receiver.post(body, headers)

    assert (response.status_code, database.events(customers), faraday.requests()) == (401, [], [])


def test_an_unknown_airflow_connection_looks_like_a_bad_signature(
    receiver: Receiver, faraday: Sandbox, customers: int
) -> None:
    body = message(CUSTOMERS)
    bad = receiver.post(body, signed(new_secret(), body))

    # One is not in the setting, although it exists; of those in the setting, not all exist or have a secret.
    for conn_id in ("not_served", "faraday_default", "no_secret", "not_there", "a'b%20c", "x" * 5000):
        response = receiver.post(body, signed(SECRET, body), conn_id)
        assert (response.status_code, response.content) == (401, bad.content)
        assert {*response.headers} == {*bad.headers}
    assert faraday.requests() == []


def test_a_replay_creates_no_second_event(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    body = message(CUSTOMERS)
    headers = signed(SECRET, body)
    assert receiver.post(body, headers).status_code == 200
    # Even after another build, about which there is a message of its own.
    faraday.set_dataset(CUSTOMERS, status="ready", last_updated_output_at="2026-02-01T00:00:00Z")
    faraday.clear_requests()

    assert [receiver.post(body, headers).status_code for _ in range(3)] == [200] * 3
    assert len(database.events(customers)) == 1
    assert faraday.requests() == []


def test_a_second_message_about_the_same_build_creates_no_second_event(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    assert [post(receiver, CUSTOMERS).status_code for _ in range(2)] == [200, 200]
    assert len(database.events(customers)) == 1
    faraday.set_dataset(CUSTOMERS, status="ready", last_updated_output_at="2026-02-01T00:00:00Z")

    assert post(receiver, CUSTOMERS).status_code == 200
    times = [event["payload"]["last_updated_output_at"] for event in database.events(customers)]
    assert times == [BUILT, "2026-02-01T00:00:00Z"]


def test_processes_that_race_create_one_event(
    receivers: list[Receiver], faraday: Sandbox, database: Database, customers: int
) -> None:
    # Not only the same message: also different ones about one build, as from two webhook endpoints.
    bodies = [message(CUSTOMERS, number=number % 2) for number in range(12)]
    sent = [signed(SECRET, body, message_id=f"msg_{number % 2}") for number, body in enumerate(bodies)]
    barrier = threading.Barrier(len(bodies))

    def deliver(number: int) -> int:
        barrier.wait()
        return receivers[number // 2 % 2].post(bodies[number], sent[number]).status_code

    with ThreadPoolExecutor(len(bodies)) as pool:
        statuses = list(pool.map(deliver, range(len(bodies))))

    assert statuses == [200] * len(bodies), receivers[0].logged() + receivers[1].logged()
    assert len(database.events(customers)) == 1


def test_a_build_that_a_watcher_has_announced_creates_no_second_event(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    def watcher_event(**payload: str) -> None:
        extra = {"from_trigger": True, "payload": {"id": CUSTOMERS, **payload}}
        database.execute(
            "INSERT INTO asset_event (asset_id, extra, timestamp, source_map_index) VALUES (?, ?, ?, -1)",
            *(customers, json.dumps(extra), "2026-01-31 06:00:01+00:00"),
        )

    # Neither an earlier build nor a failure since then is the build.
    watcher_event(status="ready", last_updated_output_at="2026-01-30T06:00:00Z")
    watcher_event(status="error", last_updated_output_at=BUILT)
    assert post(receiver, CUSTOMERS).status_code == 200
    assert len(database.events(customers)) == 3

    faraday.set_dataset(CUSTOMERS, status="ready", last_updated_output_at="2026-02-01T00:00:00Z")
    watcher_event(status="ready", last_updated_output_at="2026-02-01T00:00:00.000+00:00")
    assert post(receiver, CUSTOMERS).status_code == 200
    assert len(database.events(customers)) == 4


@pytest.mark.skipif(not AIRFLOW_3_3, reason="Earlier versions keep no state for assets.")
def test_the_state_of_the_asset_says_what_was_announced(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    assert post(receiver, CUSTOMERS).status_code == 200

    sql = "SELECT key, value FROM asset_state_store WHERE asset_id = ?"
    [(key, value)] = database.execute(sql, customers)
    assert key == "airflow-provider-faraday.webhook"
    assert json.loads(value) == {CUSTOMERS: {"built": BUILT, "failed": None}}


def test_a_failed_build_is_logged_and_creates_no_event(
    receiver: Receiver, faraday: Sandbox, database: Database
) -> None:
    asset = database.add_asset(f"faraday://datasets/{RETURNS}")

    assert post(receiver, RETURNS, event="resource.errored").status_code == 200
    assert (database.events(asset), faraday.requests()) == ([], [])
    assert f"Faraday failed to build the dataset {RETURNS}" in receiver.logged()


def test_a_resource_without_an_active_asset_is_not_fetched(
    receiver: Receiver, faraday: Sandbox, database: Database
) -> None:
    asset = database.add_asset(f"faraday://datasets/{ORDERS}", active=False)

    assert post(receiver, ORDERS).status_code == 200
    assert post(receiver, CUSTOMERS).status_code == 200
    assert (database.events(asset), faraday.requests()) == ([], [])


def test_a_resource_that_is_gone_creates_no_event(
    receiver: Receiver, faraday: Sandbox, database: Database
) -> None:
    asset = database.add_asset(f"faraday://datasets/{UNKNOWN}")

    assert post(receiver, UNKNOWN).status_code == 200
    assert (len(faraday.requests()), database.events(asset)) == (1, [])


@pytest.mark.parametrize(
    ("event", "data"),
    [("resource.created", {}), ("resource.ready_with_update", {"resource_type": "dashboards"})],
)
def test_what_later_versions_of_faraday_send_is_accepted(
    receiver: Receiver, faraday: Sandbox, customers: int, event: str, data: dict[str, str]
) -> None:
    assert post(receiver, CUSTOMERS, event=event, **data).status_code == 200
    assert faraday.requests() == []


def test_an_unknown_resource_type_is_logged_once_a_minute(receiver: Receiver, faraday: Sandbox) -> None:
    for _ in range(3):
        assert post(receiver, CUSTOMERS, resource_type="dash\nboards").status_code == 200
    assert post(receiver, CUSTOMERS, resource_type="reports" * 5_000).status_code == 200

    logged = receiver.logged()
    assert logged.count("dash\\nboards") == 1
    assert "\nboards" not in logged.replace("\\nboards", "")
    assert 0 < logged.count("reports") < 50


@pytest.mark.parametrize("body", ["", "[]", "{", '{"type": 1}', "[" * 60_000, '{"a": "\udc80"}'])
def test_a_signed_body_that_is_no_message_is_a_400(receiver: Receiver, faraday: Sandbox, body: str) -> None:
    sent = body.encode(errors="surrogateescape")
    signed_text = sent.decode(errors="ignore")
    if signed_text.encode() == sent:
        assert receiver.post(sent, signed(SECRET, sent)).status_code == 400
    else:
        assert receiver.post(sent, signed(SECRET, signed_text.encode())).status_code == 401


def test_an_id_that_is_no_uuid_is_not_requested(receiver: Receiver, faraday: Sandbox) -> None:
    assert post(receiver, "../accounts/current").status_code == 400
    assert faraday.requests() == []


@pytest.mark.parametrize(
    "fault",
    [
        *({"status": 500}, {"status": 404}, {"status": 401}, {"broken": "html"}, {"delay": 10.0}),
        # aiohttp itself resends a GET once.
        {"broken": "dropped", "times": 2},
    ],
)
def test_a_message_is_delivered_later_if_the_resource_cannot_be_fetched(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int, fault: dict[str, Any]
) -> None:
    faraday.fail_next(**fault)
    body = message(CUSTOMERS)
    headers = signed(SECRET, body)

    begun = time.monotonic()
    assert receiver.post(body, headers).status_code == 503
    # Faraday would not wait for a request without a limit.
    assert time.monotonic() - begun < 9.0
    assert (len(faraday.requests()), database.events(customers)) == (fault.get("times", 1), [])

    assert receiver.post(body, headers).status_code == 200
    assert len(database.events(customers)) == 1


def test_a_replaced_api_key_is_used_at_once(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    database.store_connection(
        "stored", host=faraday.url, password="old-key", extra={"webhook_secret": SECRET}
    )
    assert post(receiver, CUSTOMERS, "stored").status_code == 503

    database.store_connection(
        "stored", host=faraday.url, password=faraday.api_key, extra={"webhook_secret": SECRET}
    )
    assert post(receiver, CUSTOMERS, "stored").status_code == 200
    assert len(database.events(customers)) == 1


def test_the_next_build_in_progress_does_not_hide_the_last_one(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    faraday.set_dataset(CUSTOMERS, status="running")

    assert post(receiver, CUSTOMERS).status_code == 200
    [event] = database.events(customers)
    assert (event["payload"]["status"], event["payload"]["last_updated_output_at"]) == ("ready", BUILT)


def test_a_build_that_the_api_does_not_show_yet_is_announced_when_it_does(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    body = message(CUSTOMERS, timestamp=ago(seconds=5))
    headers = signed(SECRET, body)

    assert receiver.post(body, headers).status_code == 503
    assert database.events(customers) == []
    assert f"the new build of the dataset {CUSTOMERS}" in receiver.logged()

    built = ago(seconds=5)
    faraday.set_dataset(CUSTOMERS, status="ready", last_updated_output_at=built)
    assert receiver.post(body, headers).status_code == 200
    [event] = database.events(customers)
    assert event["payload"]["last_updated_output_at"] == built


@pytest.mark.parametrize(
    ("sent_minutes_ago", "built_minutes_ago", "status"),
    [(4, 13, 200), (3, 15, 503), (3, None, 503), (6, 60, 200), (6, None, 200)],
)
def test_a_recent_message_waits_for_a_build_that_fits(
    receiver: Receiver,
    faraday: Sandbox,
    database: Database,
    customers: int,
    sent_minutes_ago: float,
    built_minutes_ago: float | None,
    status: int,
) -> None:
    built = None if built_minutes_ago is None else ago(minutes=built_minutes_ago)
    faraday.set_dataset(CUSTOMERS, status="ready", last_updated_output_at=built)

    assert post(receiver, CUSTOMERS, timestamp=ago(minutes=sent_minutes_ago)).status_code == status
    assert len(database.events(customers)) == (status == 200)


@pytest.mark.parametrize(
    "sent", [None, 1_790_000_000, "yesterday", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00"]
)
def test_a_message_without_a_valid_time_announces_the_last_build(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int, sent: object
) -> None:
    assert post(receiver, CUSTOMERS, timestamp=sent).status_code == 200
    assert len(database.events(customers)) == 1


def test_a_build_without_a_valid_time_does_not_fit(
    receiver: Receiver, faraday: Sandbox, database: Database, customers: int
) -> None:
    faraday.set_dataset(CUSTOMERS, status="ready", last_updated_output_at="yesterday")

    assert post(receiver, CUSTOMERS, timestamp=ago(minutes=1)).status_code == 503
    assert database.events(customers) == []


def test_a_resource_type_without_build_times_fits_always(
    receiver: Receiver, faraday: Sandbox, database: Database
) -> None:
    trait = database.add_asset(f"faraday://traits/{LOYALTY_TIER}")

    sent = post(receiver, LOYALTY_TIER, resource_type="traits", timestamp=ago(seconds=5))
    assert sent.status_code == 200
    assert [event["payload"]["id"] for event in database.events(trait)] == [LOYALTY_TIER]


def test_a_large_body_is_refused_before_it_is_read(receiver: Receiver, faraday: Sandbox) -> None:
    body = b'{"padding": "' + b"x" * 65_536
    assert receiver.post(body, signed(SECRET, body)).status_code == 413
    # Without a Content-Length.
    assert receiver.post(iter([body]), signed(SECRET, body)).status_code == 413

    with socket.create_connection(("127.0.0.1", receiver.port), 10) as client:
        head = f"POST /faraday/webhooks/{CONN_ID} HTTP/1.1\r\nHost: x\r\nContent-Length: {10**12}\r\n\r\n"
        client.sendall(head.encode())
        assert read_response(client).startswith(b"HTTP/1.1 413")


def test_a_body_that_just_fits_is_read(receiver: Receiver, faraday: Sandbox, customers: int) -> None:
    body = message(CUSTOMERS, padding="x" * 60_000)
    body += b" " * (65_536 - len(body))

    assert receiver.post(body, signed(SECRET, body)).status_code == 200


@pytest.mark.parametrize(
    "framing", ["Content-Length: 60000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"]
)
def test_a_slow_sender_is_cut_off_and_does_not_hold_up_others(
    receiver: Receiver, faraday: Sandbox, customers: int, framing: str
) -> None:
    head = f"POST /faraday/webhooks/{CONN_ID} HTTP/1.1\r\nHost: x\r\n{framing}"
    slow = [socket.create_connection(("127.0.0.1", receiver.port), 30) for _ in range(50)]
    try:
        for client in slow:
            client.sendall(head.encode())
        assert post(receiver, CUSTOMERS).status_code == 200
        for client in slow:
            response = read_response(client)
            assert response.startswith(b"HTTP/1.1 408")
            # Otherwise, the server would go on reading.
            assert b"connection: close" in response.lower()
    finally:
        for client in slow:
            client.close()


def test_a_slow_lookup_is_limited_and_does_not_hold_up_others(receiver: Receiver, customers: int) -> None:
    body = message(CUSTOMERS)
    begun = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        slow = [pool.submit(receiver.post, body, signed(SECRET, body), SLOW) for _ in range(10)]
        time.sleep(0.2)
        assert post(receiver, ORDERS).status_code == 200
        assert time.monotonic() - begun < LOOKUP_PATIENCE_SECONDS
        assert {each.result().status_code for each in slow} == {401}
    assert time.monotonic() - begun < 8.0
    assert receiver.logged().count(f"looks up {SLOW}") == 1


def test_a_sender_that_hangs_up_is_no_error(receiver: Receiver, faraday: Sandbox, customers: int) -> None:
    head = f"POST /faraday/webhooks/{CONN_ID} HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", receiver.port), 10) as client:
        client.sendall(head.encode())

    assert post(receiver, CUSTOMERS).status_code == 200
    assert "Traceback" not in receiver.logged()


def test_there_is_one_route_and_no_description_of_it(receiver: Receiver) -> None:
    base = receiver.url("").removesuffix("/webhooks/")

    for path in ("", "/docs", "/redoc", "/openapi.json", "/webhooks", "/webhooks/", "/webhooks/a/b"):
        assert requests.get(base + path, timeout=10).status_code == 404, path
    assert requests.get(receiver.url(), timeout=10).status_code == 405


def test_failures_are_logged_once_a_minute_without_the_secret(
    receivers: list[Receiver], faraday: Sandbox, customers: int
) -> None:
    receiver = receivers[1]
    body = message(CUSTOMERS)
    for number in range(50):
        receiver.post(body, signed(new_secret(), body))
        receiver.post(body, signed(SECRET, body), f"someone_{number}")

    logged = receiver.logged()
    assert len(re.findall(f"Refused a webhook for the Airflow connection '{CONN_ID}'", logged)) == 1
    assert len(re.findall("Refused a webhook for an id not in webhook_conn_ids", logged)) == 1
    assert "someone_" not in logged
    for secret in (SECRET, NEXT_SECRET, faraday.api_key):
        assert secret not in logged


def test_failures_of_faraday_are_logged_once_a_minute_although_they_differ(
    receivers: list[Receiver], faraday: Sandbox, customers: int
) -> None:
    for number in range(5):
        faraday.fail_next(times=1, status=500, body=f"request {number}")
        assert post(receivers[1], CUSTOMERS).status_code == 503

    logged = receivers[1].logged()
    assert len(re.findall(f"the dataset {CUSTOMERS} could not be fetched", logged)) == 1
    assert "request 0" in logged
