"""Deprecation warnings that our code causes are errors; those that libraries cause are not."""

from __future__ import annotations

import warnings

import pytest

# A warning is about the module that called the deprecated function.
CALLERS = {
    "airflow_provider_faraday.sensors.datasets": True,
    "tests.unit.sensors.test_sensors": True,
    "airflow.models.dag": False,
    "sqlalchemy.orm": False,
}


class RemovedSoonWarning(DeprecationWarning):
    """A subclass, like those of Airflow and SQLAlchemy."""


def is_error(caller: str, category: type[Warning]) -> bool:
    """Return whether a warning about a module is raised as an error."""
    try:
        # Record the warnings, so that pytest does not list them at the end of the run.
        with warnings.catch_warnings(record=True):
            exec("warn('old', category)", {"__name__": caller, "warn": warnings.warn, "category": category})
    except category:
        return True
    return False


CATEGORIES = [DeprecationWarning, FutureWarning, RemovedSoonWarning]
# Our modules are imported during collection, so the filters must work then, too.
DURING_COLLECTION = {(caller, each): is_error(caller, each) for caller in CALLERS for each in CATEGORIES}


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize(("caller", "expected"), CALLERS.items())
def test_a_warning_about_our_code_is_an_error(caller: str, category: type[Warning], expected: bool) -> None:
    assert is_error(caller, category) == DURING_COLLECTION[caller, category] == expected
