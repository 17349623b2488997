"""The pytest plugin: its fixtures, and what it leaves alone."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_faraday import pytest_plugin
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from support.ids import ORDERS, TARGET

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

pytest_plugins = ["pytester"]

# The plugin's own defaults, not those of our conftest.
faraday_sandbox_age = pytest_plugin.faraday_sandbox_age
faraday_poke_interval = pytest_plugin.faraday_poke_interval

ACCOUNT = {"datasets": [{"name": "only"}], "page_size": 7}


def is_done(**arguments: Any) -> bool:
    sensor = TargetsReadySensor(task_id="wait", targets=[TARGET], include_upstream=True, **arguments)
    return sensor.poke({}).is_done


def names(sandbox: Sandbox) -> list[str]:
    return [dataset["name"] for dataset in sandbox.datasets()]


def test_the_account_is_built_and_the_airflow_connection_points_to_it(faraday_sandbox: Sandbox) -> None:
    assert is_done()
    assert {request["status"] for request in faraday_sandbox.requests()} == {200}
    assert faraday_sandbox.rebuilds(TARGET) == 0
    assert not is_done(updated_after=datetime.now(UTC) - timedelta(minutes=10))


@pytest.mark.once
def test_a_server_is_reset_for_each_test_and_replaced_for_other_options() -> None:
    server = pytest_plugin._Server()
    account: dict[str, Any] = {"datasets": [{"name": "only"}]}
    sandbox = server.serve(account=account)
    sandbox.add_dataset(name="another")
    sandbox.stop()

    assert server.serve(account=account) is sandbox
    assert (names(sandbox), requests.get(sandbox.url, timeout=10).status_code) == (["only"], 401)
    # Changed in place.
    account["datasets"].append({"name": "another"})
    assert names(server.serve(account=account)) == ["only", "another"]
    server.stop()


@pytest.mark.once
@pytest.mark.parametrize("faraday_conn_id", ["faraday_eu"])
@pytest.mark.parametrize("faraday_sandbox_age", [0])
@pytest.mark.parametrize("faraday_sandbox_speed", [0.001])
@pytest.mark.parametrize("faraday_sandbox_account", [ACCOUNT])
def test_account_speed_age_and_connection_id_can_be_overridden(faraday_sandbox: Sandbox) -> None:
    (dataset,) = faraday_sandbox.datasets()
    assert (dataset["name"], dataset["status"]) == ("only", "new")
    assert faraday_sandbox.settings()["page_size"] == 7
    assert faraday_sandbox.settings()["speed"] == 0.001
    assert json.loads(os.environ["AIRFLOW_CONN_FARADAY_EU"])["host"] == faraday_sandbox.url


@pytest.mark.once
@pytest.mark.parametrize(("before", "after"), [("", "127.0.0.1"), ("a.test", "a.test,127.0.0.1")])
def test_requests_to_it_do_not_go_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, before: str, after: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", before)
    monkeypatch.delenv("no_proxy", raising=False)
    sandbox = request.getfixturevalue("faraday_sandbox")
    assert requests.get(sandbox.url, timeout=10).status_code == 401
    assert os.environ["no_proxy"] == after


INTERVALS = f"""
import os

import pytest
from airflow_provider_faraday.api import retries
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.waiting import feed

ORDERS = "{ORDERS}"
WAIT = DatasetsReadySensor(task_id="wait", datasets=[ORDERS], poke_interval=600)
UPDATE = ForceUpdateDatasetsOperator(task_id="update", datasets=[ORDERS], poke_interval=500)
QUICK = DatasetsReadySensor(task_id="quick", datasets=[ORDERS], poke_interval=0.02)
BEFORE = retries.BACKOFF, feed.SETTLE_SECONDS

def intervals():
    return WAIT.poke_interval, UPDATE.poke_interval, QUICK.poke_interval

def test_with(faraday_sandbox, caplog):
    assert intervals() == (0.1, 0.1, 0.02)
    assert DatasetsReadySensor(task_id="new", datasets=[ORDERS]).poke_interval == 0.1
    faraday_sandbox.fail_next(times=3, status=503)
    assert WAIT.poke({{}}).is_done
    assert [request["status"] for request in faraday_sandbox.requests()] == [503, 503, 503, 200]
    assert "Attempt 3 failed, retrying in 0.1 s" in caplog.text
    assert feed.SETTLE_SECONDS == 0.1

def test_without():
    assert intervals() == (600, 500, 0.02)
    assert not hasattr(DatasetsReadySensor, "poke_interval")
    assert (retries.BACKOFF, feed.SETTLE_SECONDS) == BEFORE
    assert "AIRFLOW_CONN_FARADAY_DEFAULT" not in os.environ

@pytest.mark.parametrize("faraday_poke_interval", [None])
def test_none(faraday_sandbox):
    assert intervals() == (600, 500, 0.02)
    assert (retries.BACKOFF, feed.SETTLE_SECONDS) == BEFORE
"""


def test_tasks_poll_and_retry_without_waiting_while_the_fixture_is_used(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_FARADAY_DEFAULT", raising=False)
    pytester.makepyfile(INTERVALS)

    pytester.runpytest_inprocess().assert_outcomes(passed=3)


@pytest.mark.once
def test_a_project_that_does_not_use_it_loads_nothing_but_the_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import sys

def test_nothing():
    loaded = {name for name in sys.modules if name.startswith("airflow_provider_faraday")}
    assert loaded == {"airflow_provider_faraday", "airflow_provider_faraday.pytest_plugin"}
    assert not {"airflow", "fastapi", "msgspec", "uvicorn"} & sys.modules.keys()
"""
    )

    pytester.runpytest_subprocess().assert_outcomes(passed=1)
