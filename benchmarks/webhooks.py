"""Measure the time from a build in Faraday to the DAG run that its webhook starts."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.webhooks import EndpointSpec

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

import local_airflow

DAG_FILE = """
from airflow.sdk import DAG, task

from airflow_provider_faraday.assets.datasets import dataset_asset


@task
def load():
    pass


for dag_id, dataset_id in {datasets}.items():
    with DAG(dag_id, schedule=[dataset_asset(dataset_id, name=dag_id)], catchup=False):
        load()
"""


def _until(condition: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Not true: {what}. {log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)


def _measure(home: Path, builds: int, pause: float) -> list[float]:
    """Return the seconds from each build to the start of its DAG run."""
    datasets = {f"build_{number}": f"d0000000-0000-4000-8000-{number:012}" for number in range(builds)}
    documents = [{"id": id_, "name": name, "status": "ready"} for name, id_ in datasets.items()]
    (home / "dags").mkdir()
    (home / "dags" / "builds.py").write_text(DAG_FILE.format(datasets=datasets))
    env = local_airflow.server_environment(home, home / "dags")
    api, log = local_airflow.Api(env), home / "airflow.log"

    def runs() -> list[dict[str, Any]]:
        found = api.get("/api/v2/dags/~/dagRuns").json()["dag_runs"]
        return [run for run in found if run["start_date"]]

    with Sandbox(account={"datasets": documents}) as faraday:
        spec = EndpointSpec(
            url=f"{api.url}/faraday/webhooks/faraday_default", enabled_events=["resource.ready_with_update"]
        )
        connection = {
            "conn_type": "faraday",
            "host": faraday.url,
            "password": faraday.api_key,
            "extra": {"webhook_secret": faraday.webhooks.create(spec)["secret"]},
        }
        env["AIRFLOW_CONN_FARADAY_DEFAULT"] = json.dumps(connection)
        env["AIRFLOW__FARADAY__WEBHOOK_CONN_IDS"] = "faraday_default"
        local_airflow.migrate(env)
        with log.open("wb") as output:
            airflow = local_airflow.start(env, "standalone", output=output)
        try:
            _until(api.is_healthy, "Airflow is healthy", log)
            _until(lambda: api.get("/api/v2/dags").json()["total_entries"] == builds, "DAGs are parsed", log)
            built = {}
            for name, id_ in datasets.items():
                changed = faraday.set_dataset(id_, status="ready")
                built[name] = datetime.fromisoformat(changed["last_updated_output_at"])
                time.sleep(pause)
            _until(lambda: len(runs()) == builds, "every build has started a DAG run", log)
            return [
                (datetime.fromisoformat(run["start_date"]) - built[run["dag_id"]]).total_seconds()
                for run in runs()
            ]
        finally:
            local_airflow.end(airflow)


def main(quick: bool) -> None:
    """Print one JSON object per build."""
    builds, pause = (1, 0.0) if quick else (9, 2.3)
    with tempfile.TemporaryDirectory(prefix="faraday-bench-") as directory:
        for seconds in _measure(Path(directory), builds, pause):
            print(json.dumps({"case": "webhook", "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
