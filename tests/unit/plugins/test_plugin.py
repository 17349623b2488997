"""What Airflow loads of the plugin: nothing to speak of, until its API server asks for the application."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from support.run_dag import AIRFLOW_3

PROGRAM = """
import json, logging, sys

logging.basicConfig(level=logging.WARNING)
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
import airflow_provider_faraday.plugins.webhooks as module
plugin = module.FaradayWebhooksPlugin()
loaded = sorted(name for name in sys.modules if name.startswith("airflow_provider_faraday."))
apps = getattr(plugin, "fastapi_apps", []) if sys.argv[1] == "apps" else []
print(json.dumps([loaded, [app["url_prefix"] for app in apps]]))
"""


def loaded(what: str, **env: str) -> tuple[list[str], list[str], str]:
    """Load all plugins in a process of their own. Return our modules, the applications and the log."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, what],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    modules, apps = json.loads(ran.stdout.splitlines()[-1])
    return modules, apps, ran.stdout + ran.stderr


def test_airflow_finds_the_plugin_by_its_entry_point() -> None:
    (found,) = entry_points(group="airflow.plugins").select(name="faraday_webhooks")

    assert found.load().name == "faraday_webhooks"


def test_without_the_setting_there_is_no_application() -> None:
    modules, apps, _ = loaded("apps")

    assert apps == []
    assert "airflow_provider_faraday.plugins.receiver" not in modules


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no API server")
def test_only_the_api_server_loads_the_application() -> None:
    setting = {"AIRFLOW__FARADAY__WEBHOOK_CONN_IDS": "faraday_default"}
    modules, _, _ = loaded("plugins", **setting)

    assert "airflow_provider_faraday.plugins.webhooks" in modules
    assert [name for name in modules if name.partition(".")[2].startswith(("client", "plugins.rec"))] == []
    assert loaded("apps", **setting)[1] == ["/faraday"]


API_SERVER = """
import logging, sys

logging.basicConfig(level=logging.WARNING)
from airflow.api_fastapi.app import init_plugins
from fastapi import FastAPI

sys.modules[sys.argv[1]] = None  # importing it raises an error
app = FastAPI()
init_plugins(app)
print("started", [route.path for route in app.routes])
"""


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no API server")
@pytest.mark.parametrize("module", ["aiohttp", "airflow.assets.manager"])
def test_the_api_server_starts_although_the_receiver_cannot_be_imported(module: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", API_SERVER, module],
        env={**os.environ, "AIRFLOW__FARADAY__WEBHOOK_CONN_IDS": "faraday_default"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stderr
    [started] = [line for line in ran.stdout.splitlines() if line.startswith("started")]
    assert "/faraday" not in started
    log = ran.stdout + ran.stderr
    assert "Faraday's webhooks are off" in log
    assert f"import of {module} halted" in log


@pytest.mark.skipif(AIRFLOW_3, reason="is about Airflow 2")
def test_airflow_2_says_that_the_setting_has_no_effect() -> None:
    *_, log = loaded("plugins", AIRFLOW__FARADAY__WEBHOOK_CONN_IDS="faraday_default")

    assert "receiving webhooks requires Airflow 3.0 or later" in log
