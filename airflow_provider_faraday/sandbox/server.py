"""The sandbox as a server in a background thread: for tests, demos and the command line alike."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn

from airflow_provider_faraday.sandbox import account_file
from airflow_provider_faraday.sandbox.app import create_app
from airflow_provider_faraday.sandbox.control import Control, check_key_text
from airflow_provider_faraday.sandbox.errors import FaradayError

DEFAULT_API_KEY = "faraday-sandbox-key"
START_SECONDS = 10.0
STOP_SECONDS = 10.0


class SandboxError(Exception):
    """The sandbox cannot be run as asked; the text is a sentence that says why."""


class Sandbox(Control):
    """A local Faraday API on a real socket.

    ::

        with Sandbox(speed=100) as sandbox:
            sandbox.set_dataset(dataset_id, status="error", status_error="No such table")
            requests.get(f"{sandbox.url}/datasets", headers={"Authorization": f"Bearer {sandbox.api_key}"})

    It can be stopped and started again: it then listens on the same port, and its account has gone on.

    :param host: address to listen on
    :param port: port to listen on; 0 for a free one
    :param api_key: the key that requests must carry
    :param speed: how many times faster than described the builds go
    :param account: path of an account file, or what one holds, or None for the bundled account
    :param clock_offset: seconds that the sandbox's clock is ahead of the machine's
    :param page_size: page length of the list endpoints; by default what the account says
    :raises SandboxError: when one of these cannot be used
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = DEFAULT_API_KEY,
        speed: float = 1.0,
        account: str | Path | dict[str, Any] | None = None,
        clock_offset: float = 0.0,
        page_size: int | None = None,
    ) -> None:
        if not 0 < speed < float("inf"):
            raise SandboxError(f"The speed must be a number above 0, not {speed:g}.")
        if not 0 <= port <= 65535:
            raise SandboxError(f"The port must be between 0 and 65535, not {port}.")
        if page_size is not None and page_size < 1:
            raise SandboxError(f"The page size must be at least 1, not {page_size}.")
        try:
            check_key_text(api_key)
            content = account_file.load(account)
        except (FaradayError, account_file.AccountFileError) as error:
            raise SandboxError(str(error)) from error
        if page_size is not None:
            content = content.model_copy(update={"page_size": page_size})
        super().__init__(content, api_key=api_key, speed=speed, clock_offset=clock_offset)
        self.host = host
        self._port = port
        self._app = create_app(self)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on, known from the first start."""
        return self._port

    @property
    def origin(self) -> str:
        """Scheme, host and port, as a client on this machine writes them."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        return f"{self.origin}/v1"

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> Sandbox:
        """Listen and answer, until :meth:`stop`.

        :raises SandboxError: when the port or the address cannot be had
        """
        if self.running:
            return self
        listener = _listen(self.host, self._port)
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            # One fixed implementation: faults reach through it to the connection.
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            access_log=False,
            log_config=None,
            log_level="critical",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [listener]},
            name=f"faraday-sandbox-{self._port}",
            daemon=True,
        )
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise SandboxError(f"The sandbox did not start on {self.host}:{self._port}.")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Close every connection and the port; a request under way has a second to be answered."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS)
        self._server = self._thread = None

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    # Bound here and not by uvicorn: the port is then known, and a taken one is an exception, not an exit.
    try:
        family, _, _, _, address = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SandboxError(f"There is no such address as {host!r}: {error.strerror or error}.") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # A port that was just given up is free again at once; on Windows this would share a used one.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise SandboxError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}. "
            "Choose another port, or 0 for a free one."
        ) from error
    return listener
