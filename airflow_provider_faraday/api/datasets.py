"""What of a dataset is handed on to downstream tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.texts import one_line

UNASKED = frozenset({"sample"})
"""Fields that are handed on only by name: ``sample`` holds rows of customers' data."""


def checked_fields(fields: object) -> list[str] | None:
    """Check a ``fields`` argument: None, or names of dataset fields.

    :raises FaradayInputError: where it is anything else, a single text or an empty list included.
    """
    if fields is None:
        return None
    names = (
        list(fields) if isinstance(fields, Iterable) and not isinstance(fields, (str, bytes, dict)) else []
    )
    if not names or not all(isinstance(name, str) for name in names):
        raise FaradayInputError(
            f"fields must be a list of dataset field names, such as ['id', 'name', 'row_count'], but is "
            f"{type(fields).__name__} {str(fields)[:80]!r}. Leave it out for every field but 'sample'."
        )
    return names


def trimmed(dataset: dict[str, Any], fields: Collection[str] | None) -> dict[str, Any]:
    """Give the fields asked for that the dataset has; with None, every field but :data:`UNASKED`."""
    return {
        name: value
        for name, value in dataset.items()
        if (name not in UNASKED if fields is None else name in fields)
    }


def count_by_status(datasets: Iterable[dict[str, Any]]) -> str:
    """Say how many datasets are in which status, such as ``3 datasets: 2 ready, 1 running``."""
    counts = Counter(str(dataset.get("status", "without a status")) for dataset in datasets)
    total = counts.total()
    listed = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return f"{total} dataset{'' if total == 1 else 's'}" + (f": {one_line(listed)}" if listed else "")
