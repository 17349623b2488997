"""The sandbox's webhooks: registered over its API, signed, and resent until they are accepted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook

from airflow_provider_faraday.sandbox import Sandbox
from raw_server import RawServer, Received, Step, after_body, answer
from support.ids import CUSTOMERS, RETURNS
from support.published import differences

pytestmark = pytest.mark.once

EVENTS = ["resource.ready_with_update", "resource.errored"]


class Inbox:
    """Keeps the messages it receives, and responds with the next of its statuses, then 200."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.server = RawServer(self.respond)

    def respond(self, request: Received) -> Step:
        body: list[bytes] = []

        def keep(connection: Any, request: Received) -> None:
            self.received.append((request.headers, body[0]))
            answer(self.statuses.pop(0) if self.statuses else 200)(connection, request)

        return after_body(keep, into=body)

    def messages(self, secret: str) -> set[tuple[str, str]]:
        """Return the event and the resource of each message, after verifying its signature."""
        found = set()
        for headers, body in list(self.received):
            renamed = {name.replace("svix-", "webhook-"): value for name, value in headers.items()}
            parsed = Webhook(secret).verify(body, renamed)
            assert list(differences(parsed, "WebhookMessageForResource")) == []
            found.add((parsed["type"], parsed["data"]["resource_id"]))
        return found


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    with inbox.server:
        yield inbox


def call(sandbox: Sandbox, method: str, path: str = "", **options: Any) -> Any:
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    url = f"{sandbox.url}/webhook_endpoints{path}"
    response = requests.request(method, url, headers=headers, timeout=10, **options)
    response.raise_for_status()
    return response.json()


def until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.01)


def test_each_build_and_each_failure_is_a_signed_message(sandbox: Sandbox, inbox: Inbox) -> None:
    sandbox.advance(60)
    endpoint = call(sandbox, "POST", json={"url": inbox.server.url, "enabled_events": EVENTS})

    # Messages are sent although nothing is requested.
    for id_ in (CUSTOMERS, RETURNS):
        sandbox.set_dataset(id_, sandbox={"lag": 0.1, "running": 0.1}, rebuild=True)
    expected = {(EVENTS[0], CUSTOMERS), (EVENTS[1], RETURNS)}
    until(lambda: expected <= inbox.messages(endpoint["secret"]))


def test_a_message_is_resent_with_its_id_until_410_disables_the_endpoint(inbox: Inbox) -> None:
    account = {"datasets": [{"name": "customers", "id": CUSTOMERS, "status": "new"}]}
    with Sandbox(speed=100, account=account) as sandbox:
        id_ = call(sandbox, "POST", json={"url": inbox.server.url, "enabled_events": EVENTS})["id"]
        inbox.statuses = [500, 302, 410]
        sandbox.set_dataset(CUSTOMERS, status="ready")
        until(lambda: call(sandbox, "GET", f"/{id_}")["status"] == "disabled")

        assert len({headers["svix-id"] for headers, _ in inbox.received}) == 1
        assert [attempt["status"] for attempt in sandbox.webhook_deliveries()] == [500, 302, 410]
        over_http = requests.get(f"{sandbox.origin}/sandbox/webhooks", timeout=10).json()
        assert over_http == sandbox.webhook_deliveries()
