"""Deprecation warnings caused by our code or tests are errors; warnings between libraries are not."""

from __future__ import annotations

import warnings

import airflow.models  # noqa: F401  (installs Airflow's warning filters)
import pytest

OURS = [
    "airflow_provider_faraday",
    "airflow_provider_faraday.sensors.datasets",
    "tests.unit.sensors.test_datasets",
]
THEIRS = ["airflow.models.dag", "airflow.providers.sqlite.hooks.sqlite", "sqlalchemy.orm"]


class RemovedSoonWarning(DeprecationWarning):
    """A subclass, like those of Airflow and SQLAlchemy."""


CATEGORIES = [DeprecationWarning, FutureWarning, RemovedSoonWarning]


def is_error(caller: str, category: type[Warning], *, stacklevel: int) -> bool:
    """Return whether a library's warning is raised as an error.

    :param caller: the module that calls the library
    :param stacklevel: 1 attributes the warning to the library, 2 to the caller
    """
    library = {"__name__": "library", "warn": warnings.warn, "category": category, "level": stacklevel}
    exec("def use(): warn('old', category, stacklevel=level)", library)
    try:
        # Record the warnings, so that pytest does not list them at the end of the run.
        with warnings.catch_warnings(record=True):
            exec("use()", {"__name__": caller, "use": library["use"]})
    except category:
        return True
    return False


# Our modules are imported during collection, so the filters must work then, too.
DURING_COLLECTION = {(name, c): is_error(name, c, stacklevel=2) for name in OURS + THEIRS for c in CATEGORIES}


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("module", OURS)
def test_a_warning_attributed_to_our_code_is_an_error(module: str, category: type[Warning]) -> None:
    assert is_error(module, category, stacklevel=2)
    assert DURING_COLLECTION[module, category]


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_warning_attributed_to_a_library_is_not_an_error(category: type[Warning]) -> None:
    assert not is_error(OURS[0], category, stacklevel=1)
    for module in THEIRS:
        assert not is_error(module, category, stacklevel=2)
        assert not DURING_COLLECTION[module, category]
