"""The outermost layer of the sandbox: API key, faults, request log and ``Date`` header."""

from __future__ import annotations

import asyncio
import logging
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_faraday.sandbox.control import Control, is_loopback
from airflow_provider_faraday.sandbox.errors import FaradayError
from airflow_provider_faraday.sandbox.faults import Fault, send_broken
from airflow_provider_faraday.sandbox.resources import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

log = logging.getLogger(__name__)


class Body:
    """The body of a request: the ASGI function ``receive``, which knows whether the client is gone."""

    def __init__(self, receive: Receive, now: Callable[[], datetime]) -> None:
        self._receive = receive
        self._now = now
        self.arrived_at = now()
        self.disconnected = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.arrived_at = self._now()
        self.disconnected = message["type"] == "http.disconnect"
        return message


class SandboxMiddleware:
    """ASGI middleware around the whole application.

    It is outermost because faults need the socket, and because even a crash must produce a Faraday error.
    """

    def __init__(self, app: ASGIApp, download_app: ASGIApp, control: Control) -> None:
        self._app = app
        self._download_app = download_app
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Body(receive, self._control.now)
        if self._is_cross_site(scope):
            refusal = FaradayError(403, "The sandbox rejects requests that web pages of other sites send.")
            await refusal.response()(scope, request, send)
            return
        if scope["path"] == "/" or f"{scope['path']}/".startswith("/sandbox/"):
            await self._respond(scope, request, send)
            return
        entry = self._log(scope)
        fault = self._control.take_fault(scope["method"], scope["path"])
        if fault is not None:
            await self._fail(fault, entry, scope, request, send)
            return

        async def log_status(message: Message) -> None:
            if message["type"] == "http.response.start" and not request.disconnected:
                entry["status"] = message["status"]
            await send(message)

        await self._respond(scope, request, log_status)

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
        name = urlsplit(f"//{host}").hostname or "localhost"
        is_own = name == self._control.host or is_loopback(name)
        return not is_own and is_loopback((scope["server"] or ("",))[0])

    async def _fail(
        self, fault: Fault, entry: dict[str, Any], scope: Scope, receive: Body, send: Send
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
            response = await self._collect(scope, receive)
        if fault.replaces_response:
            response = fault.response()
            response.headers["date"] = _http_date(self._control.now())
        for name, value in fault.headers.items():
            response.headers[name] = value
        if fault.broken != "dropped":
            entry["status"] = response.status_code
        if fault.broken in ("truncated", "wrong_length", "dropped"):
            send_broken(transport, response, fault)
            await _disconnect(receive)
        else:
            await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Body, send: Send) -> None:
        """Send the response of the application, or an error response."""
        receive.arrived_at = self._control.now()

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Not the current time: on a busy machine, a fast build could end before it.
                MutableHeaders(scope=message)["date"] = _http_date(receive.arrived_at)
            await send(message)

        is_download = scope["server"] is not None and scope["server"][1] == self._control.download_port
        try:
            # Before routing: without a key, Faraday does not reveal which paths exist.
            if scope["path"].startswith("/v1") and not is_download:
                self._control.check_key(Headers(scope=scope).get("authorization"))
            await (self._download_app if is_download else self._app)(scope, receive, send_dated)
        except FaradayError as error:
            await error.response()(scope, receive, send_dated)
        except Exception:
            # The application has sent a 500, unless it was in the middle of another response.
            if not receive.disconnected:
                log.exception("Unhandled exception in %s %s", scope["method"], scope["path"])

    async def _collect(self, scope: Scope, receive: Body) -> Response:
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


async def _disconnect(receive: Receive) -> None:
    # Before uvicorn has noticed that the connection is closed, it would respond with a 500.
    while (await receive())["type"] != "http.disconnect":
        pass


def _http_date(time: datetime) -> str:
    return format_datetime(time, usegmt=True)
