"""A server of scripted responses over real sockets, for what no well-behaved server sends."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Received:
    """A request as received.

    :param early: what arrived of the body together with the headers.
    """

    method: str
    target: str
    headers: dict[str, str]
    at: float
    early: bytes = b""


Step = Callable[[socket.socket, Received], None]
Script = Callable[[Received], Step] | Iterable[Step]


class RawServer:
    """Plays one step for each request, and repeats the last one.

    :param script: steps, or a function that returns the step for a request.
    :param tls: speak TLS with this context.
    :param port: listen on this port; by default on any free one.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._choose = script if callable(script) else _in_turn(script)
        self.received: list[Received] = []
        self.connections = 0
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/v1"
        self._open: list[socket.socket] = []

    def __enter__(self) -> RawServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    @property
    def targets(self) -> list[str]:
        """The requested paths and queries, in order."""
        return [request.target for request in self.received]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            for request in _requests(connection):
                self.received.append(request)
                self._choose(request)(connection, request)


def _in_turn(steps: Iterable[Step]) -> Callable[[Received], Step]:
    queue = list(steps)
    return lambda request: queue.pop(0) if len(queue) > 1 else queue[0]


def _requests(connection: socket.socket) -> Iterator[Received]:
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return
            data += more
        head, data = data.split(b"\r\n\r\n", 1)
        line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, value in (item.split(":", 1) for item in lines)}
        length = int(headers.get("content-length", "0"))
        early, data = data[:length], data[length:]
        yield Received(method, target, headers, time.monotonic(), early)


def answer(
    status: int = 200, body: Any = b"", *, headers: dict[str, str] | None = None, length: int | None = None
) -> Step:
    """Respond with a status and a body: bytes as they are, anything else as JSON.

    The client's ``Authorization`` comes back as the reason phrase and in a header, as from a careless server.

    :param length: a ``Content-Length`` other than the body's.
    """
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {
        "Content-Type": "application/json",
        "Content-Length": str(len(content) if length is None else length),
        "Connection": "keep-alive" if length is None else "close",
    }

    def step(connection: socket.socket, request: Received) -> None:
        echo = request.headers.get("authorization", "none")
        lines = [
            f"HTTP/1.1 {status} {echo}",
            *(f"{name}: {value}" for name, value in (fields | {"X-Echo": echo} | (headers or {})).items()),
        ]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        raw(head + content, close=length is not None)(connection, request)

    return step


def after_body(step: Step, *, up_to: int | None = None, into: list[bytes] | None = None) -> Step:
    """Receive the body of the request, then play a step.

    :param up_to: receive only this many bytes.
    :param into: receives the body.
    """

    def first_receive(connection: socket.socket, request: Received) -> None:
        length = int(request.headers["content-length"]) if up_to is None else up_to
        body = request.early
        while len(body) < length:
            more = connection.recv(length - len(body))
            if not more:
                return
            body += more
        if into is not None:
            into.append(body)
        step(connection, request)

    return first_receive


def raw(data: bytes, *, close: bool = True) -> Step:
    """Send these bytes, then close the connection unless told otherwise."""

    def step(connection: socket.socket, request: Received) -> None:
        connection.sendall(data)
        if close:
            connection.close()

    return step


def reset(connection: socket.socket, request: Received) -> None:
    """Reset the connection without a response."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def stall(seconds: float, before: bytes = b"") -> Step:
    """Send some bytes, then nothing for a while."""

    def step(connection: socket.socket, request: Received) -> None:
        connection.sendall(before)
        _pause(seconds)
        connection.close()

    return step


def drip(before: bytes, again: bytes, interval: float = 0.02) -> Step:
    """Send some bytes, then others again and again, until the client hangs up."""

    def step(connection: socket.socket, request: Received) -> None:
        connection.sendall(before)
        while True:
            connection.sendall(again)
            _pause(interval)

    return step


def _pause(seconds: float) -> None:
    # Tests may replace time.sleep.
    threading.Event().wait(seconds)
