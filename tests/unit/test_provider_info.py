"""What Airflow discovers of this provider is valid, found, and enough to draw the connection form."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
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


@pytest.fixture(scope="module")
def providers() -> ProvidersManager:
    return ProvidersManager()


def test_it_is_valid_by_airflows_own_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())

    jsonschema.validate(INFO, schema)


def test_airflow_finds_it_by_its_entry_point() -> None:
    (found,) = entry_points(group="apache_airflow_provider").select(
        value="airflow_provider_faraday.get_provider_info:get_provider_info"
    )

    assert found.load()() == INFO


def test_airflow_lists_the_provider_with_its_version(providers: ProvidersManager) -> None:
    assert providers.providers["airflow-provider-faraday"].version == airflow_provider_faraday.__version__


@pytest.mark.parametrize("section", ["hooks", "operators", "sensors", "triggers"])
def test_every_module_that_it_names_can_be_imported(section: str) -> None:
    for entry in INFO.get(section, []):
        for module in entry["python-modules"]:
            import_module(module)


def test_every_transfer_that_it_names_can_be_imported() -> None:
    for entry in INFO["transfers"]:
        import_module(entry["python-module"])


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


@dataclass
class Form:
    """What the form for a connection shows: its own fields, and what became of the standard ones."""

    extras: list[str]
    labels: dict[str, str]
    hidden: set[str]
    passwords: list[str]


# What Airflow 3 gives the browser. In a process of its own: it puts stand-ins for whole libraries in place.
FORM_OF_AIRFLOW_3 = """
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(form,) = [form for form in HookMetaService.hook_meta_data() if form.connection_type == "faraday"]
print(form.model_dump_json())
"""


@pytest.fixture(scope="module")
def form(providers: ProvidersManager) -> Form:
    if not AIRFLOW_3:
        prefix = "extra__faraday__"
        shown = [name for name in providers.connection_form_widgets if name.startswith(prefix)]
        behaviour = providers.field_behaviours["faraday"]
        return Form(
            [name.removeprefix(prefix) for name in shown],
            behaviour["relabeling"],
            set(behaviour["hidden_fields"]),
            [
                name.removeprefix(prefix)
                for name in shown
                if providers.connection_form_widgets[name].field.field_class.__name__ == "PasswordField"
            ],
        )
    ran = subprocess.run(
        [sys.executable, "-c", FORM_OF_AIRFLOW_3], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    given = json.loads(ran.stdout.splitlines()[-1])
    standard = {name.removeprefix("url_"): field for name, field in given["standard_fields"].items() if field}
    return Form(
        list(given["extra_fields"]),
        {name: field["title"] for name, field in standard.items() if field["title"]},
        {name for name, field in standard.items() if field["hidden"]},
        [
            name
            for name, field in given["extra_fields"].items()
            if field["schema"].get("format") == "password"
        ],
    )


def test_the_form_shows_every_extra_under_its_own_name(form: Form) -> None:
    assert form.extras == EXTRAS


def test_the_form_masks_the_secret_of_webhooks(form: Form) -> None:
    assert form.passwords == ["webhook_secret"]


def test_the_setting_is_known_to_airflow_and_empty() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "airflow", "config", "get-value", "faraday", "webhook_conn_ids"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )

    # Airflow 3.0 prints log lines before it.
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, ""), ran.stderr


def test_the_form_names_the_key_and_the_base_url_and_hides_what_is_not_used(form: Form) -> None:
    assert form.labels == {"password": "API key", "host": "Base URL"}
    # Only Airflow 2 can hide the text field of all extras.
    assert form.hidden == {"schema", "login", "port", *(() if AIRFLOW_3 else ("extra",))}
