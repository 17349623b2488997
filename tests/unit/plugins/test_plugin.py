"""The plugin loads nothing until Airflow's API server asks for its application."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest

from support.forks import forking
from support.run_dag import AIRFLOW_3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.forks import Ran

PROGRAM = """
import logging, os, sys

logging.basicConfig(level=logging.WARNING)
os.environ["AIRFLOW__FARADAY__WEBHOOK_CONN_IDS"] = "{conn_ids}"
if "{missing}":
    sys.modules["{missing}"] = None  # importing it raises an error

from airflow import plugins_manager

plugins_manager.ensure_plugins_loaded()
import airflow_provider_faraday.plugins.webhooks as module

plugin = module.FaradayWebhooksPlugin()
loaded = sorted(name for name in sys.modules if name.startswith("airflow_provider_faraday."))
result = [loaded, [app["url_prefix"] for app in plugin.fastapi_apps]]
"""


@pytest.fixture(scope="module")
def load() -> Iterator[Callable[..., Ran]]:
    """Return a function that loads all plugins in a new process.

    The result has our modules before the API server asks for applications, and their URLs.
    """
    with forking("import airflow.plugins_manager") as run:
        yield lambda conn_ids="", missing="": run(PROGRAM.format(conn_ids=conn_ids, missing=missing))


def test_airflow_finds_the_plugin_by_its_entry_point() -> None:
    (found,) = entry_points(group="airflow.plugins").select(name="faraday_webhooks")

    assert found.load().name == "faraday_webhooks"


def test_without_the_setting_there_is_no_application(load: Callable[..., Ran]) -> None:
    assert load().result[1] == []


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no API server")
def test_only_the_api_server_loads_the_receiver(load: Callable[..., Ran]) -> None:
    modules, urls = load("faraday_default").result

    assert urls == ["/faraday"]
    assert [name for name in modules if name.partition(".")[2].startswith(("client", "plugins.rec"))] == []


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no API server")
def test_the_api_server_starts_if_the_receiver_cannot_be_imported(load: Callable[..., Ran]) -> None:
    ran = load("faraday_default", missing="airflow.assets.manager")

    assert ran.result[1] == []
    assert "Faraday's webhooks are off" in ran.output
    assert "import of airflow.assets.manager halted" in ran.output


@pytest.mark.skipif(AIRFLOW_3, reason="is about Airflow 2")
def test_airflow_2_logs_that_the_setting_has_no_effect(load: Callable[..., Ran]) -> None:
    assert "receiving webhooks requires Airflow 3.0 or later" in load("faraday_default").output
