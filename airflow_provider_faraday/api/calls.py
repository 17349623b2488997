"""Each endpoint that this provider uses, once; see https://faraday.ai/docs/reference."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from urllib.parse import urlencode

from airflow_provider_faraday.api.errors import FaradayInputError

IDS_PER_CALL = 100
"""How many ``ids`` Faraday takes in one request."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One call of the API.

    :param path: the path below the base URL.
    :param private: whether the answer's body may hold a key, and is never to be shown.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    private: bool = False

    def url(self, base_url: str) -> str:
        """Give the absolute URL."""
        return f"{base_url}{self.path}" + (f"?{urlencode(self.query)}" if self.query else "")


def faraday_id(value: object, name: str) -> str:
    """Check that a value is an id as Faraday gives them, a UUID, and give it in lower case.

    :param value: what came in, from a DAG's author or a rendered template.
    :param name: the argument's name, for the error.
    :raises FaradayInputError: where it is anything else, so that it never reaches a URL.
    """
    text = str(value)
    if not _UUID.fullmatch(text):
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}…"
        raise FaradayInputError(
            f"{name} must be the UUID of a Faraday resource, such as "
            f"5e0dfa56-2d52-4c06-a870-bc79c71e86a3, but is {shown}. "
            "Copy the id from Faraday's app or API; if it comes from a template, check what it rendered to."
        )
    return text.lower()


def dataset_ids(datasets: object, name: str = "datasets") -> list[str]:
    """Give the ids of datasets named by id or by the dicts that a list operator pushed, each once, in order.

    :param datasets: a list of them; one alone, as a mapped task gets it; or a list of such lists, as a mapped
        list operator pushes it.
    :raises FaradayInputError: where it is anything else.
    """
    if (isinstance(datasets, dict) and "id" in datasets) or (
        isinstance(datasets, str) and _UUID.fullmatch(datasets)
    ):
        datasets = [datasets]
    if isinstance(datasets, (str, bytes, dict)) or not isinstance(datasets, Iterable):
        shown = repr(datasets)
        raise FaradayInputError(
            f"{name} must be a list of dataset ids or of dataset dicts, but is "
            f"{type(datasets).__name__} {shown[:80]}{'…' if len(shown) > 80 else ''}. "
            "Pass the list itself; a Jinja template gives a list only in a DAG with "
            "render_template_as_native_obj=True, and the .output of a list operator always does."
        )
    items = chain.from_iterable(item if isinstance(item, (list, tuple)) else [item] for item in datasets)
    ids = (item.get("id") if isinstance(item, dict) else item for item in items)
    return list(dict.fromkeys(faraday_id(value, f"{name}[{n}]") for n, value in enumerate(ids)))


def connection_datasets(connection_id: object) -> ApiCall:
    """Call for all datasets of a connection (reference page ``getconnectiondatasets``)."""
    return ApiCall("GET", f"/connections/{faraday_id(connection_id, 'connection_id')}/datasets")


def scope_datasets(scope_id: object) -> ApiCall:
    """Call for the datasets behind a scope's population cohorts (reference page ``getscopedatasets``)."""
    return ApiCall("GET", f"/scopes/{faraday_id(scope_id, 'scope_id')}/datasets")


def all_datasets() -> ApiCall:
    """Call for every dataset of the account (reference page ``getdatasets``)."""
    return ApiCall("GET", "/datasets")


def datasets_by_id(ids: Iterable[object]) -> list[ApiCall]:
    """Calls for the datasets with these ids, at most :data:`IDS_PER_CALL` in each."""
    checked = dataset_ids(ids, "ids")
    return [
        ApiCall("GET", "/datasets", tuple(("ids", id_) for id_ in checked[start : start + IDS_PER_CALL]))
        for start in range(0, len(checked), IDS_PER_CALL)
    ]


def dataset(dataset_id: object) -> ApiCall:
    """Call for one dataset (reference page ``getdataset``)."""
    return ApiCall("GET", f"/datasets/{faraday_id(dataset_id, 'dataset_id')}")


def force_update(dataset_id: object) -> ApiCall:
    """Call that asks Faraday to rerun a dataset (reference page ``forceupdatedataset``)."""
    return ApiCall("POST", f"/datasets/{faraday_id(dataset_id, 'dataset_id')}/force_update")


def current_account() -> ApiCall:
    """Call that checks a key (reference page ``getcurrentaccount``)."""
    return ApiCall("GET", "/accounts/current", private=True)
