"""The outermost layer of the sandbox: API key, faults, request log and ``Date`` header."""

from __future__ import annotations

import logging
from asyncio import sleep
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_faraday.sandbox.control import Control, is_loopback
from airflow_provider_faraday.sandbox.errors import FaradayError
from airflow_provider_faraday.sandbox.faults import Fault
from airflow_provider_faraday.sandbox.resources import http_date, rfc3339

log = logging.getLogger(__name__)


class SandboxMiddleware:
    """ASGI middleware around the whole application, because faults need the socket."""

    def __init__(self, app: ASGIApp, control: Control) -> None:
        self._app = app
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if self._is_cross_site(scope):
            refusal = FaradayError(403, "The sandbox rejects requests that web pages of other sites send.")
            await refusal.response()(scope, receive, send)
            return
        if scope["path"] == "/" or f"{scope['path']}/".startswith("/sandbox/"):
            await self._respond(scope, receive, send)
            return
        entry = self._log(scope)
        fault = self._control.take_fault(scope["method"], scope["path"])

        async def log_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
            await send(message)

        if fault is None:
            await self._respond(scope, receive, log_status)
            return
        entry["fault"] = True
        await sleep(fault.delay)
        response = await self._faulty_response(fault, scope, receive)
        if fault.broken == "dropped":
            # ASGI has no access to the socket. In uvicorn, `send` is a method of the object that owns it.
            send.__self__.transport.abort()  # type: ignore[attr-defined]
            # Before uvicorn has noticed that the connection is closed, it would respond with a 500.
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        # If the body is shorter than its Content-Length, uvicorn closes the connection.
        await response(scope, receive, log_status)

    def _is_cross_site(self, scope: Scope) -> bool:
        """Return whether a web page of another site sends the request.

        Such a page knows the default API key, and the control API needs none.
        """
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return True
        # A page can have a host name that resolves to this machine (DNS rebinding).
        return is_loopback(self._control.host) and not is_loopback(urlsplit(f"//{host}").hostname or "")

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response of the application, or an error response."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("date", http_date(self._control.now()))
            await send(message)

        try:
            # Before routing: without a key, Faraday does not reveal which paths exist.
            if scope["path"].startswith("/v1"):
                self._control.check_key(Headers(scope=scope).get("authorization"))
            await self._app(scope, receive, send_dated)
        except FaradayError as error:
            await error.response()(scope, receive, send_dated)
        except Exception:
            # The application has sent a 500, unless it was in the middle of another response.
            log.exception("Unhandled exception in %s %s", scope["method"], scope["path"])

    async def _faulty_response(self, fault: Fault, scope: Scope, receive: Receive) -> Response:
        """Return the response that is broken as the fault says, except for a dropped connection."""
        if fault.processed or not fault.replaces_response:
            response = await self._collect(scope, receive)
        if fault.replaces_response:
            response = fault.response()
            response.headers["date"] = http_date(self._control.now())
        if fault.broken in ("truncated", "wrong_length"):
            response.body = response.body[: len(response.body) // 2]
        if fault.broken == "wrong_length":
            response.headers["content-length"] = str(len(response.body))
        for name, value in fault.headers.items():
            response.headers[name] = value
        return response

    async def _collect(self, scope: Scope, receive: Receive) -> Response:
        """Return the whole response."""
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await self._respond(scope, receive, collect)
        start, *rest = messages
        response = Response(b"".join(message.get("body", b"") for message in rest), start["status"])
        response.raw_headers = list(start["headers"])
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
