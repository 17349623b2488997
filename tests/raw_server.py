"""A server of scripted answers over real sockets, for tests of what no well-behaved server sends."""

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
    """A request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    at: float


# How a client begins that takes this server for one that speaks TLS.
_TLS_HELLO = b"\x16\x03"

Step = Callable[[socket.socket, Received], None]
Script = Callable[[Received], Step] | Iterable[Step]


class RawServer:
    """Plays one step for each request; the last step again for all that follow.

    :param script: steps, or a function that gives the step for a request.
    :param tls: speak TLS with this context.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self._choose = script if callable(script) else _in_turn(script)
        self.received: list[Received] = []
        self.connections = 0
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
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
        """The paths and queries asked for, in order."""
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
            if data.startswith(_TLS_HELLO):
                yield Received("TLS", "", {}, time.monotonic())
                return
        head, data = data.split(b"\r\n\r\n", 1)
        line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, value in (item.split(":", 1) for item in lines)}
        data = data[int(headers.get("content-length", "0")) :]
        yield Received(method, target, headers, time.monotonic())


def answer(
    status: int = 200, body: Any = b"", *, headers: dict[str, str] | None = None, length: int | None = None
) -> Step:
    """Answer with a status and a body: bytes as they are, anything else as JSON.

    The client's ``Authorization`` is the reason phrase and a header: what a careless server may echo.

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


def raw(data: bytes, *, close: bool = True) -> Step:
    """Send these very bytes; then close, if asked to."""

    def step(connection: socket.socket, request: Received) -> None:
        connection.sendall(data)
        if close:
            connection.close()

    return step


def reset(connection: socket.socket, request: Received) -> None:
    """Reset the connection without an answer."""
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
    """Send some bytes, then others again and again, for as long as somebody listens."""

    def step(connection: socket.socket, request: Received) -> None:
        connection.sendall(before)
        while True:
            connection.sendall(again)
            _pause(interval)

    return step


def _pause(seconds: float) -> None:
    # Tests replace time.sleep to see what the code under test waits for.
    threading.Event().wait(seconds)
