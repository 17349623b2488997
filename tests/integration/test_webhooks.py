"""DAGs that start by webhook, with a real API server, scheduler and triggerer, beside watchers that poll."""

from __future__ import annotations

import json
import secrets
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.webhooks import EndpointSpec
from support.cluster import cluster
from support.ids import CUSTOMERS, ORDERS, SUBSCRIBERS
from support.run_dag import AIRFLOW_3_3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.cluster import Cluster

pytestmark = [
    pytest.mark.skipif(not AIRFLOW_3_3, reason="Earlier Airflow keeps no asset state; see the unit tests."),
    pytest.mark.timeout(480),
]

SAFETY_NET, RACE = 5.0, 0.5

# Three datasets: one without a watcher, one with a slow one, one with a watcher as fast as the webhook.
DAG_FILE = f"""
from airflow.sdk import DAG, task

from airflow_provider_faraday.assets.datasets import dataset_asset

for name, asset in {{
    "orders": dataset_asset("{ORDERS}", name="orders"),
    "subscribers": dataset_asset("{SUBSCRIBERS}", name="subscribers", watch_every={SAFETY_NET}),
    "customers": dataset_asset("{CUSTOMERS}", name="customers", watch_every={RACE}),
}}.items():
    with DAG(f"on_{{name}}", schedule=[asset], catchup=False):

        @task
        def updates(triggering_asset_events):
            return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]

        updates()
"""


@pytest.fixture
def faraday() -> Iterator[Sandbox]:
    with Sandbox(speed=20, api_key=f"key-{secrets.token_hex(16)}") as sandbox:
        for id_ in (CUSTOMERS, ORDERS, SUBSCRIBERS):
            sandbox.set_dataset(id_, status="ready")
        yield sandbox


@pytest.fixture
def airflow(another_airflow_home: Path, tmp_path: Path, faraday: Sandbox) -> Iterator[Cluster]:
    """Return a deployment that watches the assets and receives webhooks."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "on_update.py").write_text(DAG_FILE)
    with cluster(another_airflow_home, tmp_path / "dags") as created:
        created.env["AIRFLOW__FARADAY__WEBHOOK_CONN_IDS"] = "faraday_default"
        url = f"{created.api.url}/faraday/webhooks/faraday_default"
        endpoint = faraday.webhooks.create(
            EndpointSpec(url=url, enabled_events=["resource.ready_with_update", "resource.errored"])
        )
        extra = {"webhook_secret": endpoint["secret"]}
        created.store_connection(host=faraday.url, password=faraday.api_key, extra=json.dumps(extra))
        created.start_all()
        watched = "SELECT count(DISTINCT asset_id) FROM asset_state_store WHERE key NOT LIKE '%.webhook'"
        created.until(lambda: created.query(watched) == [(2,)], 120, "two assets are watched")
        loaded = "SELECT count(*) FROM dag"
        created.until(lambda: created.query(loaded) == [(3,)], 60, "the DAGs are loaded")
        yield created


def events(airflow: Cluster, name: str) -> list[dict[str, Any]]:
    found = airflow.api.items("/api/v2/assets/events", "asset_events", order_by="timestamp")
    return [event["extra"] for event in found if event["name"] == name]


def builds(airflow: Cluster, name: str) -> list[str]:
    return [event["payload"]["last_updated_output_at"] for event in events(airflow, name)]


def rebuild(faraday: Sandbox, id_: str) -> str:
    return str(faraday.set_dataset(id_, status="ready")["last_updated_output_at"])


def test_a_build_starts_a_dag_by_webhook_once_whatever_watchers_do(
    airflow: Cluster, faraday: Sandbox
) -> None:
    secret = faraday.webhooks.all()[0]["secret"]
    # Without a watcher, the webhook alone starts the DAG.
    before = len(events(airflow, "orders"))
    first = rebuild(faraday, ORDERS)
    succeeded = "SELECT count(*) FROM dag_run WHERE dag_id = 'on_orders' AND state = 'success'"
    airflow.until(lambda: airflow.query(succeeded) != [(0,)], 60, "the DAG has run")
    [event] = events(airflow, "orders")[before:]
    assert (event["payload"]["last_updated_output_at"], event["payload"]["id"]) == (first, ORDERS)
    [(_, value)] = airflow.api.returned("on_orders")
    assert value == [event["payload"]]

    # A watcher that comes second sees that the build was announced.
    count = len(events(airflow, "subscribers"))
    polls = "/v1/datasets"

    def polled(times: int) -> bool:
        found = [each for each in faraday.requests(polls) if SUBSCRIBERS in each["query"]]
        return len([each for each in found if CUSTOMERS not in each["query"]]) >= times

    faraday.clear_requests()
    airflow.until(lambda: polled(1), 30, "the slow watcher has just polled")
    second = rebuild(faraday, SUBSCRIBERS)
    airflow.until(lambda: len(events(airflow, "subscribers")) > count, 30, "the webhook has arrived")
    assert "webhook_id" in events(airflow, "subscribers")[-1]
    faraday.clear_requests()
    airflow.until(lambda: polled(2), 60, "the slow watcher has polled again")
    time.sleep(2)
    assert builds(airflow, "subscribers")[count:] == [second]

    # Without the webhook, it announces the build itself; and the webhook that comes later does not.
    endpoint_id = faraday.webhooks.all()[0]["id"]
    faraday.webhooks.remove(endpoint_id)
    third = rebuild(faraday, SUBSCRIBERS)
    airflow.until(lambda: third in builds(airflow, "subscribers"), 60, "the watcher announces the build")
    assert "webhook_id" not in events(airflow, "subscribers")[-1]
    airflow.assert_stored_nowhere(secret, faraday.api_key)
    page = airflow.api.text("/api/v2/connections/faraday_default")
    assert page.startswith("200 ")
    assert "webhook_secret" in page
    assert secret not in page
    assert "faraday_webhooks" in airflow.api.text("/api/v2/plugins")


@pytest.mark.once
def test_the_last_build_is_announced_if_two_triggerers_and_a_webhook_race(
    airflow: Cluster, faraday: Sandbox
) -> None:
    airflow.start("triggerer-2")
    known = set(builds(airflow, "customers"))
    # Sent before the API server had started.
    early = {each["message_id"] for each in faraday.webhook_deliveries()}
    made = []
    for number in range(12):
        made.append(rebuild(faraday, CUSTOMERS))
        time.sleep(RACE * (0.4 + number % 3))
        if number == 6:
            airflow.end("triggerer", signal.SIGKILL)
    # Whoever looks at a build that was soon followed by another sees the latter.
    airflow.until(lambda: made[-1] in builds(airflow, "customers"), 60, "the last build is announced")
    # The second triggerer takes over.
    time.sleep(15)

    announced = [build for build in builds(airflow, "customers") if build not in known]
    assert set(announced) <= set(made)
    # A race can announce a build twice: the watcher has seen it before the webhook's event was stored.
    assert max(map(announced.count, made)) <= 2
    delivered = {each["message_id"] for each in faraday.webhook_deliveries() if each["status"] == 200}
    assert delivered | early == {each["message_id"] for each in faraday.webhook_deliveries()} | early
