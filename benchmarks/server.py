"""A small, fast local server that responds like Faraday and the peers' services, and counts requests."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

EPOCH = datetime(2026, 1, 1, 6, tzinfo=UTC)

QUIET_SECONDS = 0.5
"""After so long without requests, the next one begins a new round of polls."""


def list_id(size: int, number: int = 0, *, changing: bool = True) -> str:
    """Return the id of a Faraday connection with ``size`` datasets, one id for each number.

    :param changing: whether every response differs from the previous one.
    """
    return f"{size:08d}-0000-4000-{'8' if changing else '9'}000-{number:012d}"


def dataset(number: int, *, ready: bool) -> dict[str, Any]:
    """Return a dataset of about 3.4 KB of JSON, with 17 columns, mappings to traits and a sample."""
    built = (EPOCH + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
    columns = [f"customer_attribute_{n:02d}" for n in range(17)]
    return {
        "archived_at": None,
        "connection_id": "c0000000-0000-4000-8000-000000000001",
        "created_at": "2025-01-01T12:00:00Z",
        "detected_columns": [{"data_type": "text", "is_nullable": True, "name": name} for name in columns],
        "enrichment": {},
        "id": f"d0000000-0000-4000-8000-{number:012d}",
        "identified_count": 250_000 + number,
        "identity_providers": [[{"provider": "fig"}]],
        "identity_sets": {"customer": {"email": "email_address", "phone": "phone", "postcode": "zip"}},
        "incremental_column": "updated_at",
        "last_read_input_at": built,
        "last_updated_config_at": "2025-06-01T12:00:00Z",
        "last_updated_output_at": built if ready else None,
        "managed": False,
        "matched_count": 240_000 + number,
        "name": f"customers_{number:05d}",
        "options": {"table_name": f"public.customers_{number:05d}", "type": "snowflake"},
        "output_to_traits": {name: {"column_name": name} for name in columns[:8]},
        "preview": False,
        "privacy": "suppress",
        "reference_key_columns": ["customer_id"],
        "resource_type": "datasets",
        "row_count": 1_000_000 + number,
        "sample": {name: f"a value of {name}" for name in columns[:10]},
        "status": "ready" if ready else "running",
        "status_changed_at": built,
        "status_error": None,
        "updated_at": built,
        "updates": [{"datetime": built, "rows_added": 123 + number} for number in range(5)],
        "upsert_columns": ["customer_id"],
    }


def datasets(size: int, *, ready: bool) -> list[dict[str, Any]]:
    """Return a list of datasets; unless ``ready``, the last tenth (at least one) is still building."""
    building = 0 if ready else max(1, size // 10)
    return [dataset(number, ready=number < size - building) for number in range(size)]


@cache
def _list_body(size: int, ready: bool) -> tuple[bytes, bytes]:
    """Return the bytes of a list before and after the digits that change with every response."""
    body = json.dumps(datasets(size, ready=ready), separators=(",", ":")).encode()
    before, after = body.split(b'"row_count":1000000', 1)
    return before + b'"row_count":', after


def target_id(number: int) -> str:
    """Return the id of a target of the graph, one id for each number."""
    return f"70000000-0000-4000-8000-{number:012d}"


@cache
def _targets() -> list[dict[str, Any]]:
    built = {"status": "ready", "last_updated_output_at": "2026-01-01T06:00:00Z"}
    return [{"id": target_id(number), "name": f"target {number}", **built} for number in range(20)]


@cache
def _graph_body() -> bytes:
    """Return a graph of 5,000 edges: 20 targets, each built from 248 cohorts by way of a scope.

    One cohort is building, so that every target waits.
    """

    def end(side: str, type_: str, id_: str, status: str = "ready") -> dict[str, Any]:
        built = "2026-01-01" if status == "ready" else "2025-12-31"
        return {
            f"{side}_id": id_,
            f"{side}_type": type_,
            f"{side}_literate": f"{type_} {id_[-4:]}",
            f"{side}_status": status,
            f"{side}_status_error": None,
            f"{side}_status_changed_at": "2026-01-01T06:00:00Z",
            f"{side}_archived_at": None,
            f"{side}_last_read_input_at": "2026-01-01T05:00:00Z",
            f"{side}_last_updated_config_at": "2025-06-01T12:00:00Z",
            f"{side}_last_updated_output_at": f"{built}T06:00:00Z",
        }

    dataset = "d0000000-0000-4000-8000-000000000001"
    scopes = [f"50000000-0000-4000-8000-{number:012d}" for number in range(20)]
    cohorts = [f"b0000000-0000-4000-8000-{number:012d}" for number in range(248)]
    edges = [
        end("upstream", "cohorts", cohort, "ready" if number else "running")
        | end("downstream", "scopes", scope)
        for scope in scopes
        for number, cohort in enumerate(cohorts)
    ]
    for number, scope in enumerate(scopes):
        edges.append(end("upstream", "scopes", scope) | end("downstream", "targets", target_id(number)))
        edges.append(end("upstream", "datasets", dataset) | end("downstream", "scopes", scope))
    return json.dumps(edges, separators=(",", ":")).encode()


def _dbt(path: str, ready: bool) -> Any:
    run = int(path.rstrip("/").rsplit("/", 1)[1])
    return {
        "status": {"code": 200, "is_success": True, "user_message": "Success!", "developer_message": ""},
        "data": {
            "id": run,
            "account_id": 1,
            "project_id": 1,
            "job_definition_id": 1,
            "status": 10 if ready else 3,
            "status_humanized": "Success" if ready else "Running",
            "created_at": "2026-01-01 06:00:00.000000+00:00",
            "is_complete": ready,
            "href": f"https://cloud.getdbt.com/deploy/1/projects/1/runs/{run}/",
        },
    }


def _airbyte(path: str, ready: bool) -> Any:
    return {
        "jobId": int(path.rsplit("/", 1)[1]),
        "status": "succeeded" if ready else "running",
        "jobType": "sync",
        "startTime": "2026-01-01T06:00:00Z",
        "connectionId": "c0000000-0000-4000-8000-000000000001",
        "bytesSynced": 0,
        "rowsSynced": 0,
    }


def _fivetran(path: str, ready: bool) -> Any:
    return {
        "code": "Success",
        "data": {
            "id": path.rsplit("/", 1)[1],
            "service": "postgres",
            "schema": "customers",
            "paused": False,
            "schedule_type": "auto",
            "succeeded_at": "2026-01-02T06:00:00.000000Z" if ready else "2026-01-01T06:00:00.000000Z",
            "failed_at": "2025-12-01T06:00:00.000000Z",
            "status": {"setup_state": "connected", "sync_state": "scheduled" if ready else "syncing"},
        },
    }


RESPONSES = {"/api/v2/accounts/": _dbt, "/airbyte/jobs/": _airbyte, "/v1/connectors/": _fivetran}


class State:
    """The counters, and the paths that are ready."""

    def __init__(self) -> None:
        self.requests = 0
        self.connections = 0
        self.bytes_sent = 0
        self.requested_at = 0.0
        self.round_began_at = 0.0
        self.ready: set[str] = set()

    def respond(self, path: str) -> tuple[bytes, list[bytes]]:
        """Return the status and the parts of the body."""
        self.requests += 1
        now = time.time()
        if now - self.requested_at > QUIET_SECONDS:
            self.round_began_at = now
        self.requested_at = now
        ready = path in self.ready
        if path.startswith("/v1/connections/"):
            before, after = _list_body(int(path[16:24]), ready)
            change = self.requests % 8_000_000 if path[35] == "8" else 0
            return b"200 OK", [before, b"%07d" % (1_000_000 + change), after]
        if path == "/v1/graph":
            return b"200 OK", [_graph_body()]
        if path == "/v1/targets":
            return b"200 OK", [json.dumps(_targets()).encode()]
        if path.startswith("/http/"):
            return (b"200 OK", [b'{"ready": true}']) if ready else (b"404 Not Found", [b'{"ready": false}'])
        for prefix, make in RESPONSES.items():
            if path.startswith(prefix):
                return b"200 OK", [json.dumps(make(path, ready)).encode()]
        return b"404 Not Found", [b'{"error": "no such path"}']


class Http(asyncio.Protocol):
    """Just enough HTTP/1.1 for GET requests on persistent TCP connections."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.state.connections += 1
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
            path = head.split(b" ", 2)[1].split(b"?", 1)[0].decode()
            status, parts = self.state.respond(path)
            size = sum(map(len, parts))
            self.state.bytes_sent += size
            self.transport.writelines(
                [
                    b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    % (status, size),
                    *parts,
                ]
            )


class Control(asyncio.Protocol):
    """The control channel, which is not counted: a JSON line in, a JSON line out."""

    def __init__(self, state: State) -> None:
        self.state = state

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        for line in data.splitlines():
            self.state.ready |= set(json.loads(line).get("ready", ()))
            counts = {
                "at": time.time(),
                "requests": self.state.requests,
                "connections": self.state.connections,
                "bytes_sent": self.state.bytes_sent,
                "round_began_at": self.state.round_began_at,
            }
            self.transport.write(json.dumps(counts).encode() + b"\n")


async def serve(certificate: Path | None) -> None:
    """Listen on three free ports (HTTP, TLS and control) and print them."""
    state = State()
    loop = asyncio.get_running_loop()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    servers = [
        await loop.create_server(lambda: Http(state), "127.0.0.1", 0, backlog=4096),
        await loop.create_server(lambda: Http(state), "127.0.0.1", 0, backlog=4096, ssl=context),
        await loop.create_server(lambda: Control(state), "127.0.0.1", 0),
    ]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until the parent process exits


class Server:
    """Runs the server in a new process.

    :param certificate: a PEM file with the certificate of the TLS port and its key.
    """

    def __init__(self, certificate: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(certificate)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.http_port, self.tls_port, self.control_port = json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


class Counter:
    """A client of the control channel."""

    def __init__(self, control_port: int) -> None:
        self._file = socket.create_connection(("127.0.0.1", control_port)).makefile("rw")

    def ask(self, ready: list[str] | None = None) -> dict[str, Any]:
        """Make these paths ready, and return the counters."""
        self._file.write(json.dumps({"ready": ready or []}) + "\n")
        self._file.flush()
        counts: dict[str, Any] = json.loads(self._file.readline())
        return counts


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
