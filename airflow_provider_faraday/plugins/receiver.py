"""The web application that receives Faraday's webhooks. Airflow does not authenticate its requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_faraday.api import endpoints, webhooks
from airflow_provider_faraday.api.errors import FaradayError
from airflow_provider_faraday.api.states import decode_states
from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.client.aiohttp_client import AiohttpClient
from airflow_provider_faraday.plugins.announcements import announce, assets_to_notify
from airflow_provider_faraday.plugins.connections import ThrottledLog, WebhookConnection

if TYPE_CHECKING:
    from airflow_provider_faraday.api.states import ResourceState
    from airflow_provider_faraday.client.config import ClientConfig

log = logging.getLogger(__name__)

# Faraday waits 15 seconds for the response.
BODY_SECONDS = 5.0
FETCH_SECONDS = 8.0


def create_app(conn_ids: Collection[str]) -> FastAPI:
    """Return an application with one route, and without a description of it.

    :param conn_ids: the Airflow connections to serve. No other is looked up.
    """
    route = Route("/webhooks/{faraday_conn_id}", Receiver(conn_ids).receive, methods=["POST"])
    return FastAPI(routes=[route], openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)


class Rejected(Exception):
    """A message is not accepted.

    :param status: of the response.
    :param problem: for the log. It contains nothing that the sender chose.
    :param detail: what may differ each time.
    """

    def __init__(self, status: HTTPStatus, problem: str, detail: str = "") -> None:
        super().__init__(problem)
        self.status = status
        self.detail = detail


class Receiver:
    """Creates asset events for messages.

    :param conn_ids: the Airflow connections to serve.
    """

    def __init__(self, conn_ids: Collection[str]) -> None:
        self._problems = ThrottledLog()
        self._connections = {conn_id: WebhookConnection(conn_id, self._problems) for conn_id in conn_ids}

    async def receive(self, request: Request) -> Response:
        """Handle a request. Faraday resends the message unless the status is 2xx."""
        connection = self._connections.get(request.path_params["faraday_conn_id"])
        status, headers = HTTPStatus.OK, {}
        try:
            await self._receive(request, connection)
        except Rejected as rejection:
            name = "an id not in webhook_conn_ids"
            if connection:
                name = f"the Airflow connection '{connection.conn_id}'"
            self._problems.warning(
                f"Rejected a webhook for {name} ({rejection.status.value}): {rejection}.", rejection.detail
            )
            # The rest of a body that is still being sent is not read.
            status, headers = rejection.status, {"Connection": "close"}
        return JSONResponse({"status": status.phrase}, status, headers)

    async def _receive(self, request: Request, connection: WebhookConnection | None) -> None:
        body = await _read_body(request)
        config = await connection.config() if connection else None
        if connection is None or config is None:
            raise Rejected(HTTPStatus.UNAUTHORIZED, "there is no secret to verify its signature with")
        try:
            message_id = webhooks.verify(request.headers, body, config.webhook_secret, time.time())
            message = webhooks.parse_message(body)
        except webhooks.SignatureError as error:
            raise Rejected(HTTPStatus.UNAUTHORIZED, str(error)) from None
        except webhooks.UnknownMessageError as error:
            self._problems.warning(f"Ignored a webhook from Faraday: {error}.")
            return
        except ValueError as error:
            raise Rejected(HTTPStatus.BAD_REQUEST, f"it cannot be read: {error}") from None
        if message.sent_at is None:
            self._problems.warning(
                "A webhook has no valid timestamp. Faraday's API may not return the new build yet."
            )
        try:
            await self._handle(connection, config, message_id, message)
        except SQLAlchemyError as error:
            problem = "Airflow's metadata database failed"
            raise Rejected(HTTPStatus.SERVICE_UNAVAILABLE, problem, type(error).__name__) from None

    async def _handle(
        self, connection: WebhookConnection, config: ClientConfig, message_id: str, message: webhooks.Message
    ) -> None:
        what = message.subject
        if message.event == webhooks.ERRORED:
            self._problems.warning(f"Faraday failed to build the {what}, according to a webhook.")
            return
        uri = message.resource_type.asset_uri(message.resource_id)
        asset_ids = await run_in_threadpool(assets_to_notify, uri, message_id)
        if not asset_ids:
            return
        try:
            state = await _fetch(config, message)
        except FaradayError as error:
            # The API key may have been replaced.
            connection.forget()
            problem = f"the {what} could not be fetched"
            # Without Faraday's error id, which differs each time.
            raise Rejected(HTTPStatus.SERVICE_UNAVAILABLE, problem, one_line(error.args[0])) from None
        if state is None:
            self._problems.warning(
                f"A webhook for the Airflow connection '{connection.conn_id}' is about the {what}, which "
                "Faraday does not return. Unless it was deleted, check that the API key and the webhook "
                "secret belong to the same account."
            )
            return
        now = datetime.now(UTC)
        outdated = Rejected(
            HTTPStatus.SERVICE_UNAVAILABLE, f"Faraday's API does not return the new build of the {what} yet"
        )
        if message.is_newer_than(state, now):
            raise outdated
        # It was ready when the message was sent. By now, the next build may be in progress.
        build = {**state.build, "status": "ready"}
        created = await run_in_threadpool(announce, asset_ids, message_id, build)
        if not created and message.is_newer_than(state, now, webhooks.MAX_ANNOUNCED_AGE):
            raise outdated
        if created:
            log.info("A webhook has announced a build of the %s: %d new asset events.", what, created)


async def _read_body(request: Request) -> bytes:
    """Return the body, if it is small and arrives soon.

    :raises Rejected: if it does not.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > webhooks.MAX_BODY_BYTES:
                    problem = f"it has more than {webhooks.MAX_BODY_BYTES // 1024} KB"
                    raise Rejected(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem)
    except TimeoutError:
        problem = f"its body did not arrive within {BODY_SECONDS:.0f} s"
        raise Rejected(HTTPStatus.REQUEST_TIMEOUT, problem) from None
    except ClientDisconnect:
        raise Rejected(HTTPStatus.BAD_REQUEST, "its body broke off") from None
    return bytes(body)


async def _fetch(config: ClientConfig, message: webhooks.Message) -> ResourceState | None:
    """Return the resource that a message is about; None if it does not exist.

    A list of one, not the resource itself: a 404 may also come from something that is not Faraday.

    :raises FaradayError: if the request fails.
    """
    (endpoint,) = endpoints.resources_by_id(message.resource_type, [message.resource_id])

    async def look_up(_: ClientConfig | None) -> ClientConfig:
        return config

    client = AiohttpClient(look_up)
    try:
        fetched = await client.fetch(endpoint, decode_states(message.resource_type), seconds=FETCH_SECONDS)
    finally:
        await client.close()
    return next((state for state in fetched.value if state.key == message.resource_id), None)
