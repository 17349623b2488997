"""A small, fast local server that responds like Faraday and dbt Cloud, and counts requests."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import UTC, datetime, timedelta
from functools import cache
from multiprocessing import get_context
from typing import Any

EPOCH = datetime(2026, 1, 1, 6, tzinfo=UTC)
GRAPH_TARGETS = 20
GRAPH_COHORTS = 248

_CHANGING_TIME = "2026-01-01T05:59:59Z"
_FORK = get_context("fork")
_REQUESTS = _FORK.Value("Q", 0)


def requests() -> int:
    """Return the number of requests so far, in any process that was forked after the import."""
    return int(_REQUESTS.value)


def start() -> int:
    """Start the server in another process, which ends with this one, and return its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    _FORK.Process(target=_run, args=(listener,), daemon=True).start()
    return int(listener.getsockname()[1])


def list_id(size: int, number: int = 0, *, changing: bool) -> str:
    """Return the id of a Faraday connection with ``size`` datasets, one id for each number.

    :param changing: whether every response differs from the previous one.
    """
    return f"{size:08d}-0000-4000-{'8' if changing else '9'}000-{number:012d}"


def target_id(number: int) -> str:
    """Return the id of one of the targets of the graph."""
    return f"70000000-0000-4000-8000-{number:012d}"


def upstream_ids() -> list[str]:
    """Return the ids of the resources that the targets are built from."""
    return [DATASET, *SCOPES, *COHORTS]


DATASET = "d0000000-0000-4000-8000-000000000001"
SCOPES = [f"50000000-0000-4000-8000-{number:012d}" for number in range(GRAPH_TARGETS)]
COHORTS = [f"b0000000-0000-4000-8000-{number:012d}" for number in range(GRAPH_COHORTS)]


def _dataset(number: int, *, ready: bool) -> dict[str, Any]:
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


@cache
def _list_body(size: int) -> tuple[bytes, bytes]:
    """Return the bytes of a list before and after the digits that change with every response.

    The last tenth (at least one dataset) is building.
    """
    building = max(1, size // 10)
    datasets = [_dataset(number, ready=number < size - building) for number in range(size)]
    before, after = json.dumps(datasets, separators=(",", ":")).encode().split(b'"row_count":1000000', 1)
    return before + b'"row_count":', after


@cache
def _targets_body() -> bytes:
    built = {"status": "ready", "last_updated_output_at": "2026-01-01T06:00:00Z"}
    return json.dumps(
        [{"id": target_id(number), "name": f"target {number}", **built} for number in range(GRAPH_TARGETS)]
    ).encode()


@cache
def _graph_body() -> bytes:
    """Return a graph of 5,000 edges: 20 targets, each built from 248 cohorts by way of a scope.

    One cohort is building, so that every target waits. The build of another one is at the changing time.
    """

    def end(side: str, type_: str, id_: str) -> dict[str, Any]:
        built = {COHORTS[0]: "2025-12-31T06:00:00Z", COHORTS[1]: _CHANGING_TIME}
        return {
            f"{side}_id": id_,
            f"{side}_type": type_,
            f"{side}_literate": f"{type_} {id_[-4:]}",
            f"{side}_status": "running" if id_ == COHORTS[0] else "ready",
            f"{side}_status_error": None,
            f"{side}_status_changed_at": "2026-01-01T06:00:00Z",
            f"{side}_archived_at": None,
            f"{side}_last_read_input_at": "2026-01-01T05:00:00Z",
            f"{side}_last_updated_config_at": "2025-06-01T12:00:00Z",
            f"{side}_last_updated_output_at": built.get(id_, "2026-01-01T06:00:00Z"),
        }

    edges = []
    for number, scope in enumerate(SCOPES):
        inputs = [("cohorts", cohort) for cohort in COHORTS] + [("datasets", DATASET)]
        edges += [end("upstream", *each) | end("downstream", "scopes", scope) for each in inputs]
        edges.append(end("upstream", "scopes", scope) | end("downstream", "targets", target_id(number)))
    return json.dumps(edges, separators=(",", ":")).encode()


@cache
def _dbt_body(run: str) -> bytes:
    data = {
        "id": int(run),
        "account_id": 1,
        "project_id": 1,
        "job_definition_id": 1,
        "status": 3,
        "status_humanized": "Running",
        "created_at": "2026-01-01 06:00:00.000000+00:00",
        "is_complete": False,
        "href": f"https://cloud.getdbt.com/deploy/1/projects/1/runs/{run}/",
    }
    status = {"code": 200, "is_success": True, "user_message": "Success!", "developer_message": ""}
    return json.dumps({"status": status, "data": data}).encode()


def _body(path: str, number: int) -> list[bytes]:
    """Return the parts of the response to a request, which has this number."""
    match path.strip("/").split("/"):
        case ["v1", "connections", id_, "datasets"]:
            before, after = _list_body(int(id_[:8]))
            changing = id_[19] == "8"
            return [before, b"%07d" % (1_000_000 + number % 1_000_000 * changing), after]
        case ["v1", "graph"]:
            time = f"2026-01-01T05:{number // 60 % 60:02}:{number % 60:02}Z"
            return [_graph_body().replace(_CHANGING_TIME.encode(), time.encode())]
        case ["v1", "targets"]:
            return [_targets_body()]
        case [*_, "runs", run]:
            return [_dbt_body(run)]
    raise ValueError(f"Unexpected request: {path}")


class _Http(asyncio.Protocol):
    """Just enough HTTP/1.1 for GET requests on persistent TCP connections."""

    buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            request, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
            _REQUESTS.value += 1
            path = request.split(b" ", 2)[1].split(b"?", 1)[0].decode()
            parts = _body(path, _REQUESTS.value)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            self.transport.writelines([head % sum(map(len, parts)), *parts])


def _run(listener: socket.socket) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Http, sock=listener, backlog=4096)
        await server.serve_forever()

    asyncio.run(serve())
