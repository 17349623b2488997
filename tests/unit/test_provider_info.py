"""What Airflow discovers of this provider is valid, found, and enough to draw the connection form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager

import airflow_provider_faraday
from airflow_provider_faraday.get_provider_info import get_provider_info
from support.run_dag import AIRFLOW_3

INFO = get_provider_info()
EXTRAS = ["timeout", "max_attempts", "proxy", "verify", "allow_http", "webhook_secret"]
SECRETS = ["webhook_secret"]
LABELS = {"password": "API key", "host": "Base URL"}
HIDDEN = {"schema", "login", "port"}


@pytest.fixture(scope="module")
def providers() -> ProvidersManager:
    return ProvidersManager()


def test_it_is_valid_by_airflows_own_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())

    jsonschema.validate(INFO, schema)


def test_airflow_lists_the_provider_with_its_version(providers: ProvidersManager) -> None:
    assert providers.providers["airflow-provider-faraday"].version == airflow_provider_faraday.__version__


def test_the_setting_is_known_to_airflow_and_empty(providers: ProvidersManager) -> None:
    settings = dict(providers.provider_configs)["airflow-provider-faraday"]

    assert settings["faraday"]["options"]["webhook_conn_ids"]["default"] == ""


def test_the_connection_type_belongs_to_the_hook(providers: ProvidersManager) -> None:
    try:
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime
    except ImportError:  # before 3.2
        hook = providers.hooks["faraday"]
    else:
        hook = ProvidersManagerTaskRuntime().hooks["faraday"]

    assert (hook.hook_name, hook.connection_id_attribute_name) == ("Faraday", "faraday_conn_id")
    assert hook.hook_class_name == "airflow_provider_faraday.hooks.faraday.FaradayHook"
    assert hook.connection_testable


# What Airflow 3 gives the browser. In a process of its own: it puts stand-ins for whole libraries in place.
FORM_OF_AIRFLOW_3 = """
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(form,) = [form for form in HookMetaService.hook_meta_data() if form.connection_type == "faraday"]
print(form.model_dump_json())
"""


@pytest.mark.skipif(not AIRFLOW_3, reason="the form of Airflow 3")
def test_the_form_of_airflow_3() -> None:
    command = [sys.executable, "-c", FORM_OF_AIRFLOW_3]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    form = json.loads(ran.stdout.splitlines()[-1])

    extras = form["extra_fields"]
    assert list(extras) == EXTRAS
    assert [name for name in extras if extras[name]["schema"].get("format") == "password"] == SECRETS
    standard = {name.removeprefix("url_"): field for name, field in form["standard_fields"].items() if field}
    assert {name: field["title"] for name, field in standard.items() if field["title"]} == LABELS
    assert {name for name, field in standard.items() if field["hidden"]} == HIDDEN


@pytest.mark.skipif(AIRFLOW_3, reason="the form of Airflow 2")
def test_the_form_of_airflow_2(providers: ProvidersManager) -> None:
    prefix = "extra__faraday__"
    widgets = {
        name.removeprefix(prefix): widget.field.field_class.__name__
        for name, widget in providers.connection_form_widgets.items()
        if name.startswith(prefix)
    }
    behaviour = providers.field_behaviours["faraday"]

    assert list(widgets) == EXTRAS
    assert [name for name in widgets if widgets[name] == "PasswordField"] == SECRETS
    assert behaviour["relabeling"] == LABELS
    # Airflow 3 cannot hide the text field of all extras.
    assert {*behaviour["hidden_fields"]} == HIDDEN | {"extra"}
