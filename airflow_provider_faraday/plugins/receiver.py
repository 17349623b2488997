"""The web application that receives Faraday's webhooks. Nothing is authenticated but by their signature."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow.models.connection import Connection
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_faraday.api import endpoints, webhooks
from airflow_provider_faraday.api.errors import FaradayAuthenticationError, FaradayError
from airflow_provider_faraday.api.responses import decode_states
from airflow_provider_faraday.api.signatures import SignatureError, verify
from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.client.aiohttp_client import AiohttpClient
from airflow_provider_faraday.client.config import ClientConfig, client_config
from airflow_provider_faraday.plugins.announcements import announce, assets_to_notify

if TYPE_CHECKING:
    from airflow_provider_faraday.api.states import ResourceState

log = logging.getLogger(__name__)

# Faraday waits 15 seconds for the response.
BODY_SECONDS = 5.0
FETCH_SECONDS = 8.0

LOOKUP_SECONDS = 30.0
"""How long a looked up Airflow connection is used: forged messages must not cause a lookup each."""

LOOKUP_PATIENCE_SECONDS = 3.0
"""How long a message waits for a lookup. A slow secrets backend must not hold up messages without end."""

LOG_SECONDS = 60.0
"""How often each problem is logged at most."""


def create_app(conn_ids: Collection[str]) -> FastAPI:
    """Return an application with one route. It serves no description of itself.

    :param conn_ids: the Airflow connections to serve. No other is looked up.
    """
    receiver = Receiver(conn_ids)
    route = Route("/webhooks/{faraday_conn_id}", receiver.receive, methods=["POST"])
    return FastAPI(routes=[route], openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)


class _Refused(Exception):
    """A message is not accepted.

    :param status: of the response.
    :param problem: for the log; has nothing that the sender chose.
    :param detail: a sentence that may differ each time.
    """

    def __init__(self, status: HTTPStatus, problem: str, detail: str = "") -> None:
        super().__init__(problem)
        self.status = status
        self.detail = detail


class Receiver:
    """Turns messages into asset events.

    :param conn_ids: the Airflow connections to serve.
    """

    def __init__(self, conn_ids: Collection[str]) -> None:
        self._conn_ids = conn_ids
        self._log = _ThrottledLog()
        self._configs: dict[str, ClientConfig | None] = {}
        self._valid_until: dict[str, float] = {}
        self._lookups: dict[str, asyncio.Task[None]] = {}

    async def receive(self, request: Request) -> Response:
        """Handle a request. 2xx means that Faraday is done with the message; it resends it otherwise."""
        conn_id = request.path_params["faraday_conn_id"]
        known = conn_id in self._conn_ids
        try:
            status = await self._receive(request, conn_id if known else None)
        except _Refused as refusal:
            target = f"the Airflow connection '{conn_id}'" if known else "an id not in webhook_conn_ids"
            problem = f"Refused a webhook for {target} ({refusal.status.value}): {refusal}."
            self._log.warning(problem, refusal.detail)
            status = refusal.status
        # The rest of a body that is still being sent is not read.
        headers = {} if status < 400 else {"Connection": "close"}
        return JSONResponse({"status": status.phrase}, status, headers)

    async def _receive(self, request: Request, conn_id: str | None) -> HTTPStatus:
        body = await _read_body(request)
        config = await self._config(conn_id) if conn_id else None
        try:
            message_id = verify(request.headers, body, config.webhook_secret if config else (), time.time())
        except SignatureError as error:
            raise _Refused(HTTPStatus.UNAUTHORIZED, str(error)) from None
        assert conn_id is not None
        assert config is not None
        try:
            message = webhooks.parse_message(body)
        except webhooks.UnknownMessageError as error:
            self._log.warning(f"Ignored a webhook for the Airflow connection '{conn_id}': {error}.")
            return HTTPStatus.OK
        except ValueError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"it cannot be read: {error}") from None
        what = f"{message.resource_type.label} {message.resource_id}"
        if message.event == webhooks.ERRORED:
            self._log.warning(f"Faraday failed to build the {what}, according to a webhook.")
            return HTTPStatus.OK
        uri = message.resource_type.asset_uri(message.resource_id)
        asset_ids = await run_in_threadpool(assets_to_notify, uri, message_id)
        if not asset_ids:
            return HTTPStatus.OK
        try:
            state = await _fetch(config, message)
        except (FaradayError, TimeoutError) as error:
            if isinstance(error, FaradayAuthenticationError):
                # The key may have been replaced. Faraday resends the message.
                self._valid_until.pop(conn_id, None)
            # Without Faraday's error id, which differs each time.
            text = error.args[0] if error.args else f"no response within {FETCH_SECONDS:.0f} s"
            problem = f"the {what} could not be fetched"
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, problem, one_line(text)) from None
        if state is None:
            self._log.warning(
                f"A webhook for the Airflow connection '{conn_id}' is about the {what}, which Faraday does "
                "not return. Unless it was deleted, check that the API key and the webhook secret belong to "
                "the same account."
            )
            return HTTPStatus.OK
        if message.is_newer_than(state, datetime.now(UTC)):
            # Faraday resends the message.
            problem = f"Faraday's API does not return the new build of the {what} yet"
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, problem)
        # It was ready when the message was sent. By now, the next build may be in progress.
        build = {**state.build, "status": "ready"}
        created = await run_in_threadpool(announce, asset_ids, message_id, build)
        if created:
            log.info("A webhook has announced a build of the %s: %d asset events.", what, created)
        else:
            log.info("A webhook is about a build of the %s that was already announced.", what)
        return HTTPStatus.OK

    async def _config(self, conn_id: str) -> ClientConfig | None:
        """Return the Airflow connection, an outdated one if lookups are slow; None if it cannot be used."""
        if time.monotonic() >= self._valid_until.get(conn_id, 0.0):
            if conn_id not in self._lookups:
                self._lookups[conn_id] = asyncio.create_task(self._refresh(conn_id))
            await asyncio.wait([self._lookups[conn_id]], timeout=LOOKUP_PATIENCE_SECONDS)
        return self._configs.get(conn_id)

    async def _refresh(self, conn_id: str) -> None:
        try:
            self._configs[conn_id] = await run_in_threadpool(self._look_up, conn_id)
            self._valid_until[conn_id] = time.monotonic() + LOOKUP_SECONDS
        finally:
            del self._lookups[conn_id]

    def _look_up(self, conn_id: str) -> ClientConfig | None:
        try:
            config = client_config(Connection.get_connection_from_secrets(conn_id))
        except FaradayError as error:
            self._log.warning(f"Webhooks are refused: {one_line(str(error))}")
        except Exception as error:  # whatever a secrets backend raises
            problem = f"The Airflow connection '{conn_id}' could not be looked up: {type(error).__name__}"
            self._log.warning(f"Webhooks are refused: {problem}")
        else:
            if config.webhook_secret:
                return config
            problem = f"The Airflow connection '{conn_id}' has no extra 'webhook_secret'"
            self._log.warning(f"Webhooks are refused: {problem}")
        return None


class _ThrottledLog:
    """Logs each problem at most once a minute, whoever causes it and however often."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._next: dict[str, float] = {}

    def warning(self, problem: str, detail: str = "") -> None:
        """Log a problem with a detail, and how often it has occurred since it was logged last."""
        self._counts[problem] += 1
        now = time.monotonic()
        if now >= self._next.get(problem, 0.0):
            self._next[problem] = now + LOG_SECONDS
            count = self._counts.pop(problem)
            log.warning("%s", f"{problem} {detail}".rstrip() + (f" ({count} times)" if count > 1 else ""))


async def _read_body(request: Request) -> bytes:
    """Return the body, if it is small and arrives soon.

    :raises _Refused: if it does not.
    """
    body = bytearray()
    too_large = f"it has more than {webhooks.MAX_BODY_BYTES // 1024} KB"
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > webhooks.MAX_BODY_BYTES:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > webhooks.MAX_BODY_BYTES:
                    raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large)
    except TimeoutError:
        problem = f"its body did not arrive within {BODY_SECONDS:.0f} s"
        raise _Refused(HTTPStatus.REQUEST_TIMEOUT, problem) from None
    except ClientDisconnect:
        raise _Refused(HTTPStatus.BAD_REQUEST, "its body broke off") from None
    return bytes(body)


async def _fetch(config: ClientConfig, message: webhooks.Message) -> ResourceState | None:
    """Return the resource that a message is about; None if it does not exist.

    A list of one, not the resource itself: a 404 may also come from something that is not Faraday.

    :raises FaradayError: if the request fails. It is not retried: Faraday resends the message.
    :raises TimeoutError: if it takes too long.
    """
    (endpoint,) = endpoints.resources_by_id(message.resource_type, [message.resource_id])
    once = replace(config, max_attempts=1)

    async def look_up(rejected: ClientConfig | None) -> ClientConfig:
        return once

    client = AiohttpClient(look_up)
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            states = (await client.fetch(endpoint, decode_states(message.resource_type))).value
    finally:
        await client.close()
    return next((state for state in states if state.id.lower() == message.resource_id), None)
