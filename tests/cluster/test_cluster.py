"""The examples, many sensors and watched assets in a deployment as in production, under faults."""

from __future__ import annotations

import itertools
import re
import secrets
import shutil
import signal
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import local_airflow
from support.cluster import COMPONENTS, HEALTH_SECONDS, TRIGGERERS, cluster
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
from support.ids import CUSTOMERS, ORDERS, RETURNS, SCOPE, TARGET, UPLOADS
from support.markdown_pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_faraday.sandbox import Sandbox
    from support.cluster import Cluster

pytestmark = pytest.mark.timeout(3600)

SENSORS = 40
SENSORS_PATH = f"/v1/scopes/{SCOPE}/datasets"
# Neither triggerer can run all sensors, even if the other one runs all triggers of the examples.
CAPACITY = SENSORS - 1
INTERVAL = 2.0
POLLS = 6
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
    ).expand(fields=[["name"] if number % 2 else ["status"] for number in range({SENSORS})])
"""
# No example waits for the dataset of UPLOADS. Those of SCOPE are all built at once. Airflow runs the equal
# watchers of "uploads" and "same" as one trigger. The scheduler runs an EmptyOperator without a process.
WATCHED_FILE = f"""
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_faraday.assets.datasets import dataset_asset
from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger


def watched(name, **arguments):
    return Asset(name, watchers=[AssetWatcher(name=name, trigger=DatasetUpdatedTrigger(**arguments))])


RETURNS = dataset_asset("{RETURNS}", name="returns", watch_every=1)

with DAG("on_uploads", schedule=[watched("uploads", connection_id="{UPLOADS}", poke_interval=1)]):

    @task
    def updates(triggering_asset_events):
        return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]

    updates()

with DAG("on_same", schedule=[watched("same", connection_id="{UPLOADS}", poke_interval=1)]):
    EmptyOperator(task_id="nothing")

with DAG("on_scope", schedule=[watched("scope", scope_id="{SCOPE}", poke_interval={INTERVAL})]):
    EmptyOperator(task_id="nothing")
"""
ASSETS = ("returns", "uploads", "same")
CUSTOMERS_ASSET, LIKELY_BUYERS = "customers (Faraday)", "likely buyers (Faraday)"
DAGS = {*STARTED, ON_UPDATE, ON_PREDICTIONS, "waiting", "load_once", "on_uploads", "on_same", "on_scope"}
WATCHED_ASSETS, WATCHERS = 6, 5


@pytest.fixture
def faraday() -> Iterator[Sandbox]:
    with building_faraday() as sandbox:
        sandbox.set_dataset(RETURNS, status="ready")
        yield sandbox


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    """Return the DAGs folder: the examples, the sensors and the watched assets."""
    dags = tmp_path / "dags"
    dags.mkdir()
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, dags)
    (dags / "waiting.py").write_text(SENSORS_FILE)
    [load_once] = [block.text for block in PAGES["docs/assets.md"].blocks if "load_once" in block.text]
    (dags / "watched.py").write_text(WATCHED_FILE + re.sub("CUSTOMERS", "RETURNS", load_once))
    return dags


@pytest.fixture
def airflow(dags: Path) -> Iterator[Cluster]:
    with cluster(dags, CAPACITY) as created:
        yield created


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
        self.airflow = airflow
        self.faraday = faraday
        self.builds: dict[str, str] = {}

    def start_build(self, fault: str) -> None:
        """Rebuild the dataset."""
        built = self.faraday.set_dataset(RETURNS, status="ready")
        self.builds[built["last_updated_output_at"]] = fault

    def wait(self) -> None:
        """Wait until all builds are announced."""
        fault = [*self.builds.values()][-1]
        self.airflow.until(self._all_announced, f"the build is announced ({fault})")

    def build(self, fault: str, happen: Callable[[], None] = lambda: None) -> None:
        """Rebuild the dataset, let something happen, and wait until the build is announced."""
        self.start_build(fault)
        happen()
        self.wait()

    def announced(self) -> Counter[tuple[str, str]]:
        """Return how often each build was announced, by the asset's name and the time of the build."""
        return Counter(event for event in announced(self.airflow) if event[0] in ASSETS)

    def _all_announced(self) -> bool:
        return {(name, build) for name in ASSETS for build in self.builds} <= {*self.announced()}


@pytest.fixture
def returns(airflow: Cluster, faraday: Sandbox) -> Watched:
    return Watched(airflow, faraday)


def events(airflow: Cluster, name: str) -> list[dict[str, Any]]:
    """Return the ``extra`` of each event of an asset, oldest first."""
    found = airflow.api.items("/api/v2/assets/events", "asset_events", order_by="timestamp")
    return [event["extra"] for event in found if event["name"] == name]


def announced(airflow: Cluster) -> list[tuple[str, str]]:
    """Return the asset events so far: the asset's name and the build's time of each."""
    found = airflow.api.items("/api/v2/assets/events", "asset_events", order_by="timestamp")
    payloads = [(event["name"], event["extra"].get("payload")) for event in found]
    # The events of outlets have none.
    return [(name, payload["last_updated_output_at"]) for name, payload in payloads if payload]


def received(airflow: Cluster, dag_id: str) -> list[str]:
    """Return the times of the builds that the runs of a DAG received, in the order of the builds."""
    payloads = [payload for _, value in airflow.api.returned(dag_id) for payload in value]
    return sorted({payload["last_updated_output_at"] for payload in payloads})


def loaded(airflow: Cluster) -> list[str]:
    """Return the builds that the runs of the docs' DAG have loaded."""
    return [build for _, value in airflow.api.returned("load_once") for build in value]


def test_every_run_succeeds_once_and_every_build_is_announced(
    airflow: Cluster,
    faraday: Sandbox,
    returns: Watched,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    say: Callable[[str], None],
) -> None:
    warehouse = tmp_path / "warehouse.db"
    webhook_secret = prepare(airflow, faraday, warehouse)
    airflow.start(*COMPONENTS)
    airflow.until(
        lambda: {*airflow.query("SELECT dag_id FROM dag")} == {(dag_id,) for dag_id in DAGS},
        "all DAGs are loaded",
    )
    watched = "SELECT count(DISTINCT asset_id) FROM asset_state_store"
    airflow.until(lambda: airflow.query(watched) == [(WATCHED_ASSETS,)], "every asset is watched")
    assert airflow.query("SELECT count(*) FROM trigger") == [(WATCHERS,)]
    say("Airflow is running")
    predictions = announce_by_webhook(airflow, faraday)
    returns.build("SIGTERM of both after a poll", partial(restart_both, returns))
    airflow.until(lambda: faraday.requests("/v1/targets") != [], "the target is polled after the restart")
    say("builds are announced by webhook and after a restart")

    start_runs(airflow, *STARTED, "waiting")
    airflow.until(lambda: all_wait(airflow), "every gate waits")
    airflow.until(lambda: airflow.states() == ["deferred"] * SENSORS, "all sensors are deferred")
    say("every example and every sensor waits")
    triggers = stored_triggers(airflow)
    returns.build("no fault")
    assert_one_poll_an_interval_and_triggerer(airflow, faraday)
    cause_faults(returns, request.config.getoption("--rounds"), say)
    stop_faraday(returns)
    say("Faraday's API is back")
    new_key = f"new-{secrets.token_hex(16)}"
    keys = [faraday.api_key, new_key]
    rotate_key(returns, new_key)
    assert_one_poll_an_interval_and_triggerer(airflow, faraday)
    say("the API key is rotated")
    # The deadline of the sensors has not changed.
    assert stored_triggers(airflow) == triggers
    assert all_wait(airflow)
    assert airflow.states() == ["deferred"] * SENSORS

    earlier = len(faraday.history())
    finish_builds(faraday)
    airflow.until(lambda: airflow.states() == ["success"] * SENSORS, "all sensors succeed")
    say("every sensor has succeeded")
    for entry, value in airflow.api.returned("waiting"):
        assert {tuple(dataset) for dataset in value} == {("name",) if entry["map_index"] % 2 else ("status",)}
    airflow.until(lambda: run_states(airflow) == {"success"}, "all runs succeed")
    due = {
        (name, move["at"])
        for move in faraday.history()[earlier:]
        for name, ids in (("scope", (CUSTOMERS, ORDERS)), (CUSTOMERS_ASSET, (CUSTOMERS,)))
        if move["id"] in ids and move["status"] == "ready"
    }
    airflow.until(lambda: due <= {*announced(airflow)}, "all builds are announced")
    say_what_was_announced(returns, say)
    # Airflow hands some events to a DAG only together with the next one.
    faraday.set_dataset(CUSTOMERS, status="ready")
    returns.build("no fault")
    airflow.until(lambda: received(airflow, ON_UPDATE) == builds(faraday), "all builds are received")
    airflow.until(lambda: received(airflow, "on_uploads") == [*returns.builds], "all builds are received")
    assert_no_build_is_loaded_twice(airflow)
    airflow.until(lambda: run_states(airflow) == {"success"}, "all runs succeed")
    say("every run has succeeded")
    assert_each_ran_once(airflow, faraday, warehouse)
    assert len(returns.announced()) == len(ASSETS) * len(returns.builds)
    assert announced(airflow).count((LIKELY_BUYERS, predictions)) == 1

    # The Airflow connection has the secrets, encrypted. Nothing else has them.
    airflow.assert_stored_nowhere(*keys, webhook_secret)
    messages = (airflow.home / "appendonly.aof").read_bytes()
    assert messages.count(b"execute_workload") > 2 * SENSORS
    page = airflow.api.text(f"/api/v2/connections/{CONNECTION}")
    assert page.startswith("200 ")
    assert "webhook_secret" in page
    assert [secret for secret in (*keys, webhook_secret) if secret in page] == []


def announce_by_webhook(airflow: Cluster, faraday: Sandbox) -> str:
    """Rebuild the target that the example of webhooks is about, and return the time of the build."""
    build = str(faraday.set_resource("targets", TARGET, status="ready")["last_updated_output_at"])
    airflow.until(lambda: received(airflow, ON_PREDICTIONS) == [build], "the webhook starts a DAG")
    assert "webhook_id" in events(airflow, LIKELY_BUYERS)[-1]
    # Watchers announce all later builds.
    for endpoint in faraday.webhooks.all():
        faraday.webhooks.remove(endpoint["id"])
    return build


def stored_triggers(airflow: Cluster) -> list[tuple[Any, ...]]:
    return airflow.query("SELECT id, classpath, kwargs FROM trigger ORDER BY id")


def restart_both(returns: Watched) -> None:
    """Stop both triggerers right after a poll that returned the build."""
    returns.faraday.clear_requests()
    path = f"/v1/connections/{UPLOADS}/datasets"
    returns.airflow.until(lambda: returns.faraday.requests(path) != [], "the triggerer polls")
    returns.airflow.restart(*TRIGGERERS)


def kill_first(returns: Watched) -> None:
    returns.airflow.kill("triggerer-1")
    returns.airflow.start("triggerer-1")


def stop_second(returns: Watched) -> None:
    returns.airflow.restart("triggerer-2")


def freeze_first(returns: Watched) -> None:
    """Stop a triggerer until the other one has taken over triggers. Then let it continue."""
    airflow, owners = returns.airflow, "SELECT id, triggerer_id FROM trigger ORDER BY id"
    running = f"end_date IS NULL AND latest_heartbeat > now() - interval '{HEALTH_SECONDS} seconds'"
    orphans = (
        f"SELECT id FROM trigger WHERE coalesce(triggerer_id, 0) NOT IN (SELECT id FROM job WHERE {running})"
    )
    airflow.until(lambda: airflow.query(orphans) == [], "earlier faults are over")
    before = airflow.query(owners)
    members = local_airflow.session_members(airflow.running["triggerer-1"])
    for member in members:
        member.send_signal(signal.SIGSTOP)
    airflow.until(lambda: airflow.query(owners) != before, "triggers are taken over")
    for member in members:
        member.send_signal(signal.SIGCONT)


def kill_both(returns: Watched) -> None:
    """Kill both triggerers, and build once more before they start."""
    returns.wait()
    returns.airflow.kill(*TRIGGERERS)
    returns.start_build("while no triggerer runs")
    returns.airflow.start(*TRIGGERERS)


FAULTS = {
    "SIGKILL of one triggerer": kill_first,
    "SIGTERM of the other": stop_second,
    "a triggerer that hangs": freeze_first,
    "SIGKILL of both": kill_both,
}


def cause_faults(returns: Watched, rounds: int, say: Callable[[str], None]) -> None:
    delays = itertools.cycle(DELAYS)
    for fault, happen in [*FAULTS.items()] * rounds:
        delay = next(delays)
        returns.start_build(f"{fault}, {delay} s after the build")
        time.sleep(delay)
        happen(returns)
        returns.wait()
        say(f"a build is announced: {fault}")


def stop_faraday(returns: Watched) -> None:
    """Stop Faraday's API until watchers report it."""
    problems = "SELECT count(*) FROM asset_state_store WHERE right(key, 8) = '.problem'"
    returns.faraday.stop()
    returns.airflow.until(lambda: returns.airflow.query(problems) > [(0,)], "a watcher reports the outage")
    assert all_wait(returns.airflow)
    returns.faraday.start()
    returns.build("outage of Faraday's API")
    returns.airflow.until(lambda: returns.airflow.query(problems) == [(0,)], "the outage is over")


def rotate_key(returns: Watched, new_key: str) -> None:
    faraday = returns.faraday
    faraday.clear_requests()
    returns.airflow.api.patch(
        f"/api/v2/connections/{CONNECTION}?update_mask=password",
        {"connection_id": CONNECTION, "conn_type": "faraday", "password": new_key},
    )
    faraday.rotate_key(new_key)
    returns.build("key rotation")
    returns.airflow.until(lambda: polls(faraday) > 3, "polls succeed with the new key")
    rejected = [request for request in faraday.requests(SENSORS_PATH) if request["status"] == 401]
    # A triggerer may have looked the key up before it was rejected.
    assert len(rejected) <= len(TRIGGERERS)


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
    found = polls_by_process(faraday)
    intervals = (time.monotonic() - started) / INTERVAL
    # A slow machine may poll less often, never more.
    assert max(found.values()) <= 1.5 * intervals + 2


def polls_by_process(faraday: Sandbox) -> Counter[int]:
    """Return the number of polls of each process, by its id."""
    connections = psutil.net_connections("tcp")
    pids = {f"{each.laddr.ip}:{each.laddr.port}": each.pid for each in connections if each.laddr}
    found = (pids.get(request["client"]) for request in faraday.requests(SENSORS_PATH))
    return Counter(pid for pid in found if pid)


def say_what_was_announced(returns: Watched, say: Callable[[str], None]) -> None:
    counts = returns.announced()
    for build, fault in returns.builds.items():
        times = " and ".join(str(counts[name, build]) for name in ASSETS)
        say(f"announced {times} times: {fault}")
    waiting = returns.airflow.query(
        "SELECT asset.name FROM asset_event JOIN asset ON asset.id = asset_id"
        " JOIN dag_schedule_asset_reference USING (asset_id)"
        " WHERE asset_event.id NOT IN (SELECT event_id FROM dagrun_asset_event) ORDER BY asset_event.id"
    )
    say(f"events that have not started a run: {', '.join(name for (name,) in waiting) or 'none'}")


def assert_no_build_is_loaded_twice(airflow: Cluster) -> None:
    """Announce the last and the first build again."""
    extras = events(airflow, "returns")
    last = extras[-1]["payload"]["last_updated_output_at"]
    airflow.until(lambda: last in loaded(airflow), "the last build is loaded")
    [asset] = [each for each in airflow.api.items("/api/v2/assets", "assets") if each["name"] == "returns"]
    for extra in (extras[-1], extras[0]):
        runs = len(airflow.api.returned("load_once"))
        airflow.api.post("/api/v2/assets/events", {"asset_id": asset["id"], "extra": extra})
        airflow.until(lambda runs=runs: len(airflow.api.returned("load_once")) > runs, "a run ends")
    assert len(loaded(airflow)) == len({*loaded(airflow)})
