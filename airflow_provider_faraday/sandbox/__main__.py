"""The command ``python -m airflow_provider_faraday.sandbox``."""

# ruff: noqa: T201 -- a command prints

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox.server import Sandbox


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sandbox until SIGINT or SIGTERM.

    :param arguments: command-line arguments; defaults to those of the process
    :return: exit status: 0 after a signal, 2 if it could not start
    """
    options = {name: value for name, value in vars(_parse(arguments)).items() if value is not None}
    # Before the first line is printed: its reader may send a signal right away.
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        from airflow_provider_faraday.sandbox import Sandbox, SandboxError
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        sandbox = Sandbox(**options).start()
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 2
    print(_greeting(sandbox), flush=True)
    if not sandbox.is_local:
        print(
            f"Warning: other machines can reach {sandbox.host}, and the control API requires no key.",
            file=sys.stderr,
        )
    stopping.wait()
    sandbox.stop()
    print("Stopped.", flush=True)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_faraday.sandbox",
        description="Run a local Faraday API with sample data, for trying out and testing DAGs.",
    )
    add = parser.add_argument
    add("--host", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8123, help="port to listen on, 0 to pick a free one (default: 8123)")
    add("--api-key", metavar="KEY", help="API key that requests must carry (default: a fixed one)")
    add("--speed", type=float, help="how many times faster resources build (default: 1)")
    add("--account", metavar="FILE", help="JSON file with the account to serve (default: a small retailer)")
    add(
        "--clock-offset", type=float, metavar="SECONDS", help="seconds ahead of the system clock (default: 0)"
    )
    add("--page-size", type=int, metavar="N", help="page length of list endpoints (default: no pagination)")
    return parser.parse_args(arguments)


def _greeting(sandbox: Sandbox) -> str:
    resources = [
        f"  {resource_type.removesuffix('s'):<10} {resource['id']}  {resource['name']}{_directory(resource)}"
        for resource_type in ("connections", "datasets", "scopes", "targets")
        for resource in sandbox.resources(resource_type)
    ]
    return "\n".join(
        [
            f"The Faraday sandbox is running at {sandbox.origin}. Press Ctrl-C to stop it.",
            "To use it from Airflow:",
            "",
            f"export AIRFLOW_CONN_FARADAY_DEFAULT={shlex.quote(json.dumps(sandbox.airflow_connection))}",
            "",
            "Faraday connections, datasets, scopes and targets:",
            *resources,
            "",
            f"To watch and change it in a browser: {sandbox.origin}/",
            f"To inspect and change it over HTTP (no key required, see {sandbox.origin}/sandbox):",
            *(
                f"  {sandbox.origin}/sandbox/{path}"
                for path in ("resources", "history", "requests", "faults")
            ),
        ]
    )


def _directory(resource: dict[str, Any]) -> str:
    directory = (resource.get("options") or {}).get("upload_directory")
    return f", reads the upload directory {directory}" if directory else ""


if __name__ == "__main__":
    sys.exit(main())
