"""Signed webhooks, and processes that receive them."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import time
from base64 import b64encode
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import TYPE_CHECKING, Any

import requests
from standardwebhooks import Webhook

import local_airflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONN_ID = "faraday_hooks"
# Not imported: Airflow 2 does not have what it imports.
_SERVER = Path(__file__).with_name("webhook_server.py")


def new_secret() -> str:
    return f"whsec_{b64encode(token_bytes(24)).decode()}"


def message(
    resource_id: str,
    event: str = "resource.ready_with_update",
    timestamp: object = "2026-01-31T06:00:00Z",
    **data: Any,
) -> bytes:
    """Return the body of a message."""
    data = {"account_id": token_hex(4), "resource_id": resource_id, "resource_type": "datasets", **data}
    return json.dumps({"timestamp": timestamp, "type": event, "data": data}).encode()


def signed(
    secret: str, body: bytes, *, message_id: str = "", age: float = 0.0, prefix: str = "webhook"
) -> dict[str, str]:
    """Return the headers of a message, signed by the specification's own library.

    :param age: how many seconds ago it was sent.
    :param prefix: of the names of the headers.
    """
    message_id = message_id or f"msg_{token_hex(8)}"
    at = datetime.fromtimestamp(int(time.time() - age), UTC)
    return {
        f"{prefix}-id": message_id,
        f"{prefix}-timestamp": str(int(at.timestamp())),
        f"{prefix}-signature": Webhook(secret).sign(message_id, at, body.decode()),
    }


@dataclass
class Receiver:
    """A process that receives webhooks as Airflow's API server does."""

    port: int
    log: Path

    def url(self, conn_id: str = CONN_ID) -> str:
        return f"http://127.0.0.1:{self.port}/faraday/webhooks/{conn_id}"

    def post(self, body: Any, headers: Mapping[str, str], conn_id: str = CONN_ID) -> requests.Response:
        return requests.post(self.url(conn_id), data=body, headers=dict(headers), timeout=300)

    def logged(self) -> str:
        return self.log.read_text()


@contextmanager
def receiving(home: Path, env: Mapping[str, str], constants: Mapping[str, float]) -> Iterator[Receiver]:
    """Start a receiver and wait until it accepts TCP connections.

    :param home: its ``AIRFLOW_HOME``, with a migrated metadata database.
    :param env: environment variables of Airflow, in addition to those of the home.
    :param constants: replacements for constants of the package.
    """
    port = local_airflow.free_port()
    receiver = Receiver(port, home / f"receiver-{port}.log")
    env = local_airflow.environment(home, home / "dags") | dict(env)
    with receiver.log.open("wb") as output:
        process = local_airflow.start(env, str(port), json.dumps(constants), output=output, script=_SERVER)
    try:
        deadline = time.monotonic() + 250
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert process.poll() is None, receiver.logged()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield receiver
    finally:
        # A thread may be in a lookup that does not end.
        local_airflow.end(process, signal.SIGKILL)


class Database:
    """The metadata database of an Airflow: its assets and their events."""

    def __init__(self, home: Path) -> None:
        self._path = home / "airflow.db"

    def execute(self, sql: str, *parameters: Any) -> list[Any]:
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            return database.execute(sql, parameters).fetchall()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process read or write it."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            yield
            database.execute("ROLLBACK")

    def add_asset(self, uri: str, *, active: bool = True) -> int:
        now = "2026-01-01 00:00:00+00:00"
        self.execute(
            'INSERT INTO asset (name, uri, "group", extra, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)',
            *(uri, uri, "faraday", "{}", now, now),
        )
        if active:
            self.execute("INSERT INTO asset_active (name, uri) VALUES (?, ?)", uri, uri)
        [(asset_id,)] = self.execute("SELECT id FROM asset WHERE uri = ?", uri)
        return int(asset_id)

    def store_connection(self, conn_id: str, *, host: str, password: str, extra: Mapping[str, Any]) -> None:
        """Store an Airflow connection, unencrypted, in place of an earlier one."""
        self.execute("DELETE FROM connection WHERE conn_id = ?", conn_id)
        self.execute(
            "INSERT INTO connection (conn_id, conn_type, host, password, extra, is_encrypted, "
            "is_extra_encrypted) VALUES (?, 'faraday', ?, ?, ?, 0, 0)",
            *(conn_id, host, password, json.dumps(extra)),
        )

    def events(self, asset_id: int) -> list[dict[str, Any]]:
        """Return the ``extra`` of an asset's events, oldest first."""
        rows = self.execute("SELECT extra FROM asset_event WHERE asset_id = ? ORDER BY id", asset_id)
        return [json.loads(extra) for (extra,) in rows]


def read_response(connection: socket.socket) -> bytes:
    """Return what a server sends until it closes the TCP connection."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received
