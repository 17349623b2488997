"""DAGs scheduled on Faraday's builds, with a real scheduler and triggerer: each build is announced."""

from __future__ import annotations

import secrets
import signal
import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_faraday.sandbox import Sandbox
from support.builds import DAG_PER_ASSET, events, rebuild, received
from support.cluster import cluster
from support.ids import CUSTOMERS, ORDERS, SCOPE
from support.run_dag import AIRFLOW_3_3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.cluster import Cluster

pytestmark = [
    pytest.mark.skipif(
        not AIRFLOW_3_3, reason="Earlier Airflow keeps no asset state; unit tests show what happens there."
    ),
    pytest.mark.timeout(480),
]

INTERVAL = 1.0
RESTARTS = 5
BUILDS = 3

# One asset for one dataset; and two assets for one scope, whose equal watchers Airflow runs as one trigger.
DAG_FILE = f"""
from airflow.sdk import Asset, AssetWatcher

from airflow_provider_faraday.assets.datasets import dataset_asset
from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger


def scope(name):
    trigger = DatasetUpdatedTrigger(scope_id="{SCOPE}", poke_interval={INTERVAL}, on_error=True)
    return Asset(name, watchers=[AssetWatcher(name=name, trigger=trigger)])


ASSETS = {{
    "customers": dataset_asset("{CUSTOMERS}", name="customers", watch_every={INTERVAL}),
    "scope_one": scope("scope_one"),
    "scope_two": scope("scope_two"),
}}
"""
ASSETS = ("customers", "scope_one", "scope_two")
# An asset for each dataset, and a DAG that runs on a build of either.
EITHER_FILE = f"""
from airflow.sdk import DAG, task

from airflow_provider_faraday.assets.datasets import dataset_asset

customers = dataset_asset("{CUSTOMERS}", name="customers", watch_every={INTERVAL})
orders = dataset_asset("{ORDERS}", name="orders", watch_every={INTERVAL})

with DAG("on_either", schedule=(customers | orders), catchup=False):

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
def dag_file() -> str:
    return DAG_FILE + DAG_PER_ASSET


@pytest.fixture
def airflow(another_airflow_home: Path, tmp_path: Path, faraday: Sandbox, dag_file: str) -> Iterator[Cluster]:
    """Return a deployment that watches every asset."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "on_update.py").write_text(dag_file)
    with cluster(another_airflow_home, tmp_path / "dags") as created:
        created.store_connection(host=faraday.url, password=faraday.api_key)
        created.start_all()
        created.until(lambda: _watched(created, "asset_watcher") != [], 60, "the assets are there")
        created.until(
            lambda: _watched(created, "asset_state_store") == _watched(created, "asset_watcher"),
            120,
            "every asset is watched",
        )
        yield created


def _watched(airflow: Cluster, table: str) -> list[tuple[int]]:
    return airflow.query(f"SELECT DISTINCT asset_id FROM {table} ORDER BY asset_id")


def of_scopes(builds: list[str]) -> set[tuple[str, str]]:
    return {(name, build) for name in ("scope_one", "scope_two") for build in builds}


def test_every_build_starts_the_dags_despite_a_killed_triggerer_and_an_outage(
    airflow: Cluster, faraday: Sandbox
) -> None:
    assert airflow.query("SELECT count(*) FROM trigger") == [(2,)]

    # Each asset gets one event for one build.
    first = rebuild(faraday, CUSTOMERS)
    airflow.until(lambda: len(events(airflow)) >= 3, 30, "the first build is announced")
    time.sleep(5 * INTERVAL)
    assert events(airflow) == [(name, first) for name in ASSETS]

    # A build without a triggerer is announced after the restart.
    airflow.end("triggerer", signal.SIGKILL)
    second = rebuild(faraday, CUSTOMERS)
    airflow.start("triggerer")
    expected = {(name, build) for name in ASSETS for build in (first, second)}
    airflow.until(lambda: expected <= {*events(airflow)}, 60, "the second build is announced")

    # A build at the end of an outage is announced to those who watch that dataset.
    faraday.stop()
    time.sleep(4 * INTERVAL)
    faraday.start()
    third = rebuild(faraday, ORDERS)
    expected |= of_scopes([third])
    airflow.until(lambda: expected <= {*events(airflow)}, 60, "the third build is announced")
    time.sleep(5 * INTERVAL)
    assert {*events(airflow)} == expected

    # Each DAG has received its builds.
    unfinished = "SELECT count(*) FROM dag_run WHERE state != 'success'"
    airflow.until(lambda: airflow.query(unfinished) == [(0,)], 60, "all runs succeed")
    airflow.until(lambda: len(received(airflow, "on_scope_two")) == 3, 30, "all builds are received")
    assert received(airflow, "on_customers") == [first, second]
    assert received(airflow, "on_scope_one") == received(airflow, "on_scope_two") == [first, second, third]
    airflow.assert_stored_nowhere(faraday.api_key)


@pytest.mark.once
def test_no_build_is_lost_if_the_triggerer_restarts_right_after_it(
    airflow: Cluster, faraday: Sandbox
) -> None:
    path = f"/v1/scopes/{SCOPE}/datasets"
    builds = []
    for number in range(RESTARTS):
        faraday.clear_requests()
        airflow.until(lambda: bool(faraday.requests(path)), 60, "the triggerer polls")
        builds.append(rebuild(faraday, ORDERS))
        faraday.clear_requests()
        while not faraday.requests(path):
            time.sleep(0.01)
        # The triggerer has just seen the build. Airflow may not have stored the event yet.
        time.sleep(0.05 * number)
        airflow.restart("triggerer")

    # Duplicates are fine, losses are not.
    airflow.until(lambda: bool(faraday.requests(path)), 60, "the triggerer polls")
    time.sleep(10 * INTERVAL)
    assert of_scopes(builds) - {*events(airflow)} == set()
    assert {*events(airflow)} <= of_scopes(builds)


@pytest.mark.once
@pytest.mark.parametrize("dag_file", [EITHER_FILE], ids=["own assets"])
def test_builds_at_the_same_time_all_start_runs_if_each_dataset_has_an_asset(
    airflow: Cluster, faraday: Sandbox
) -> None:
    for number in range(1, BUILDS + 1):
        faraday.force_update(CUSTOMERS)
        faraday.force_update(ORDERS)
        airflow.until(
            lambda count=2 * number: len(received(airflow, "on_either")) == count, 60, "a run has each build"
        )
