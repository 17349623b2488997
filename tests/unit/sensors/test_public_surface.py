"""Names and methods that sensors and triggers do not have anymore."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import PokeReturnValue

from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.operators.resources import ForceUpdateResourcesOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from support.ids import CUSTOMERS, ORDERS

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox


@pytest.mark.parametrize("default_deferrable", ["True", "False"])
def test_a_poke_does_not_defer(
    sandbox: Sandbox,
    faraday_default: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    default_deferrable: str,
) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", default_deferrable)
    sandbox.set_dataset(ORDERS, status="running")
    poked = DatasetsReadySensor(task_id="gate", datasets=[ORDERS]).poke({})
    assert isinstance(poked, PokeReturnValue)
    assert not poked.is_done
    sandbox.set_dataset(ORDERS, status="ready")
    assert DatasetsReadySensor(task_id="gate", datasets=[ORDERS]).poke({}).is_done


def test_there_is_one_trigger_for_deferred_waits() -> None:
    assert not hasattr(
        importlib.import_module("airflow_provider_faraday.triggers.datasets"), "DatasetsReadyTrigger"
    )


@pytest.mark.parametrize("kind", [ResourcesReadySensor, ForceUpdateResourcesOperator])
def test_the_argument_for_ids_has_one_name(kind: Any) -> None:
    assert "resources" not in inspect.signature(kind).parameters
    with pytest.raises((TypeError, FaradayInputError)):
        kind(task_id="gate", resource_type="datasets", resources=[CUSTOMERS])
