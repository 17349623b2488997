"""A deprecation that our code or tests cause fails the tests; what libraries do among themselves does not."""

from __future__ import annotations

import warnings

import airflow.models  # noqa: F401  with which Airflow's own warning filters are in place
import pytest

OURS = [
    "airflow_provider_faraday",
    "airflow_provider_faraday.sensors.datasets",
    "tests.unit.sensors.test_datasets",
]
THEIRS = ["airflow.models.dag", "airflow.providers.sqlite.hooks.sqlite", "sqlalchemy.orm"]


class RemovedSoonWarning(DeprecationWarning):
    """As Airflow and SQLAlchemy have their own."""


CATEGORIES = [DeprecationWarning, FutureWarning, RemovedSoonWarning]


def fails(caller: str, category: type[Warning], *, blamed: int) -> bool:
    """Tell whether it is an error when a library warns.

    :param caller: the module that calls the library
    :param blamed: 1 where the library blames itself, 2 where it blames its caller
    """
    library = {"__name__": "library", "warn": warnings.warn, "category": category, "blamed": blamed}
    exec("def use(): warn('old', category, stacklevel=blamed)", library)
    try:
        # Recorded, so that what is no error is not told at the end of the run.
        with warnings.catch_warnings(record=True):
            exec("use()", {"__name__": caller, "use": library["use"]})
    except category:
        return True
    return False


# As this file is collected, which is when our modules are imported.
WHEN_COLLECTED = {(name, c): fails(name, c, blamed=2) for name in OURS + THEIRS for c in CATEGORIES}


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("module", OURS)
def test_what_our_code_is_blamed_for_fails(module: str, category: type[Warning]) -> None:
    assert fails(module, category, blamed=2)
    assert WHEN_COLLECTED[module, category]


@pytest.mark.parametrize("category", CATEGORIES)
def test_what_a_library_is_blamed_for_does_not(category: type[Warning]) -> None:
    assert not fails(OURS[0], category, blamed=1)
    assert not any(fails(module, category, blamed=2) or WHEN_COLLECTED[module, category] for module in THEIRS)
