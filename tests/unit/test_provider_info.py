"""What Airflow discovers of this provider is valid, found, and enough to draw the connection form."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager

import airflow_provider_faraday
from airflow_provider_faraday.get_provider_info import get_provider_info

INFO = get_provider_info()
EXTRAS = ["timeout", "max_attempts", "proxy", "verify", "allow_http"]


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


def test_the_form_shows_every_extra_under_its_own_name(providers: ProvidersManager) -> None:
    shown = [name for name in providers.connection_form_widgets if name.startswith("extra__faraday__")]

    assert [name.removeprefix("extra__faraday__") for name in shown] == EXTRAS


def test_the_form_names_the_key_and_the_base_url_and_hides_what_is_not_used(
    providers: ProvidersManager,
) -> None:
    behaviour: dict[str, Any] = {
        name.replace("-", "_"): value for name, value in providers.field_behaviours["faraday"].items()
    }

    assert behaviour["relabeling"] == {"password": "API key", "host": "Base URL"}
    assert set(behaviour["hidden_fields"]) == {"schema", "login", "port", "extra"}
