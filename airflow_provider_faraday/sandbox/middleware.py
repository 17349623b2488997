"""The outermost layer of the sandbox: API key, faults, request log and ``Date`` header."""

from __future__ import annotations

import asyncio
import logging
from email.utils import format_datetime
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_faraday.sandbox.control import Control
from airflow_provider_faraday.sandbox.errors import FaradayError
from airflow_provider_faraday.sandbox.faults import Fault, send_broken
from airflow_provider_faraday.sandbox.resources import rfc3339

log = logging.getLogger(__name__)


class SandboxMiddleware:
    """ASGI middleware around the whole application.

    It is outermost because faults need the socket, and because even a crash must produce a Faraday error.
    """

    def __init__(self, app: ASGIApp, control: Control) -> None:
        self._app = app
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/" or f"{scope['path']}/".startswith("/sandbox/"):
            response = self._dated(await self._call_app(scope, receive))
            await response(scope, receive, send)
            return
        entry = self._log(scope)
        fault = self._control.take_fault(scope["method"], scope["path"])
        if fault is not None:
            await self._fail(fault, entry, scope, receive, send)
            return
        response = await self._respond(scope, receive)
        entry["status"] = response.status_code
        await response(scope, receive, send)

    async def _fail(
        self, fault: Fault, entry: dict[str, Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        entry["fault"] = True
        # ASGI has no access to the socket. In uvicorn, `send` is a method of the object that owns it.
        transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
        try:
            await asyncio.sleep(fault.delay)
        except asyncio.CancelledError:
            # The sandbox is stopping. Without this, uvicorn would respond with a 500 of its own.
            transport.abort()
            await _disconnect(receive)
            return
        if fault.processed or not fault.replaces_response:
            response = await self._respond(scope, receive)
        if fault.replaces_response:
            response = self._dated(fault.response())
        for name, value in fault.headers.items():
            response.headers[name] = value
        if fault.broken != "dropped":
            entry["status"] = response.status_code
        if fault.broken in ("truncated", "wrong_length", "dropped"):
            send_broken(transport, response, fault)
            await _disconnect(receive)
        else:
            await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        # Before routing: without a key, Faraday does not reveal which paths exist.
        if scope["path"].startswith("/v1"):
            try:
                self._control.check_key(Headers(scope=scope).get("authorization"))
            except FaradayError as error:
                return self._dated(error.response())
        return self._dated(await self._call_app(scope, receive))

    async def _call_app(self, scope: Scope, receive: Receive) -> Response:
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        try:
            await self._app(scope, receive, collect)
        except Exception:
            log.exception("Unhandled exception in %s %s", scope["method"], scope["path"])
            return FaradayError(500, "Unhandled exception; see the sandbox's log.").response()
        start, *rest = messages
        response = Response(b"".join(message.get("body", b"") for message in rest), start["status"])
        response.raw_headers = list(start["headers"])
        return response

    def _dated(self, response: Response) -> Response:
        response.headers["date"] = format_datetime(self._control.now(), usegmt=True)
        return response

    def _log(self, scope: Scope) -> dict[str, Any]:
        client = scope.get("client")
        # No headers but the user agent: the others include the API key.
        entry = {
            "time": rfc3339(self._control.now()),
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "status": None,
            "client": f"{client[0]}:{client[1]}" if client else None,
            "user_agent": Headers(scope=scope).get("user-agent"),
            "fault": False,
        }
        self._control.log_request(entry)
        return entry


async def _disconnect(receive: Receive) -> None:
    # Before uvicorn has noticed that the connection is closed, it would respond with a 500.
    while (await receive())["type"] != "http.disconnect":
        pass
