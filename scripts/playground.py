"""``make playground``: a real Airflow with the example DAGs and a local Faraday, to click around in."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import requests

import airflow_server
import fresh_airflow
from airflow_provider_faraday.sandbox import Sandbox, SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = Path(__file__).parents[1] / "example_dags"
AIRFLOW_PORT = 8080
FARADAY_PORT = 8123
START_SECONDS = 300.0
# Builds take some ten seconds: long enough to see a task wait.
SPEED = 0.2


class PlaygroundFailed(Exception):
    """There is nothing to click around in; the text is a sentence that says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the playground until it is interrupted.

    :return: 0 after Ctrl-C or SIGTERM, 1 where it could not be run or has ended by itself
    """
    parser = argparse.ArgumentParser(description="Run a real Airflow with the example DAGs.")
    parser.add_argument(
        "--port", type=int, help=f"the port of Airflow's UI (default: {AIRFLOW_PORT}, or a free one)"
    )
    port = parser.parse_args(arguments).port

    with fresh_airflow.throw_away_home("faraday-playground-") as home:
        log = home / "airflow.log"
        try:
            with Sandbox(port=airflow_server.free_port(FARADAY_PORT), speed=SPEED) as faraday:
                _run(home, log, faraday, port)
        except KeyboardInterrupt:
            print("Stopped; Airflow is ended and its files are removed.", flush=True)
        except (PlaygroundFailed, SandboxError) as error:
            print(f"\nThe playground failed: {error}", file=sys.stderr)
            fresh_airflow.keep_log(log, "faraday-playground-log-")
            return 1
    return 0


def _run(home: Path, log: Path, faraday: Sandbox, port: int | None) -> None:
    if port and airflow_server.free_port(port) != port:
        raise PlaygroundFailed(f"port {port} is taken; choose another one, or none to be given a free one.")
    env = airflow_server.environment(home, EXAMPLES, port or airflow_server.free_port(AIRFLOW_PORT))
    api = airflow_server.Api(env)
    if not port and not api.url.endswith(f":{AIRFLOW_PORT}"):
        print(f"Port {AIRFLOW_PORT} is taken; Airflow gets another one.")
    print(f"1. A local Faraday API listens on {faraday.origin}.")
    print(f"2. A fresh Airflow {version('apache-airflow')} sets up its metadata database ...", flush=True)
    try:
        fresh_airflow.migrate(env)
        connections = {
            "faraday_default": {"conn_type": "faraday", "host": faraday.url, "password": faraday.api_key},
            "warehouse_default": {"conn_type": "sqlite", "host": str(home / "warehouse.db")},
        }
        fresh_airflow.store_connections(env, connections)
    except subprocess.CalledProcessError as error:
        log.write_text(error.stdout)
        raise PlaygroundFailed("Airflow could not set up its metadata database.") from error
    print("3. Airflow starts; it takes up to a minute ...", flush=True)
    with log.open("wb") as output:
        airflow = fresh_airflow.start(env, "standalone", output=output)
    try:
        _wait_until_usable(airflow, api)
        print(_greeting(api, faraday), flush=True)
        airflow.wait()
    except KeyboardInterrupt:
        print("\nStopping ...", flush=True)
        raise
    finally:
        fresh_airflow.end(airflow)
    raise PlaygroundFailed("Airflow has ended by itself.")


def _wait_until_usable(airflow: subprocess.Popen[bytes], api: airflow_server.Api) -> None:
    """Wait until the UI is served, everything behind it works, and the examples are there."""
    deadline = time.monotonic() + START_SECONDS
    while not (api.healthy() and _examples_are_there(api)):
        if airflow.poll() is not None:
            raise PlaygroundFailed("Airflow has ended by itself.")
        if time.monotonic() > deadline:
            raise PlaygroundFailed(f"Airflow did not answer on {api.url} within {START_SECONDS:.0f} s.")
        time.sleep(0.5)


def _examples_are_there(api: airflow_server.Api) -> bool:
    try:
        dags = {dag["dag_id"] for dag in api.get("/api/v2/dags").json()["dags"]}
        return dags >= {path.stem for path in EXAMPLES.glob("*.py")} and api.get("/").ok
    except requests.RequestException:
        return False


def _greeting(api: airflow_server.Api, faraday: Sandbox) -> str:
    return f"""
Airflow answers on {api.url} (this machine only, no login). Ctrl-C ends it and removes everything.

Open an example, and press Trigger:
  {api.url}/dags/faraday_connection_to_warehouse
  {api.url}/dags/faraday_refresh_and_wait   its gate waits some ten seconds
  {api.url}/dags/faraday_mapped_datasets    starts faraday_on_update as well, which waits for builds
The Airflow connection, with its Test button:
  {api.url}/connections
The local Faraday: what can be changed in it, and every request it was sent:
  {faraday.origin}/
  {faraday.origin}/sandbox/requests"""


if __name__ == "__main__":
    sys.exit(main())
