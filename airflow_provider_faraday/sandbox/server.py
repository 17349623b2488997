"""The sandbox as a server in a background thread."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn

from airflow_provider_faraday.sandbox.account_file import SandboxError, load, validate
from airflow_provider_faraday.sandbox.app import create_app
from airflow_provider_faraday.sandbox.control import Control, Settings, is_loopback

DEFAULT_API_KEY = "faraday-sandbox-key"
STOP_TIMEOUT = 10.0


class Sandbox(Control):
    """A local Faraday API on a real socket.

    ::

        with Sandbox(speed=100) as sandbox:
            sandbox.set_dataset(dataset_id, status="error", status_error="No such table")
            requests.get(f"{sandbox.url}/datasets", headers={"Authorization": f"Bearer {sandbox.api_key}"})

    After :meth:`stop`, :meth:`start` serves the same account on the same port. Builds continue in between.
    Uploaded files are removed with :meth:`reset`, and at the end of the ``with`` statement or the process.

    :param host: address to listen on
    :param port: port to listen on; 0 picks a free one
    :param api_key: key that requests must carry
    :param speed: how many times faster than configured resources build
    :param account: path of an account file, or its parsed content; defaults to the bundled account
    :param age: seconds since the first builds began, so that they can have ended before it starts
    :param clock_offset: seconds that the sandbox's clock is ahead of the system clock
    :param page_size: page length of list endpoints; overrides that of the account file
    :param download_redirect: redirect downloads of targets to another port, which needs no key
    :raises SandboxError: an option or the account file is invalid
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = DEFAULT_API_KEY,
        speed: float = 1.0,
        account: str | Path | dict[str, Any] | None = None,
        age: float = 0.0,
        clock_offset: float = 0.0,
        page_size: int | None = None,
        download_redirect: bool = False,
    ) -> None:
        if not 0 < speed < float("inf"):
            raise SandboxError(f"The speed must be greater than 0, not {speed:g}.")
        content = load(account)
        settings = validate(
            "Sandbox",
            Settings,
            {
                "page_size": page_size or content.page_size,
                "clock_offset": clock_offset,
                "download_redirect": download_redirect,
            },
        )
        super().__init__(content, api_key=api_key, speed=speed, age=age, settings=settings)
        self.host = host
        self.port = port
        self.download_port = 0
        self._app = create_app(self)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port for clients on this machine."""
        # Clients cannot connect to a wildcard address.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return f"{self.origin}/v1"

    @property
    def airflow_connection(self) -> dict[str, Any]:
        """The Airflow connection to it, in Airflow's JSON format."""
        connection: dict[str, Any] = {"conn_type": "faraday", "host": self.url, "password": self.api_key}
        if not self.origin.startswith(("http://127.", "http://[::1]", "http://localhost")):
            # The hook requires this for plain HTTP to another machine.
            connection["extra"] = {"allow_http": True}
        return connection

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> Sandbox:
        """Start serving.

        :raises SandboxError: the address is unavailable
        """
        if self.running:
            return self
        # Not left to uvicorn, which would exit the process when the port is in use.
        listener = _listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        downloads = _listen(self.host, self.download_port)
        self.download_port = downloads.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            # The implementation that faults know how to break.
            http="h11",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            log_config=None,
            log_level="critical",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [listener, downloads]},
            name=f"faraday-sandbox-{self.port}",
            daemon=True,
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise SandboxError(f"The sandbox did not start on {self.origin}.")
            time.sleep(0.005)
        self.webhooks.start()
        return self

    def stop(self) -> None:
        """Close all connections and the port. Requests in progress get a second to finish."""
        if self._server is None or self._thread is None:
            return
        self.webhooks.stop()
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT)
        self._server = self._thread = None

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self.files.clear()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise SandboxError(
            f"Cannot listen on {host}, port {port}: {error}.\nUse another port, or 0 to pick a free one."
        ) from error
