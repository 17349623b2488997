"""The pytest plugin, as tests of users use it: each test here runs pytest on files of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import airflow
import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

ACCOUNT = {"datasets": [{"id": "d1111111-0000-4000-8000-000000000001", "name": "only"}]}
IDS = """
import os

ORDERS = "d0000000-0000-4000-8000-000000000002"
TARGET = "70000000-0000-4000-8000-000000000001"
"""
# Airflow takes seconds to import, and what these tests are about does not need it.
WITHOUT_AIRFLOW = """
import pytest

@pytest.fixture
def faraday_poke_interval():
    return None
"""

# Airflow warns of itself when it runs a DAG: 3.0 of FastAPI, 3.1 of a module of its standard provider.
OWN_WARNINGS = {"3.0": "DeprecationWarning", "3.1": "FutureWarning"}
IGNORED = [
    f"-Wignore::{name}" for minor, name in OWN_WARNINGS.items() if airflow.__version__.startswith(minor)
]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("AIRFLOW_CONN_FARADAY_DEFAULT", raising=False)
    return pytester


def test_the_account_is_built_and_the_airflow_connection_points_to_it(run: pytest.Pytester) -> None:
    run.makepyfile(
        IDS
        + """
from datetime import UTC, datetime, timedelta

from airflow_provider_faraday.sensors.targets import TargetsReadySensor

def sensor(**arguments):
    return TargetsReadySensor(task_id="wait", targets=[TARGET], include_upstream=True, **arguments)

def test_ready(faraday_sandbox):
    assert sensor().poke({}).is_done
    assert {request["status"] for request in faraday_sandbox.requests()} == {200}
    assert faraday_sandbox.rebuilds(TARGET) == 0

def test_waits(faraday_sandbox):
    faraday_sandbox.set_dataset(ORDERS, status="running")
    assert not sensor().poke({}).is_done
    faraday_sandbox.set_dataset(ORDERS, status="ready")
    # What is downstream is rebuilt, too.
    faraday_sandbox.advance(60)
    assert sensor().poke({}).is_done

def test_the_builds_are_in_the_past(faraday_sandbox):
    assert abs(faraday_sandbox.now() - datetime.now(UTC)) < timedelta(minutes=1)
    assert not sensor(updated_after=datetime.now(UTC) - timedelta(minutes=10)).poke({}).is_done
"""
    )

    run.runpytest_subprocess("-W", "error", *IGNORED).assert_outcomes(passed=3)


@pytest.mark.once
def test_each_test_starts_with_the_initial_state_of_the_same_server(run: pytest.Pytester) -> None:
    run.makeconftest(WITHOUT_AIRFLOW)
    run.makepyfile(
        IDS
        + """
import requests

def test_changes_everything(faraday_sandbox, request):
    request.config.cache.set("url", faraday_sandbox.url)
    faraday_sandbox.set_dataset(ORDERS, status="error")
    faraday_sandbox.fail_next(times=99, status=503)
    requests.get(faraday_sandbox.url, timeout=10)
    faraday_sandbox.rotate_key("another")
    faraday_sandbox.set(page_size=1)
    faraday_sandbox.stop()

def test_notices_nothing(faraday_sandbox, request):
    assert faraday_sandbox.url == request.config.cache.get("url", None)
    assert faraday_sandbox.requests() == []
    assert faraday_sandbox.page_size is None
    key = {"Authorization": f"Bearer {faraday_sandbox.api_key}"}
    found = requests.get(f"{faraday_sandbox.url}/datasets/{ORDERS}", headers=key, timeout=10)
    assert found.json()["status"] == "ready"

def test_without_the_fixture():
    assert "AIRFLOW_CONN_FARADAY_DEFAULT" not in os.environ
"""
    )

    run.runpytest_subprocess().assert_outcomes(passed=3)


@pytest.mark.once
def test_account_speed_age_and_connection_id_can_be_overridden_anywhere(
    run: pytest.Pytester, tmp_path: Path
) -> None:
    file = tmp_path / "account.json"
    file.write_text(json.dumps(ACCOUNT))
    run.makeconftest(
        WITHOUT_AIRFLOW
        + f"""
from pathlib import Path

@pytest.fixture(scope="session")
def faraday_sandbox_account():
    return Path({str(file)!r})
"""
    )
    run.makepyfile(
        IDS
        + f"""
import json
import pytest

def names(sandbox):
    return [dataset["name"] for dataset in sandbox.datasets()]

def test_account_of_the_session(faraday_sandbox):
    assert names(faraday_sandbox) == ["only"]

@pytest.mark.parametrize("faraday_sandbox_account", [{ACCOUNT!r} | {{"page_size": 7}}])
def test_account_of_a_test(faraday_sandbox):
    assert faraday_sandbox.page_size == 7

class TestOfAClass:
    @pytest.fixture
    def faraday_sandbox_account(self):
        return None

    @pytest.fixture
    def faraday_conn_id(self):
        return "faraday_eu"

    def test_account_and_connection(self, faraday_sandbox):
        assert "orders" in names(faraday_sandbox)
        connection = json.loads(os.environ["AIRFLOW_CONN_FARADAY_EU"])
        assert connection["host"] == faraday_sandbox.url
        assert "AIRFLOW_CONN_FARADAY_DEFAULT" not in os.environ

@pytest.mark.parametrize("faraday_sandbox_age", [0])
@pytest.mark.parametrize("faraday_sandbox_speed", [0.001])
def test_speed_and_age(faraday_sandbox):
    (dataset,) = faraday_sandbox.datasets()
    assert dataset["status"] == "new"
    assert faraday_sandbox.settings()["speed"] == 0.001
"""
    )

    run.runpytest_subprocess().assert_outcomes(passed=4)


def test_tasks_poll_and_retry_without_waiting_while_the_fixture_is_used(run: pytest.Pytester) -> None:
    run.makepyfile(
        IDS
        + """
import time

import pytest
from airflow_provider_faraday.api import retries
from airflow_provider_faraday.operators.datasets import ForceUpdateDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.waiting import feed

WAIT = DatasetsReadySensor(task_id="wait", datasets=[ORDERS], poke_interval=600)
UPDATE = ForceUpdateDatasetsOperator(task_id="update", datasets=[ORDERS], poke_interval=500)
QUICK = DatasetsReadySensor(task_id="quick", datasets=[ORDERS], poke_interval=0.02)
BACKOFF, SETTLE_SECONDS = retries.BACKOFF, feed.SETTLE_SECONDS

def intervals():
    return WAIT.poke_interval, UPDATE.poke_interval, QUICK.poke_interval

def test_with(faraday_sandbox, caplog):
    assert intervals() == (0.1, 0.1, 0.02)
    assert DatasetsReadySensor(task_id="new", datasets=[ORDERS]).poke_interval == 0.1
    faraday_sandbox.fail_next(times=3, status=503)
    assert WAIT.poke({}).is_done
    assert [request["status"] for request in faraday_sandbox.requests()] == [503, 503, 503, 200]
    assert "Attempt 3 failed, retrying in 0.1 s" in caplog.text
    assert feed.SETTLE_SECONDS == 0.1

def test_without():
    assert intervals() == (600, 500, 0.02)
    assert not hasattr(DatasetsReadySensor, "poke_interval")
    assert (retries.BACKOFF, feed.SETTLE_SECONDS) == (BACKOFF, SETTLE_SECONDS)

@pytest.mark.parametrize("faraday_poke_interval", [None])
def test_none(faraday_sandbox):
    assert intervals() == (600, 500, 0.02)
    assert (retries.BACKOFF, feed.SETTLE_SECONDS) == (BACKOFF, SETTLE_SECONDS)

@pytest.mark.parametrize("faraday_poke_interval", [60])
def test_another(faraday_sandbox):
    assert intervals() == (60, 60, 0.02)
"""
    )

    run.runpytest_subprocess().assert_outcomes(passed=4)


@pytest.mark.once
@pytest.mark.parametrize(("before", "after"), [(None, "127.0.0.1"), ("a.test", "a.test,127.0.0.1")])
def test_requests_to_it_do_not_go_through_a_proxy(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    if before:
        monkeypatch.setenv("NO_PROXY", before)
    run.makeconftest(WITHOUT_AIRFLOW)
    run.makepyfile(
        f"""
import os

import requests

def test_it(faraday_sandbox):
    assert requests.get(faraday_sandbox.url, timeout=10).status_code == 401
    assert os.environ["no_proxy"] == {after!r}
"""
    )

    run.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.once
def test_processes_of_xdist_do_not_share_a_sandbox(run: pytest.Pytester) -> None:
    run.makeconftest(WITHOUT_AIRFLOW)
    run.makepyfile(
        IDS
        + """
import time
from pathlib import Path

import pytest

@pytest.mark.parametrize("number", range(2))
def test_alone(faraday_sandbox, number, tmp_path_factory):
    faraday_sandbox.set_dataset(ORDERS, row_count=number)
    shared = tmp_path_factory.getbasetemp().parent
    (shared / f"{number}.txt").write_text(faraday_sandbox.url)
    other = shared / f"{1 - number}.txt"
    deadline = time.monotonic() + 60
    while not other.exists() or not other.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert other.read_text() != faraday_sandbox.url
    assert faraday_sandbox.dataset(ORDERS)["row_count"] == number
"""
    )

    run.runpytest_subprocess("-n2").assert_outcomes(passed=2)


@pytest.mark.once
def test_a_project_that_does_not_use_it_loads_nothing_but_the_fixtures(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
import sys

def test_nothing(request):
    request.config.cache.set("loaded", sorted(sys.modules))
"""
    )
    loaded = []
    for options in ([], ["-p", "no:faraday"]):
        run.runpytest_subprocess(*options).assert_outcomes(passed=1)
        loaded.append(set(json.loads((run.path / ".pytest_cache/v/loaded").read_text())))
    with_plugin, without = loaded

    assert with_plugin - without == {"airflow_provider_faraday", "airflow_provider_faraday.pytest_plugin"}
    assert not {"airflow", "fastapi", "msgspec", "uvicorn"} & with_plugin


@pytest.mark.once
def test_it_can_be_switched_off(run: pytest.Pytester) -> None:
    run.makepyfile("def test_it(faraday_sandbox): ...")

    result = run.runpytest_subprocess("-p", "no:faraday")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("*fixture 'faraday_sandbox' not found*")


@pytest.mark.once
@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_without_the_extra_it_says_what_to_install(run: pytest.Pytester, missing: str) -> None:
    run.makeconftest(WITHOUT_AIRFLOW + f"import sys\nsys.modules[{missing!r}] = None\n")
    run.makepyfile("def test_it(faraday_sandbox): ...")

    result = run.runpytest_subprocess()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            f"*The sandbox requires {missing}, which is not installed.",
            "*Run: pip install 'airflow-provider-faraday[[]sandbox]'*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*ModuleNotFoundError*")


@pytest.mark.once
def test_the_fixtures_are_listed_with_what_they_return(run: pytest.Pytester) -> None:
    shown = run.runpytest_subprocess("--fixtures").stdout.str()

    for name in ("sandbox", "sandbox_account", "sandbox_speed", "sandbox_age", "conn_id", "poke_interval"):
        assert f"\nfaraday_{name} -- " in shown.replace("[function scope] ", "")
    assert "_faraday_server" not in shown
