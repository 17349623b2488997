"""The outermost layer: checks the key, plays the faults, keeps the log and dates every answer."""

from __future__ import annotations

import asyncio
import logging
from email.utils import format_datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_faraday.sandbox.account import rfc3339
from airflow_provider_faraday.sandbox.answers import Answer, error_answer
from airflow_provider_faraday.sandbox.control import Control
from airflow_provider_faraday.sandbox.errors import FaradayError
from airflow_provider_faraday.sandbox.faults import Fault, send_broken

log = logging.getLogger(__name__)


class Gate:
    """An ASGI application around another one.

    It is outermost so that a fault can do what no framework allows, and so that nothing, not even a crash
    of the application inside, is answered in another shape than Faraday's.
    """

    def __init__(self, app: ASGIApp, control: Control) -> None:
        self._app = app
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/" or scope["path"].startswith("/sandbox/"):
            await self._send(send, await self._ask(scope, receive))
            return
        entry = self._entry(scope)
        self._control.log_request(entry)
        fault = self._control.faults.take(scope["method"], scope["path"])
        if fault is None:
            answer = await self._guarded(scope, receive)
            entry["status"] = answer.status
            await self._send(send, answer)
            return
        await self._go_wrong(fault, entry, scope, receive, send)

    async def _go_wrong(
        self, fault: Fault, entry: dict[str, Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        entry["fault"] = True
        # uvicorn's `send` is a method of the object that holds the connection; ASGI itself has no way to it.
        transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
        try:
            await asyncio.sleep(fault.delay)
        except asyncio.CancelledError:
            # The sandbox is being stopped. Nothing is to be answered then, not even uvicorn's own 500; this
            # task has nothing more to do, so there is nobody to tell.
            transport.abort()
            await _disconnected(receive)
            return
        answer = None
        if fault.taken or not fault.replaces_answer:
            answer = await self._guarded(scope, receive)
        if answer is None or fault.replaces_answer:
            answer = fault.answer()
        replaced = {name.lower() for name in fault.headers}
        kept = [(name, value) for name, value in answer.headers if name.lower() not in replaced]
        answer = Answer(answer.status, [*kept, *fault.headers.items()], answer.body)
        if fault.broken not in ("truncated", "wrong_length", "dropped"):
            entry["status"] = answer.status
            await self._send(send, answer)
            return
        if fault.broken != "dropped":
            entry["status"] = answer.status
        send_broken(transport, self._dated(answer), fault.broken)
        await _disconnected(receive)

    async def _guarded(self, scope: Scope, receive: Receive) -> Answer:
        """The answer to whoever has the key; without it, not even which paths exist is told."""
        if scope["path"].startswith("/v1"):
            try:
                self._control.check_key(_header(scope, b"authorization"))
            except FaradayError as error:
                return error_answer(error)
        return await self._ask(scope, receive)

    async def _ask(self, scope: Scope, receive: Receive) -> Answer:
        """What the application inside answers, read to its end; a crash is a 500."""
        status = 500
        headers: list[tuple[str, str]] = []
        body = b""
        answered = False

        async def collect(message: Message) -> None:
            nonlocal status, headers, body, answered
            if message["type"] == "http.response.start":
                answered = True
                status = message["status"]
                headers = [
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
                ]
            elif message["type"] == "http.response.body":
                body += message.get("body", b"")

        try:
            await self._app(scope, receive, collect)
        except Exception:
            log.exception("The sandbox failed to answer %s %s", scope["method"], scope["path"])
            answered = False
        if not answered:
            return error_answer(FaradayError(500, "The sandbox failed to answer; its own log says why."))
        return Answer(status, [(name, value) for name, value in headers if name != "content-length"], body)

    async def _send(self, send: Send, answer: Answer) -> None:
        headers = self._dated(answer).headers
        body = b"" if answer.status in (204, 304) else answer.body
        if answer.status not in (204, 304):
            headers = [*headers, ("content-length", str(len(body)))]
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    def _dated(self, answer: Answer) -> Answer:
        if any(name.lower() == "date" for name, _ in answer.headers):
            return answer
        date = format_datetime(self._control.clock.now(), usegmt=True)
        return Answer(answer.status, [("date", date), *answer.headers], answer.body)

    def _entry(self, scope: Scope) -> dict[str, Any]:
        """A line for the log: what was asked and by whom, and never what with: the header holds the key."""
        client = scope.get("client")
        return {
            "time": rfc3339(self._control.clock.now()),
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "status": None,
            "client": f"{client[0]}:{client[1]}" if client else None,
            "user_agent": _header(scope, b"user-agent"),
            "fault": False,
        }


async def _disconnected(receive: Receive) -> None:
    """Wait until uvicorn knows that the connection is closed; before that it would send a 500 after us."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _header(scope: Scope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value.decode("latin-1"))
    return None
