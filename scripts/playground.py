"""``make playground``: Airflow with the example DAGs and a local Faraday API, to explore in the browser."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import requests

import local_airflow
import source_tables
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.webhooks import EVENTS, EndpointSpec
from local_airflow import Failed

if TYPE_CHECKING:
    import subprocess
    from typing import IO

EXAMPLES = Path(__file__).parents[1] / "example_dags"
AIRFLOW_PORT = 8080
FARADAY_PORT = 8123
START_SECONDS = 300.0
# Builds take about ten seconds, so that a waiting task can be seen.
SPEED = 0.2


def main() -> int:
    """Run the playground until it is interrupted.

    :return: the exit status: 0 after Ctrl-C or SIGTERM, 1 after a failure
    """
    status = local_airflow.run_command("playground", _run)
    return 0 if status == local_airflow.INTERRUPTED else status


def _run(home: Path, output: IO[bytes]) -> None:
    with Sandbox(port=local_airflow.free_port(FARADAY_PORT), speed=SPEED) as faraday:
        source_tables.fill(faraday, home / "warehouse.db")
        env = local_airflow.server_environment(home, EXAMPLES, local_airflow.free_port(AIRFLOW_PORT))
        env["AIRFLOW_VAR_FARADAY_FILES"] = f"file://{home}/files"
        env["AIRFLOW__FARADAY__WEBHOOK_CONN_IDS"] = "faraday_default"
        api = local_airflow.Api(env)
        url = f"{api.url}/faraday/webhooks/faraday_default"
        webhooks = EndpointSpec.model_validate({"url": url, "enabled_events": [*EVENTS.values()]})
        if not api.url.endswith(f":{AIRFLOW_PORT}"):
            print(f"Port {AIRFLOW_PORT} is in use, so Airflow uses a free port.")
        print(f"1. The local Faraday API is running at {faraday.origin}.")
        print(f"2. Airflow {version('apache-airflow')} creates its metadata database ...", flush=True)
        local_airflow.migrate(env)
        connections = {
            "faraday_default": {
                "conn_type": "faraday",
                "host": faraday.url,
                # The host has it, too, but without this field Airflow 3.3's Test button fails.
                "port": faraday.port,
                "password": faraday.api_key,
                "extra": json.dumps({"webhook_secret": faraday.webhooks.create(webhooks)["secret"]}),
            },
            "warehouse_default": {"conn_type": "sqlite", "host": str(home / "warehouse.db")},
        }
        local_airflow.store_connections(env, connections)
        print("3. Airflow starts, which takes up to a minute ...", flush=True)
        airflow = local_airflow.start(env, "standalone", output=output)
        _wait_until_usable(airflow, api)
        print(_greeting(api, faraday), flush=True)
        airflow.wait()
    raise Failed("Airflow exited unexpectedly.")


def _wait_until_usable(airflow: subprocess.Popen[bytes], api: local_airflow.Api) -> None:
    """Wait until Airflow is healthy, serves its UI and has parsed the examples."""
    deadline = time.monotonic() + START_SECONDS
    while not (api.is_healthy() and _examples_are_there(api)):
        if airflow.poll() is not None:
            raise Failed("Airflow exited unexpectedly.")
        if time.monotonic() > deadline:
            raise Failed(f"Airflow was not ready at {api.url} after {START_SECONDS:.0f} s.")
        time.sleep(0.5)


def _examples_are_there(api: local_airflow.Api) -> bool:
    try:
        dags = {dag["dag_id"] for dag in api.get("/api/v2/dags").json()["dags"]}
        return dags >= {path.stem for path in EXAMPLES.glob("*.py")} and api.get("/").ok
    except requests.RequestException:
        return False


def _greeting(api: local_airflow.Api, faraday: Sandbox) -> str:
    return f"""
Airflow is running at {api.url} (this machine only, no login). Press Ctrl-C to stop it and remove its files.

Open an example and click Trigger:
  {api.url}/dags/faraday_predictions_to_warehouse   from a file to predictions
  {api.url}/dags/faraday_connection_to_warehouse
  {api.url}/dags/faraday_refresh_and_wait   its sensor waits for about ten seconds
  {api.url}/dags/faraday_mapped_datasets    its builds also start faraday_on_update
Rebuild the target "Likely buyers CSV" in the local Faraday API. Its webhook starts this one:
  {api.url}/dags/faraday_on_predictions
Edit the Airflow connection and try its Test button:
  {api.url}/connections
Watch and change the pipeline in the local Faraday API, and see the requests to it:
  {faraday.origin}/"""


if __name__ == "__main__":
    sys.exit(main())
