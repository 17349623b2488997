"""The sandbox's webhooks: registered over its API, signed, and resent until they are accepted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook

from airflow_provider_faraday.sandbox import Sandbox
from support.ids import CUSTOMERS, ORDERS, RETURNS
from support.published import differences

pytestmark = pytest.mark.once

EVENTS = ["resource.ready_with_update", "resource.errored"]
# Nothing is built but by the test.
UNBUILT = {"datasets": [{"name": id_, "id": id_, "status": "new"} for id_ in (CUSTOMERS, ORDERS)]}


class Inbox:
    """A server that keeps the messages it receives, and responds with the next of its statuses, then 200."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                inbox.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(inbox.statuses.pop(0) if inbox.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    opened = Inbox()
    yield opened
    opened.close()


def call(sandbox: Sandbox, method: str, path: str = "", **body: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    if method == "PATCH":
        headers["Content-Type"] = "application/merge-patch+json"
    url = f"{sandbox.url}/webhook_endpoints{path}"
    return requests.request(method, url, json=body or None, headers=headers, timeout=10)


def register(sandbox: Sandbox, url: str, *events: str) -> dict[str, Any]:
    response = call(sandbox, "POST", url=url, enabled_events=list(events or EVENTS))
    assert response.status_code == 201
    return dict(response.json())


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_build_and_each_failure_is_a_signed_message(sandbox: Sandbox, inbox: Inbox) -> None:
    until(lambda: sandbox.dataset(RETURNS)["status"] == "error")
    endpoint = register(sandbox, inbox.url)

    sandbox.set_dataset(CUSTOMERS, status="ready")
    sandbox.set_dataset(RETURNS, rebuild=True)
    wanted = {(EVENTS[0], CUSTOMERS), (EVENTS[1], RETURNS)}
    until(lambda: wanted <= {found[:2] for found in messages(inbox, endpoint["secret"])})

    at = sandbox.dataset(CUSTOMERS)["last_updated_output_at"]
    assert (EVENTS[0], CUSTOMERS, at) in messages(inbox, endpoint["secret"])


def messages(inbox: Inbox, secret: str) -> list[tuple[str, str, str]]:
    """Return the event, the resource and the time of each message, after verifying its signature."""
    found = []
    for headers, body in list(inbox.received):
        renamed = {name.replace("svix-", "webhook-"): value for name, value in headers.items()}
        parsed = Webhook(secret).verify(body, renamed)
        assert list(differences(parsed, "WebhookMessageForResource")) == []
        found.append((parsed["type"], parsed["data"]["resource_id"], parsed["timestamp"]))
    return found


def test_what_was_built_before_the_registration_is_not_sent(inbox: Inbox) -> None:
    with Sandbox(account=UNBUILT) as sandbox:
        sandbox.set_dataset(CUSTOMERS, status="ready")
        endpoint = register(sandbox, inbox.url)
        sandbox.set_dataset(ORDERS, status="ready")
        until(lambda: inbox.received)

        assert [id_ for _, id_, _ in messages(inbox, endpoint["secret"])][:1] == [ORDERS]


def test_a_message_is_resent_with_its_id_until_it_is_accepted(inbox: Inbox) -> None:
    with Sandbox(speed=100, account=UNBUILT) as sandbox:
        register(sandbox, inbox.url)
        inbox.statuses = [500, 302]
        sandbox.set_dataset(CUSTOMERS, status="ready")
        until(lambda: len(inbox.received) == 3)

        assert len({headers["svix-id"] for headers, _ in inbox.received}) == 1
        until(lambda: len(sandbox.webhook_deliveries()) == 3)
        assert [attempt["status"] for attempt in sandbox.webhook_deliveries()] == [500, 302, 200]
        over_http = requests.get(f"{sandbox.origin}/sandbox/webhooks", timeout=10).json()
        assert over_http == sandbox.webhook_deliveries()


def test_410_disables_an_endpoint_until_it_is_enabled_again(inbox: Inbox) -> None:
    with Sandbox(speed=100, account=UNBUILT) as sandbox:
        id_ = register(sandbox, inbox.url, EVENTS[0])["id"]
        inbox.statuses = [410] * 100
        sandbox.set_dataset(CUSTOMERS, status="ready")
        until(lambda: call(sandbox, "GET", f"/{id_}").json()["status"] == "disabled")
        count = len(inbox.received)
        inbox.statuses = []
        assert call(sandbox, "PATCH", f"/{id_}", status="enabled").json()["status"] == "enabled"
        sandbox.set_dataset(CUSTOMERS, status="ready")
        until(lambda: len(inbox.received) > count)


def test_a_build_is_announced_when_it_ends_although_nothing_is_requested(inbox: Inbox) -> None:
    with Sandbox(account=UNBUILT) as sandbox:
        endpoint = register(sandbox, inbox.url)
        sandbox.set_dataset(CUSTOMERS, sandbox={"lag": 0.1, "running": 0.3}, rebuild=True)
        until(lambda: inbox.received)
        assert messages(inbox, endpoint["secret"])[0][:2] == (EVENTS[0], CUSTOMERS)
