"""Webhooks: the URLs that are registered, and the messages that are sent to them, with retries."""

from __future__ import annotations

import hmac
import json
import logging
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import datetime
from secrets import token_bytes, token_hex
from typing import Annotated, Any, Literal
from uuid import uuid4

import requests
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field

from airflow_provider_faraday.sandbox.account_file import Id
from airflow_provider_faraday.sandbox.errors import FaradayError
from airflow_provider_faraday.sandbox.resources import Document, rfc3339

log = logging.getLogger(__name__)

EVENTS = {"ready": "resource.ready_with_update", "error": "resource.errored"}
"""The event for each final status of a build."""
POLL_SECONDS = 0.05
TIMEOUT_SECONDS = 15.0
MAX_ATTEMPTS = 20
LONGEST_PAUSE_SECONDS = 60.0

EnabledEvents = Annotated[
    list[Literal["resource.ready_with_update", "resource.errored"]], Field(min_length=1)
]
EndpointStatus = Literal["enabled", "disabled"]


class EndpointSpec(BaseModel):
    """What a client sends to register a URL."""

    model_config = ConfigDict(extra="forbid")

    url: AnyHttpUrl
    enabled_events: EnabledEvents


class EndpointChange(BaseModel):
    """What a client sends to change a registered URL: any of these fields."""

    model_config = ConfigDict(extra="forbid")

    url: AnyHttpUrl | None = None
    enabled_events: EnabledEvents | None = None
    status: EndpointStatus | None = None


class WebhookEndpoint(EndpointSpec):
    """A registered URL, with the secret that signs what is sent to it."""

    id: str = Field(default_factory=lambda: str(uuid4()))
    created_at: str
    updated_at: str
    status: EndpointStatus = "enabled"
    secret: str = Field(default_factory=lambda: f"whsec_{b64encode(token_bytes(24)).decode()}")

    def document(self) -> Document:
        """Return the endpoint as the API shows it."""
        return self.model_dump(mode="json")

    def headers(self, message_id: str, body: bytes) -> dict[str, str]:
        """Return the headers of a message that is sent now."""
        # The system's clock, not the sandbox's, which tests advance: receivers reject what is not from now.
        sent_at = str(int(time.time()))
        key = b64decode(self.secret.removeprefix("whsec_"))
        signature = hmac.digest(key, f"{message_id}.{sent_at}.".encode() + body, "sha256")
        return {
            "Content-Type": "application/json",
            "svix-id": message_id,
            "svix-timestamp": sent_at,
            "svix-signature": f"v1,{b64encode(signature).decode()}",
        }


class Webhooks:
    """The registered URLs of an account, and a thread that notifies them of builds.

    :param new_messages: returns a message for each build that has ended since the last call
    :param now: returns the time on the sandbox's clock
    :param speed: how many times faster than by default failed messages are resent
    """

    def __init__(
        self, new_messages: Callable[[], list[Document]], now: Callable[[], datetime], speed: float
    ) -> None:
        self._new_messages = new_messages
        self._now = now
        self._speed = speed
        self._endpoints: dict[str, WebhookEndpoint] = {}
        self._deliveries: list[Document] = []
        self._stopped = threading.Event()

    def all(self) -> list[Document]:
        """List the registered URLs, oldest first."""
        return [endpoint.document() for endpoint in list(self._endpoints.values())]

    def get(self, endpoint_id: Id) -> Document:
        """Return a registered URL."""
        return self._get(endpoint_id).document()

    def create(self, spec: EndpointSpec) -> Document:
        """Register a URL. It is notified of what is built from now on."""
        now = rfc3339(self._now())
        endpoint = WebhookEndpoint(**dict(spec), created_at=now, updated_at=now)
        self._announce()
        self._endpoints[endpoint.id] = endpoint
        return endpoint.document()

    def change(self, endpoint_id: Id, change: EndpointChange) -> Document:
        """Change a registered URL, its events or its status."""
        changes = change.model_dump(exclude_none=True)
        changed = self._get(endpoint_id).model_copy(update={**changes, "updated_at": rfc3339(self._now())})
        self._endpoints[endpoint_id] = changed
        return changed.document()

    def remove(self, endpoint_id: Id) -> None:
        """Remove a registered URL."""
        self._get(endpoint_id)
        del self._endpoints[endpoint_id]

    def deliveries(self) -> list[Document]:
        """List the attempts to send a message so far, oldest first."""
        return list(self._deliveries)

    def clear(self) -> None:
        """Remove all registered URLs and messages."""
        self._endpoints.clear()
        self._deliveries.clear()

    def start(self) -> None:
        """Start the thread."""
        self._stopped = threading.Event()
        self._start(self._run)

    def stop(self) -> None:
        """Stop all threads. Messages that have not been delivered are not resent later."""
        self._stopped.set()

    def _get(self, endpoint_id: str) -> WebhookEndpoint:
        try:
            return self._endpoints[endpoint_id]
        except KeyError:
            raise FaradayError(404, f"No webhook endpoint with the id {endpoint_id}.") from None

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(POLL_SECONDS):
            self._announce()

    def _announce(self) -> None:
        """Send messages about the builds that have ended."""
        for message in self._new_messages():
            for endpoint in list(self._endpoints.values()):
                if endpoint.status == "enabled" and message["type"] in endpoint.enabled_events:
                    self._start(self._deliver, endpoint.id, message)

    def _deliver(self, stopped: threading.Event, endpoint_id: str, message: Document) -> None:
        message_id, body = f"msg_{token_hex(12)}", json.dumps(message).encode()
        for attempt in range(MAX_ATTEMPTS):
            endpoint = self._endpoints.get(endpoint_id)
            if endpoint is None or endpoint.status != "enabled":
                return
            status = self._post(endpoint, message_id, body)
            self._deliveries.append(
                {
                    "time": rfc3339(self._now()),
                    "endpoint_id": endpoint_id,
                    "message_id": message_id,
                    "type": message["type"],
                    **message["data"],
                    "status": status,
                }
            )
            if status == 410:
                self.change(endpoint_id, EndpointChange(status="disabled"))
            if status is not None and 200 <= status < 300:
                return
            if stopped.wait(min(2.0**attempt, LONGEST_PAUSE_SECONDS) / self._speed):
                return

    def _post(self, endpoint: WebhookEndpoint, message_id: str, body: bytes) -> int | None:
        """Send a message. Return the status of the response; None without one."""
        with requests.Session() as session:
            # The proxies of the environment are not for this machine.
            session.trust_env = False
            try:
                return session.post(
                    str(endpoint.url),
                    data=body,
                    headers=endpoint.headers(message_id, body),
                    timeout=TIMEOUT_SECONDS,
                    allow_redirects=False,
                ).status_code
            except requests.RequestException as error:
                log.debug("A webhook was not delivered: %s", type(error).__name__)
                return None

    def _start(self, run: Callable[..., None], *arguments: Any) -> None:
        name = "faraday-sandbox-webhooks"
        threading.Thread(target=run, args=(self._stopped, *arguments), name=name, daemon=True).start()
