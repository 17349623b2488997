"""Measure the time from a build in Faraday to the work that it starts: by webhook, watcher and sensor."""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.webhooks import EndpointSpec

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

import local_airflow

SUBJECTS = ("webhook", "watcher", "sensor")
DAG_FILE = """
from airflow.sdk import DAG, task

from airflow_provider_faraday.assets.datasets import dataset_asset
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor


@task
def load():
    pass


for dag_id, dataset_id in {datasets}.items():
    subject = dag_id.partition("_")[0]
    every = {interval} if subject == "watcher" else None
    schedule = "@once" if subject == "sensor" else [dataset_asset(dataset_id, name=dag_id, watch_every=every)]
    with DAG(dag_id, schedule=schedule, catchup=False):
        loading = load()
        if subject == "sensor":
            gate = {{"poke_interval": {interval}, "deferrable": True}}
            DatasetsReadySensor(task_id="gate", datasets=[dataset_id], **gate) >> loading
"""


def _until(condition: Callable[[], bool], seconds: float, what: str, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Not true: {what}. {log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)


def _measure(home: Path, samples: int, interval: float) -> dict[str, dict[str, list[float]]]:
    """Return the seconds from each build to the start of the DAG run and of its task, by subject."""
    datasets = {
        f"{subject}_{number}": f"d0000000-0000-4000-8000-{kind:06}{number:06}"
        for kind, subject in enumerate(SUBJECTS)
        for number in range(samples)
    }
    account = {
        "datasets": [
            {"id": id_, "name": dag_id, "status": "running" if dag_id.startswith("sensor") else "ready"}
            for dag_id, id_ in datasets.items()
        ]
    }
    (home / "dags").mkdir()
    (home / "dags" / "builds.py").write_text(DAG_FILE.format(datasets=datasets, interval=interval))
    env = local_airflow.server_environment(home, home / "dags")
    env["AIRFLOW__FARADAY__WEBHOOK_CONN_IDS"] = "webhooks"
    api, log = local_airflow.Api(env), home / "airflow.log"

    def query(sql: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{home}/airflow.db?mode=ro", uri=True, timeout=30)) as database:
            return database.execute(sql).fetchall()

    # Two accounts: what is polled must not be announced by webhook.
    with Sandbox(account=account) as polled, Sandbox(account=account) as sending:
        spec = EndpointSpec(
            url=f"{api.url}/faraday/webhooks/webhooks", enabled_events=["resource.ready_with_update"]
        )
        extra = {"webhook_secret": sending.webhooks.create(spec)["secret"]}
        for name, sandbox in (("FARADAY_DEFAULT", polled), ("WEBHOOKS", sending)):
            connection = {"conn_type": "faraday", "host": sandbox.url, "password": sandbox.api_key}
            env[f"AIRFLOW_CONN_{name}"] = json.dumps({**connection, "extra": extra})
        local_airflow.migrate(env)
        with log.open("wb") as output:
            airflow = local_airflow.start(env, "standalone", output=output)
        try:
            _until(api.is_healthy, 120, "Airflow is healthy", log)
            deferred = "SELECT count(*) FROM task_instance WHERE state = 'deferred'"
            _until(lambda: query(deferred) == [(samples,)], 120, "all sensors are deferred", log)
            watched = "SELECT count(DISTINCT asset_id) FROM asset_state_store"
            _until(lambda: query(watched) == [(samples,)], 120, "all assets are watched", log)
            built = {}
            for number in range(samples):
                for subject in SUBJECTS:
                    id_ = datasets[f"{subject}_{number}"]
                    faraday = sending if subject == "webhook" else polled
                    changed = faraday.set_dataset(id_, status="ready")
                    at = datetime.fromisoformat(changed["last_updated_output_at"])
                    built[f"{subject}_{number}"] = at
                time.sleep(interval / samples)
            done = "SELECT count(*) FROM task_instance WHERE task_id = 'load' AND state = 'success'"
            _until(lambda: query(done) == [(len(datasets),)], interval + 90, "everything is loaded", log)
        finally:
            local_airflow.end(airflow)
        runs = dict(query("SELECT dag_id, start_date FROM dag_run"))
        tasks = dict(query("SELECT dag_id, start_date FROM task_instance WHERE task_id = 'load'"))
    return {
        subject: {
            what: [
                (datetime.fromisoformat(times[dag_id]).replace(tzinfo=UTC) - at).total_seconds()
                for dag_id, at in built.items()
                if dag_id.startswith(subject)
            ]
            for what, times in (("run", runs), ("task", tasks))
        }
        for subject in SUBJECTS
    }


def main(quick: bool) -> None:
    """Measure all three side by side in one Airflow, and print one JSON object per line."""
    samples, interval = (2, 10.0) if quick else (6, 60.0)
    with tempfile.TemporaryDirectory(prefix="faraday-bench-") as directory:
        measured = _measure(Path(directory), samples, interval)
    for subject, seconds in measured.items():
        result: dict[str, Any] = {
            "kind": "build_to_run",
            "subject": subject,
            "interval": 0 if subject == "webhook" else interval,
            "samples": samples,
            "median_s": median(seconds["task"]),
            "max_s": max(seconds["task"]),
        }
        if subject != "sensor":
            result |= {"run_median_s": median(seconds["run"]), "run_max_s": max(seconds["run"])}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
