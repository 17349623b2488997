"""DAGs that start when Faraday has rebuilt a dataset, in a real scheduler and triggerer: each build, once."""

from __future__ import annotations

import json
import secrets
import signal
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version
from packaging.version import Version

from airflow_provider_faraday.sandbox import Sandbox
from whole_airflow import whole_airflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from whole_airflow import Airflow

pytestmark = [
    pytest.mark.skipif(
        Version(airflow_version) < Version("3.3"),
        reason="Earlier ones keep no state for assets: what they do then is in the unit tests.",
    ),
    pytest.mark.timeout(480),
]

SCOPE = "50000000-0000-4000-8000-000000000001"
CUSTOMERS = "d0000000-0000-4000-8000-000000000001"
ORDERS = "d0000000-0000-4000-8000-000000000002"
INTERVAL = 1.0

# One asset for a dataset, by the helper; and two for a scope, whose equal watchers Airflow runs as one.
DAG_FILE = f"""
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_faraday.assets.datasets import dataset_asset
from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger


def scope(name):
    trigger = DatasetUpdatedTrigger(scope_id="{SCOPE}", poke_interval={INTERVAL}, on_error=True)
    return Asset(name, watchers=[AssetWatcher(name=name, trigger=trigger)])


for name, asset in {{
    "customers": dataset_asset("{CUSTOMERS}", name="customers", watch_every={INTERVAL}),
    "scope_one": scope("scope_one"),
    "scope_two": scope("scope_two"),
}}.items():
    with DAG(f"on_{{name}}", schedule=[asset], catchup=False):

        @task
        def updates(triggering_asset_events):
            return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]

        updates()
"""


@pytest.fixture
def faraday() -> Iterator[Sandbox]:
    with Sandbox(speed=10, api_key=f"key-{secrets.token_hex(16)}") as sandbox:
        for id_ in (CUSTOMERS, ORDERS):
            sandbox.set_dataset(id_, status="ready")
        yield sandbox


@pytest.fixture
def airflow(another_airflow_home: Path, tmp_path: Path) -> Iterator[Airflow]:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "on_update.py").write_text(DAG_FILE)
    with whole_airflow(another_airflow_home, tmp_path / "dags") as running:
        yield running


def events(airflow: Airflow) -> list[tuple[str, str]]:
    """Give the asset events so far, each as the asset's name and the build's time."""
    rows = airflow.query(
        "SELECT asset.name, asset_event.extra FROM asset_event JOIN asset ON asset.id = asset_event.asset_id"
    )
    payloads = [(name, json.loads(extra)["payload"]) for name, extra in rows]
    return sorted((name, payload["last_updated_output_at"]) for name, payload in payloads)


def received(airflow: Airflow, dag_id: str) -> list[dict[str, Any]]:
    """Give the payloads that the runs of a DAG were given."""
    rows = airflow.query(
        f"SELECT value FROM xcom WHERE dag_id = '{dag_id}' AND key = 'return_value' ORDER BY run_id"
    )
    return [payload for (value,) in rows for payload in json.loads(value)]


def force_update(faraday: Sandbox, id_: str) -> str:
    """Have a dataset rebuilt, and give the time of that build."""
    before = faraday.dataset(id_)["last_updated_output_at"]
    faraday.force_update(id_)
    deadline = time.monotonic() + 30
    while (built := faraday.dataset(id_))["status"] != "ready" or built["last_updated_output_at"] == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return built["last_updated_output_at"]


def test_each_build_starts_the_dags_once_whatever_happens(airflow: Airflow, faraday: Sandbox) -> None:
    assets = ("customers", "scope_one", "scope_two")
    airflow.set_connection(host=faraday.url, password=faraday.api_key)
    airflow.start_all()
    watched = "SELECT count(*) FROM asset_state_store"
    airflow.until(lambda: airflow.query(watched) == [(3,)], 120, "every asset is watched")
    assert airflow.query("SELECT count(*) FROM trigger") == [(2,)]

    # One build, one event for each asset that stands for it, one run of each DAG.
    first = force_update(faraday, CUSTOMERS)
    airflow.until(lambda: len(events(airflow)) >= 3, 30, "the build is announced")
    time.sleep(5 * INTERVAL)
    assert events(airflow) == [(name, first) for name in assets]

    # Killed, and started again: what was built in between is announced, and nothing else is.
    airflow.end("triggerer", signal.SIGKILL)
    second = force_update(faraday, CUSTOMERS)
    faraday.clear_requests()
    airflow.start("triggerer", "-s")
    airflow.until(lambda: len(events(airflow)) >= 6, 60, "the build is announced after the restart")

    # Away for some seconds, and with another build when it is back.
    faraday.stop()
    time.sleep(4 * INTERVAL)
    faraday.start()
    third = force_update(faraday, ORDERS)
    airflow.until(lambda: len(events(airflow)) >= 8, 60, "the build is announced after the outage")
    time.sleep(5 * INTERVAL)
    assert events(airflow) == sorted(
        [(name, built) for name in assets for built in (first, second)]
        + [(name, third) for name in assets if name != "customers"]
    )

    runs = "SELECT count(*) FROM dag_run WHERE state NOT IN ('success')"
    airflow.until(lambda: airflow.query(runs) == [(0,)], 60, "all runs succeed")
    airflow.until(lambda: len(received(airflow, "on_scope_two")) == 3, 30, "all runs are told")
    assert [payload["last_updated_output_at"] for payload in received(airflow, "on_customers")] == [
        first,
        second,
    ]
    for dag_id in ("on_scope_one", "on_scope_two"):
        told = [payload["last_updated_output_at"] for payload in received(airflow, dag_id)]
        assert sorted(told, key=datetime.fromisoformat) == [first, second, third]
    airflow.assert_nowhere(faraday.api_key)
