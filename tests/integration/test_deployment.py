"""Sensors, watchers and webhooks in a deployment of Airflow whose triggerer is killed and restarted."""

from __future__ import annotations

import json
import re
import secrets
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.webhooks import EndpointSpec
from support.cluster import cluster
from support.ids import CUSTOMERS, ORDERS, RETURNS, SCOPE, SUBSCRIBERS, VISITS, WAREHOUSE
from support.markdown_pages import ROOT
from support.run_dag import AIRFLOW_3_3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.cluster import Cluster

pytestmark = [
    pytest.mark.skipif(not AIRFLOW_3_3, reason="Earlier Airflow keeps no asset state; see the unit tests."),
    pytest.mark.timeout(3600),
]

SENSORS = 4
SENSORS_PATH = f"/v1/connections/{WAREHOUSE}/datasets"
INTERVAL = 1.0
POLLS = 8
# Seconds between a build and the end of the triggerer. Airflow stores an event within about a second.
RESTARTS = (0.0, 0.1)

SENSORS_FILE = f"""
from datetime import datetime, timezone

from airflow.sdk import DAG

from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

with DAG("waiting", schedule="@once", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False):
    DatasetsReadySensor.partial(
        task_id="wait", connection_id="{WAREHOUSE}", timeout=7200, poke_interval={INTERVAL}, deferrable=True
    ).expand(fields=[["name"] if number % 2 else ["status"] for number in range({SENSORS})])
"""
# Airflow runs the equal watchers of the two assets for a scope as one trigger. The watcher of the subscribers
# polls only when the triggerer has started. The consumer of the first asset is that of the docs.
WATCHED_FILE = f"""
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_faraday.assets.datasets import dataset_asset
from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger

CUSTOMERS = dataset_asset("{CUSTOMERS}", name="customers", watch_every={INTERVAL})
SCOPES = [
    Asset(
        name,
        watchers=[
            AssetWatcher(
                name=name, trigger=DatasetUpdatedTrigger(scope_id="{SCOPE}", poke_interval={INTERVAL})
            )
        ],
    )
    for name in ("scope_one", "scope_two")
]
SUBSCRIBERS = dataset_asset("{SUBSCRIBERS}", name="subscribers", watch_every=86400)
RETURNS = dataset_asset("{RETURNS}", name="returns")

# Airflow watches the assets of active DAGs only. The scheduler runs an EmptyOperator without a process.
with DAG("on_scopes", schedule=SCOPES):
    EmptyOperator(task_id="nothing")

with DAG("on_either", schedule=(SUBSCRIBERS | RETURNS)):

    @task
    def builds(triggering_asset_events):
        return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]

    builds()
"""
WATCHED = {"customers", "scope_one", "scope_two", "subscribers"}


@pytest.fixture
def faraday() -> Iterator[Sandbox]:
    with Sandbox(api_key=f"key-{secrets.token_hex(16)}") as sandbox:
        for id_ in (CUSTOMERS, ORDERS, SUBSCRIBERS, RETURNS):
            sandbox.set_dataset(id_, status="ready")
        sandbox.set_dataset(VISITS, status="running")
        yield sandbox


@pytest.fixture
def airflow(another_airflow_home: Path, tmp_path: Path, faraday: Sandbox) -> Iterator[Cluster]:
    dags = tmp_path / "dags"
    dags.mkdir()
    section = (ROOT / "docs" / "assets.md").read_text().partition("### Deduplicate events")[2]
    [load_once] = re.findall(r"```python airflow3\n(.*?)```", section.partition("\n#")[0], re.DOTALL)
    (dags / "sensors.py").write_text(SENSORS_FILE)
    (dags / "watched.py").write_text(WATCHED_FILE + load_once)
    with cluster(another_airflow_home, dags) as created:
        created.env["AIRFLOW__FARADAY__WEBHOOK_CONN_IDS"] = "faraday_default"
        url = f"{created.api.url}/faraday/webhooks/faraday_default"
        endpoint = faraday.webhooks.create(
            EndpointSpec(url=url, enabled_events=["resource.ready_with_update"])
        )
        extra = {"webhook_secret": endpoint["secret"]}
        created.store_connection(host=faraday.url, password=faraday.api_key, extra=json.dumps(extra))
        created.start_all()
        created.until(lambda: watched(created) == WATCHED, "every asset is watched")
        created.until(lambda: created.states() == ["deferred"] * SENSORS, "all sensors are deferred")
        yield created


def watched(airflow: Cluster) -> set[str]:
    """Return the names of the assets whose state has been stored by a watcher."""
    sql = "SELECT DISTINCT name FROM asset JOIN asset_state_store ON asset.id = asset_id"
    return {name for (name,) in airflow.query(f"{sql} WHERE key NOT LIKE '%.webhook'")}


def events(airflow: Cluster, name: str) -> list[dict[str, Any]]:
    """Return the ``extra`` of each event of an asset, oldest first."""
    found = airflow.api.items("/api/v2/assets/events", "asset_events", order_by="timestamp")
    return [event["extra"] for event in found if event["name"] == name]


def builds(airflow: Cluster, name: str) -> list[str]:
    return [event["payload"]["last_updated_output_at"] for event in events(airflow, name)]


def rebuild(faraday: Sandbox, id_: str) -> str:
    return str(faraday.set_dataset(id_, status="ready")["last_updated_output_at"])


def succeeded(faraday: Sandbox, path: str, query: str = "") -> int:
    """Return the number of successful requests."""
    return sum(each["status"] == 200 and query in each["query"] for each in faraday.requests(path))


def loaded(airflow: Cluster) -> list[str]:
    return [build for _, value in airflow.api.returned("load_once") for build in value]


def test_sensors_watchers_and_webhooks_survive_the_end_of_the_triggerer(
    airflow: Cluster, faraday: Sandbox
) -> None:
    [endpoint] = faraday.webhooks.all()
    assert_sensors_share_each_poll(airflow, faraday)
    assert_builds_start_dags_by_webhook(airflow, faraday)
    faraday.webhooks.remove(endpoint["id"])
    assert_no_build_is_lost(airflow, faraday)
    assert_no_build_is_loaded_twice(airflow)

    faraday.set_dataset(VISITS, status="ready")
    airflow.until(lambda: airflow.states() == ["success"] * SENSORS, "all sensors succeed")
    assert {each["try_number"] for each in airflow.api.task_instances("waiting")} == {1}
    for entry, value in airflow.api.returned("waiting"):
        assert {tuple(dataset) for dataset in value} == {("name",) if entry["map_index"] % 2 else ("status",)}
    airflow.assert_stored_nowhere(faraday.api_key, endpoint["secret"])
    page = airflow.api.text("/api/v2/connections/faraday_default")
    assert page.startswith("200 ")
    assert "webhook_secret" in page
    assert endpoint["secret"] not in page


def assert_sensors_share_each_poll(airflow: Cluster, faraday: Sandbox) -> None:
    faraday.clear_requests()
    started = time.monotonic()
    airflow.until(lambda: succeeded(faraday, SENSORS_PATH) >= POLLS, f"there are {POLLS} polls")
    intervals = (time.monotonic() - started) / INTERVAL
    # A slow machine may poll less often, never more.
    assert len(faraday.requests(SENSORS_PATH)) <= 1.5 * intervals + 2


def assert_builds_start_dags_by_webhook(airflow: Cluster, faraday: Sandbox) -> None:
    """Assert that webhooks and watchers of an asset announce a build once."""
    built = [rebuild(faraday, RETURNS), rebuild(faraday, SUBSCRIBERS)]
    names = ("returns", "subscribers")
    airflow.until(
        lambda: [builds(airflow, name)[-1:] for name in names] == [[build] for build in built],
        "the webhooks have arrived",
    )
    assert all("webhook_id" in events(airflow, name)[-1] for name in names)
    # Their last builds may have been announced to the API server while it started.
    airflow.until(
        lambda: set(built) <= {build["last_updated_output_at"] for build in received(airflow)},
        "each build has started the DAG",
    )
    faraday.clear_requests()
    airflow.restart("triggerer")
    airflow.until(lambda: succeeded(faraday, "/v1/datasets", SUBSCRIBERS) > 0, "the watcher polls")
    # An event of that poll would be stored before this one.
    build = rebuild(faraday, CUSTOMERS)
    airflow.until(lambda: build in builds(airflow, "customers"), "a later build is announced")
    assert builds(airflow, "subscribers").count(built[1]) == 1


def received(airflow: Cluster) -> list[dict[str, Any]]:
    return [build for _, value in airflow.api.returned("on_either") for build in value]


def assert_no_build_is_lost(airflow: Cluster, faraday: Sandbox) -> None:
    """Assert that each build is announced to each asset of a dataset, whenever the triggerer ends."""
    sql = "SELECT classpath, kwargs FROM trigger ORDER BY id"
    triggers = airflow.query(sql)
    assert sum("Updated" in classpath for classpath, _ in triggers) == len(WATCHED) - 1
    names = ("customers", "scope_one", "scope_two")

    def is_announced(build: str) -> bool:
        return all(build in builds(airflow, name) for name in names)

    for delay in RESTARTS:
        faraday.clear_requests()
        build = rebuild(faraday, CUSTOMERS)
        airflow.until(lambda: succeeded(faraday, f"/v1/scopes/{SCOPE}/datasets") > 0, "the triggerer polls")
        time.sleep(delay)
        airflow.restart("triggerer")
        airflow.until(partial(is_announced, build), "the build is announced")
    airflow.end("triggerer", signal.SIGKILL)
    build, other = rebuild(faraday, CUSTOMERS), rebuild(faraday, SUBSCRIBERS)
    airflow.start("triggerer")
    airflow.until(partial(is_announced, build), "the build without a triggerer is announced")
    airflow.until(lambda: other in builds(airflow, "subscribers"), "the watcher announces the build")
    assert "webhook_id" not in events(airflow, "subscribers")[-1]
    # The deadline of the sensors has not changed.
    assert airflow.query(sql) == triggers
    assert airflow.states() == ["deferred"] * SENSORS


def assert_no_build_is_loaded_twice(airflow: Cluster) -> None:
    """Announce the first and the last build again."""
    announced = events(airflow, "customers")
    [asset] = [each for each in airflow.api.items("/api/v2/assets", "assets") if each["name"] == "customers"]
    for event in (announced[-1], announced[0]):
        runs = len(airflow.api.returned("load_once"))
        airflow.api.post("/api/v2/assets/events", {"asset_id": asset["id"], "extra": event})
        airflow.until(lambda runs=runs: len(airflow.api.returned("load_once")) > runs, "a run ends")
    assert announced[-1]["payload"]["last_updated_output_at"] in loaded(airflow)
    assert len(loaded(airflow)) == len({*loaded(airflow)})
