"""The examples, 200 sensors and watched assets in a deployment as in production, under faults."""

from __future__ import annotations

import itertools
import secrets
import shutil
import signal
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import psutil
import pytest

import local_airflow
from support.builds import DAG_PER_ASSET, events, rebuild, received
from support.celery_cluster import HEALTH_SECONDS, SCHEDULERS, TRIGGERERS, celery_cluster
from support.examples import (
    EXAMPLES,
    ON_PREDICTIONS,
    ON_UPDATE,
    STARTED,
    all_wait,
    assert_each_ran_once,
    building_faraday,
    builds,
    finish_builds,
    polls,
    prepare,
    run_states,
    start_runs,
)
from support.ids import CUSTOMERS, ORDERS, RETURNS, SCOPE, UPLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_faraday.sandbox import Sandbox
    from support.cluster import Cluster

pytestmark = pytest.mark.timeout(1200)

SENSORS = 200
SENSORS_PATH = f"/v1/scopes/{SCOPE}/datasets"
INTERVAL = 2.0
POLLS = 6
OUTAGE_SECONDS = 15
CONNECTION = "faraday_default"
# How many seconds after a build a fault happens. Airflow stores the event after one or two, and the watcher
# records the build about five seconds later. Each round of faults continues in this list.
DELAYS = (2, 0.5, 4, 8, 1)

SENSORS_FILE = f"""
from airflow.sdk import DAG

from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

with DAG("waiting", schedule=None):
    DatasetsReadySensor.partial(
        task_id="wait", scope_id="{SCOPE}", timeout=3600, poke_interval={INTERVAL}, deferrable=True
    ).expand(fields=[["id", "name"] if number % 2 else ["id", "status"] for number in range({SENSORS})])
"""
# No example waits for the dataset of UPLOADS. Those of SCOPE are all built at once.
WATCHED_FILE = f"""
from airflow.sdk import Asset, AssetWatcher

from airflow_provider_faraday.assets.datasets import dataset_asset
from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger


def watched(name, **arguments):
    return Asset(name, watchers=[AssetWatcher(name=name, trigger=DatasetUpdatedTrigger(**arguments))])


ASSETS = {{
    "returns": dataset_asset("{RETURNS}", name="returns", watch_every=1),
    "uploads": watched("uploads", connection_id="{UPLOADS}", poke_interval=1),
    "scope": watched("scope", scope_id="{SCOPE}", poke_interval={INTERVAL}),
}}
"""
ASSETS = ("returns", "uploads")
DAGS = {*STARTED, ON_UPDATE, ON_PREDICTIONS, "waiting", "on_scope", *(f"on_{name}" for name in ASSETS)}


@pytest.fixture
def faraday() -> Iterator[Sandbox]:
    with building_faraday() as sandbox:
        quick = {"lag": 0.1, "starting": 0.1, "running": 0.1, "outcome": "ready"}
        sandbox.set_dataset(RETURNS, status="ready", sandbox=quick)
        yield sandbox


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    """Return the DAGs folder: the examples, the sensors and the watched assets."""
    dags = tmp_path / "dags"
    dags.mkdir()
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, dags)
    (dags / "waiting.py").write_text(SENSORS_FILE)
    (dags / "watched.py").write_text(WATCHED_FILE + DAG_PER_ASSET)
    return dags


@pytest.fixture
def airflow(dags: Path) -> Iterator[Cluster]:
    with celery_cluster(dags) as created:
        yield created


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rounds"))


@pytest.fixture
def say(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Return a function that prints a line with the time since the start."""
    started = time.monotonic()
    reporter = request.config.pluginmanager.getplugin("terminalreporter")

    def write(what: str) -> None:
        with capsys.disabled():
            reporter.write_line(f"{time.monotonic() - started:6.0f} s  {what}", flush=True)

    return write


class Watched:
    """The watched dataset, and what Airflow was told about its builds.

    :ivar builds: the time of each build, and what happened to Airflow right after it
    """

    def __init__(self, airflow: Cluster, faraday: Sandbox) -> None:
        self._airflow = airflow
        self._faraday = faraday
        self.builds: dict[str, str] = {}

    def build(self, fault: str, delay: float = 0, happen: Callable[[], None] = lambda: None) -> None:
        """Rebuild the dataset, let something happen after a delay, and wait until the build is announced."""
        self.builds[rebuild(self._faraday, RETURNS)] = fault
        time.sleep(delay)
        happen()
        self._airflow.until(self._all_announced, f"the build is announced ({fault})")

    def announced(self) -> Counter[tuple[str, str]]:
        """Return how often each build was announced, by the asset's name and the time of the build."""
        return Counter(event for event in events(self._airflow) if event[0] in ASSETS)

    def _all_announced(self) -> bool:
        return {(name, build) for name in ASSETS for build in self.builds} <= {*self.announced()}


def test_every_run_succeeds_once_and_every_build_is_announced(
    airflow: Cluster,
    faraday: Sandbox,
    tmp_path: Path,
    rounds: int,
    say: Callable[[str], None],
) -> None:
    warehouse = tmp_path / "warehouse.db"
    prepare(airflow, faraday, warehouse)
    airflow.start_all("worker", *TRIGGERERS, *SCHEDULERS)
    airflow.until(
        lambda: {*airflow.query("SELECT dag_id FROM dag")} == {(dag_id,) for dag_id in DAGS},
        "all DAGs are loaded",
    )
    watched = "SELECT count(DISTINCT asset_id) FROM asset_state_store"
    airflow.until(lambda: airflow.query(watched) == [(5,)], "every asset is watched")
    start_runs(airflow)
    airflow.api.post("/api/v2/dags/waiting/dagRuns", {"logical_date": None})
    say("Airflow is running")
    airflow.until(lambda: all_wait(airflow), "every gate waits")
    airflow.until(lambda: airflow.states() == ["deferred"] * SENSORS, "all sensors are deferred")
    say("every example and every sensor waits")

    returns = Watched(airflow, faraday)
    returns.build("no fault")
    assert_one_poll_an_interval_and_triggerer(airflow, faraday)
    delays = itertools.cycle(DELAYS)
    for fault, happen in [*FAULTS.items()] * rounds:
        delay = next(delays)
        returns.build(f"{fault}, {delay} s after the build", delay, partial(happen, airflow))
        say(f"a build is announced: {fault}")
    assert all_wait(airflow)
    assert airflow.states() == ["deferred"] * SENSORS

    faraday.stop()
    time.sleep(OUTAGE_SECONDS)
    assert all_wait(airflow)
    faraday.start()
    returns.build("outage of Faraday's API")
    say("Faraday's API is back")

    old_key, new_key = faraday.api_key, f"new-{secrets.token_hex(16)}"
    faraday.clear_requests()
    airflow.api.patch(
        f"/api/v2/connections/{CONNECTION}?update_mask=password",
        {"connection_id": CONNECTION, "conn_type": "faraday", "password": new_key},
    )
    faraday.rotate_key(new_key)
    returns.build("key rotation")
    airflow.until(lambda: polls(faraday) > 3, "polls succeed with the new key")
    rejected = [request for request in faraday.requests(SENSORS_PATH) if request["status"] == 401]
    # A triggerer may have looked the key up before it was rejected.
    assert len(rejected) <= len(TRIGGERERS)
    assert_one_poll_an_interval_and_triggerer(airflow, faraday)
    assert all_wait(airflow)
    say("the API key is rotated")

    earlier = len(faraday.history())
    finish_builds(faraday)
    airflow.until(lambda: airflow.states() == ["success"] * SENSORS, "all sensors succeed")
    say("every sensor has succeeded")
    airflow.until(lambda: received(airflow, ON_UPDATE) == builds(faraday), "all builds are received")

    announced = returns.announced()
    for build, fault in returns.builds.items():
        say(f"announced {' and '.join(str(announced[name, build]) for name in ASSETS)} times: {fault}")
    of_scope = {
        ("scope", move["at"])
        for move in faraday.history()[earlier:]
        if move["id"] in (CUSTOMERS, ORDERS) and move["status"] == "ready"
    }
    airflow.until(lambda: of_scope <= {*events(airflow)}, "all builds of the scope are announced")
    # Airflow hands some events to a DAG only together with the next one.
    waiting = airflow.query(
        "SELECT asset.name FROM asset_event JOIN asset ON asset.id = asset_id"
        " JOIN dag_schedule_asset_reference USING (asset_id)"
        " WHERE asset_event.id NOT IN (SELECT event_id FROM dagrun_asset_event) ORDER BY asset_event.id"
    )
    say(f"events that have not started a run: {', '.join(name for (name,) in waiting) or 'none'}")
    returns.build("no fault")
    for name in ASSETS:
        airflow.until(
            lambda name=name: received(airflow, f"on_{name}") == [*returns.builds],
            "all builds are received",
        )
    airflow.until(lambda: run_states(airflow) == {"success"}, "all runs succeed")
    say("every run has succeeded")
    assert_each_ran_once(airflow, faraday, warehouse)
    assert len(returns.announced()) == len(ASSETS) * len(returns.builds)

    # The Airflow connection has the key, encrypted. Nothing else has it.
    airflow.assert_stored_nowhere(old_key, new_key)
    messages = (airflow.home / "appendonly.aof").read_bytes()
    assert messages.count(b"execute_workload") > 2 * SENSORS


def kill_first(airflow: Cluster) -> None:
    airflow.end("triggerer-1", signal.SIGKILL)
    airflow.start("triggerer-1")


def stop_second(airflow: Cluster) -> None:
    airflow.restart("triggerer-2")


def freeze_first(airflow: Cluster) -> None:
    """Stop a triggerer until the other one has taken over its triggers. Then let it continue."""
    members = local_airflow.session_members(airflow.running["triggerer-1"])
    for member in members:
        member.send_signal(signal.SIGSTOP)
    time.sleep(HEALTH_SECONDS + 5)
    for member in members:
        member.send_signal(signal.SIGCONT)


def kill_both(airflow: Cluster) -> None:
    for name in TRIGGERERS:
        airflow.end(name, signal.SIGKILL)
    for name in TRIGGERERS:
        airflow.start(name)


FAULTS = {
    "SIGKILL of one triggerer": kill_first,
    "SIGTERM of the other": stop_second,
    "a triggerer that hangs": freeze_first,
    "SIGKILL of both": kill_both,
}


def assert_one_poll_an_interval_and_triggerer(airflow: Cluster, faraday: Sandbox) -> None:
    # The sensors are spread over the triggerers. The TCP connection of a poll tells which of them it is from.
    sql = "SELECT DISTINCT triggerer_id FROM trigger JOIN task_instance ON trigger_id = trigger.id"
    airflow.until(
        lambda: len(airflow.query(f"{sql} WHERE task_id = 'wait'")) == len(TRIGGERERS),
        "both have sensors",
    )
    faraday.clear_requests()
    started = time.monotonic()
    airflow.until(
        lambda: len(found := polls_by_process(faraday)) == len(TRIGGERERS) and min(found.values()) >= POLLS,
        "both triggerers poll",
    )
    intervals = (time.monotonic() - started) / INTERVAL
    # A slow machine may poll less often, never more.
    assert max(polls_by_process(faraday).values()) <= 1.5 * intervals + 2


def polls_by_process(faraday: Sandbox) -> Counter[int]:
    """Return the number of polls of each process, by its id."""
    connections = psutil.net_connections("tcp")
    pids = {f"{each.laddr.ip}:{each.laddr.port}": each.pid for each in connections if each.laddr}
    found = (pids.get(request["client"]) for request in faraday.requests(SENSORS_PATH))
    return Counter(pid for pid in found if pid)
