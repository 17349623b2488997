"""Public classes and functions show all of their own arguments, and document each of them."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator

import airflow_provider_faraday
from airflow_provider_faraday.waiting.arguments import _CHECKS

ROOMS = ("assets", "operators", "sensors", "transfers", "triggers")
# What classes for one type of resource decide themselves.
FIXED = {"resource_type", "resource_ids", "connection_id", "scope_id"}
TEMPLATED = {*_CHECKS, "faraday_conn_id"}


def public() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for room in ROOMS:
        package = import_module(f"{airflow_provider_faraday.__name__}.{room}")
        for name in sorted({each.name for each in iter_modules(package.__path__)} - {"outlets"}):
            module = import_module(f"{package.__name__}.{name}")
            found |= {n: each for n, each in vars(module).items() if is_defined_in(module, each)}
    return {name: each for name, each in found.items() if ":param" in (each.__doc__ or "")}


def is_defined_in(module: Any, thing: Any) -> bool:
    return getattr(thing, "__module__", "") == module.__name__ and not thing.__name__.startswith("_")


PUBLIC = public()
assert PUBLIC.keys() >= {"DatasetsReadySensor", "UploadFileOperator", "DatasetUpdatedTrigger"}
CLASSES = [thing for thing in PUBLIC.values() if inspect.isclass(thing)]


def own_arguments(thing: Any) -> list[str]:
    parameters = inspect.signature(thing).parameters.values()
    return [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]


@pytest.mark.parametrize("thing", PUBLIC.values(), ids=PUBLIC)
def test_each_argument_is_documented_in_its_order(thing: Any) -> None:
    assert re.findall(r"^ *:param (\w+):", thing.__doc__, re.MULTILINE) == own_arguments(thing)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_no_argument_is_hidden_in_kwargs(cls: Any) -> None:
    bases = [base for base in cls.__mro__ if base.__module__.startswith("airflow_provider_faraday")]
    inherited = {argument for base in bases if base in CLASSES for argument in own_arguments(base)}
    assert inherited - set(own_arguments(cls)) <= FIXED


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if issubclass(cls, BaseOperator)])
def test_arguments_are_templated(cls: Any) -> None:
    templated = {*TEMPLATED, getattr(cls, "_ids_argument", "")}
    assert templated & set(own_arguments(cls)) <= set(cls.template_fields) <= set(own_arguments(cls))
