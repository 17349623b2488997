"""The command ``python -m airflow_provider_faraday.sandbox``."""

# ruff: noqa: T201 -- talking to a person at a terminal is what this module is for

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox.server import Sandbox

DEFAULT_PORT = 8123


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sandbox until it is interrupted.

    :param arguments: the command line without the program's name; by default the process's own
    :return: exit status: 0 after an interrupt or SIGTERM, 2 when it could not be run as asked
    """
    options = _parser().parse_args(arguments)
    try:
        from airflow_provider_faraday.sandbox import Sandbox, SandboxError
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    # Before anything is printed: whoever reads the first line may send the signal at once.
    told_to_stop = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        told_to_stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    given = {name: value for name, value in vars(options).items() if value is not None}
    try:
        sandbox = Sandbox(**given)
        sandbox.start()
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 2
    print(_greeting(sandbox), flush=True)
    _warn_of_open_door(sandbox)
    # Waiting in short turns notices a server that died by itself.
    while not told_to_stop.wait(1.0):
        if not sandbox.running:
            print("The sandbox's server has stopped by itself.", file=sys.stderr)
            return 1
    sandbox.stop()
    print("Stopped.", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_faraday.sandbox",
        description="A local Faraday API whose datasets move through their statuses, to try DAGs against.",
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument(
        "--port",
        type=int,
        default=DEFAULT_PORT,
        help=f"port to listen on, 0 for a free one (default: {DEFAULT_PORT})",
    )
    parser.add_argument(
        "--api-key", metavar="KEY", help="the key that requests must carry (default: a fixed one)"
    )
    parser.add_argument("--speed", type=float, help="how many times faster builds go (default: 1)")
    parser.add_argument(
        "--account", metavar="FILE", help="JSON file that describes the account (default: a small retailer)"
    )
    parser.add_argument(
        "--clock-offset",
        type=float,
        metavar="SECONDS",
        help="how far Faraday's clock is ahead of this machine's (default: 0)",
    )
    parser.add_argument("--page-size", type=int, metavar="N", help="list endpoints answer in pages of N")
    return parser


def _greeting(sandbox: Sandbox) -> str:
    lines = [
        f"The Faraday sandbox listens on {sandbox.origin} (Ctrl-C stops it). Point Airflow at it with:",
        "",
        f"export AIRFLOW_CONN_FARADAY_DEFAULT={shlex.quote(json.dumps(_airflow_connection(sandbox)))}",
        "",
        "Faraday connections and scopes to list:",
    ]
    lines += [f"  connection {each['id']}  {each['name']}" for each in sandbox.account.connections()]
    lines += [f"  scope      {each['id']}  {each['name']}" for each in sandbox.account.scopes()]
    lines += [
        "",
        f"Watch and change it (no key needed, GET {sandbox.origin}/ tells more):",
        f"  {sandbox.origin}/sandbox/datasets",
        f"  {sandbox.origin}/sandbox/history",
        f"  {sandbox.origin}/sandbox/requests",
        f"  {sandbox.origin}/sandbox/faults",
    ]
    return "\n".join(lines)


def _airflow_connection(sandbox: Sandbox) -> dict[str, object]:
    from airflow_provider_faraday.sandbox.server import is_loopback

    connection: dict[str, object] = {
        "conn_type": "faraday",
        "host": sandbox.url,
        "password": sandbox.api_key,
    }
    if not (is_loopback(sandbox.host) or "127.0.0.1" in sandbox.url or "[::1]" in sandbox.url):
        # The hook refuses plain HTTP to other machines unless it is told that this is meant.
        connection["extra"] = {"allow_http": True}
    return connection


def _warn_of_open_door(sandbox: Sandbox) -> None:
    from airflow_provider_faraday.sandbox.server import is_loopback

    if not is_loopback(sandbox.host):
        print(
            f"Warning: other machines can reach {sandbox.host}, and the control surface wants no key.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
