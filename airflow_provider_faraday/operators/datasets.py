"""Operators that list Faraday datasets, and that force Faraday to rebuild them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.tables import select_by_table, table_names, table_of
from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.operators.resources import (
    ForceUpdateResourcesOperator,
    ListResourcesOperator,
    _ResourcesOperator,
)
from airflow_provider_faraday.waiting.source import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_faraday.hooks.faraday import FaradayHook


class _DatasetsOperator(_ResourcesOperator):
    """An operator on datasets, or on only those that read certain tables."""

    allow_empty = False

    def __init__(self, *, tables: Sequence[str] | str | None = None, **kwargs: Any) -> None:
        self.tables = tables
        # Fixed now: an argument that renders to None must not turn into "all tables".
        self._has_tables = tables is not None
        super().__init__(resource_type="datasets", **kwargs)

    def _list(self, hook: FaradayHook) -> list[dict[str, Any]]:
        if not self._has_tables:
            return super()._list(hook)
        tables = table_names(self.tables)
        datasets = super()._list(hook)
        found, unread = select_by_table(datasets, tables)
        if unread:
            self._report(unread, datasets)
        return found

    def _report(self, unread: list[str], datasets: list[dict[str, Any]]) -> None:
        from airflow_provider_faraday.api.text import first_of
        from airflow_provider_faraday.exceptions import FaradayNotFoundError

        container = Source.parse(
            self._label, "datasets", connection_id=self.connection_id, scope_id=self.scope_id
        ).label
        message = f"None of the {len(datasets)} {container} reads {first_of(unread)}."
        if self.allow_empty:
            self.log.warning("%s", message)
            return
        existing = sorted({table for dataset in datasets if (table := table_of(dataset))})
        raise FaradayNotFoundError(
            message, remedy=one_line(f"They read {first_of(existing) or 'no tables'}. Check tables.")
        )


class ListConnectionDatasetsOperator(_DatasetsOperator, ListResourcesOperator):
    """List all datasets of a Faraday connection and return them as a list of dicts (XCom ``return_value``).

    https://faraday.ai/docs/reference/getconnectiondatasets

    :param connection_id: UUID of the Faraday connection (templated).
    :param tables: list only the datasets that read these tables: a list of names, or a single one, each with
        or without its schema. Case is ignored. A table that no dataset reads is an error (templated).
    :param fields: the dataset fields to return (templated); None for all but ``sample``, which holds rows of
        customers' data.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayNotFoundError: if no dataset reads one of ``tables``.
    :raises FaradayApiError: if the request fails.
    """

    template_fields: Sequence[str] = ("connection_id", "tables", "faraday_conn_id", "fields")

    def __init__(self, *, connection_id: str, **kwargs: Any) -> None:
        super().__init__(connection_id=connection_id, scope_id=None, resource_ids=None, **kwargs)


class ListScopeDatasetsOperator(_DatasetsOperator, ListResourcesOperator):
    """List the datasets behind a scope's population cohorts and return them as a list of dicts.

    https://faraday.ai/docs/reference/getscopedatasets

    :param scope_id: UUID of the scope (templated).
    :param tables: list only the datasets that read these tables: a list of names, or a single one, each with
        or without its schema. Case is ignored. A table that no dataset reads is an error (templated).
    :param fields: the dataset fields to return (templated); None for all but ``sample``, which holds rows of
        customers' data.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayNotFoundError: if no dataset reads one of ``tables``.
    :raises FaradayApiError: if the request fails.
    """

    template_fields: Sequence[str] = ("scope_id", "tables", "faraday_conn_id", "fields")

    def __init__(self, *, scope_id: str, **kwargs: Any) -> None:
        super().__init__(connection_id=None, scope_id=scope_id, resource_ids=None, **kwargs)


class ForceUpdateDatasetsOperator(_DatasetsOperator, ForceUpdateResourcesOperator):
    """Force Faraday to rebuild datasets, and optionally wait for those builds.

    Returns ``{"datasets": […], "requested_at": {"<id>": "<ISO 8601>", …}}``. Each entry is also a separate
    XCom: pass ``operator.output["requested_at"]`` to a sensor as ``updated_after`` to wait for these builds.
    For the other arguments, archived datasets, rejected requests and retries, see
    :class:`~airflow_provider_faraday.operators.resources.ForceUpdateResourcesOperator`.

    https://faraday.ai/docs/reference/forceupdatedataset

    :param connection_id: UUID of a Faraday connection: update all its datasets (templated).
    :param scope_id: UUID of a scope: update the datasets behind it (templated).
    :param datasets: update these: ids, or dicts as a list operator returns them; a list, or a single one
        (templated). Pass exactly one of these three.
    :param tables: with ``connection_id`` or ``scope_id``, update only the datasets that read these tables: a
        list of names, or a single one, each with or without its schema. Case is ignored (templated).
    :raises FaradayNotFoundError: if a table in ``tables`` is not read by any dataset, unless ``allow_empty``.
    :raises DatasetsFailedError: if a build that is waited for fails.
    """

    template_fields: Sequence[str] = ("connection_id", "scope_id", "datasets", "tables", "faraday_conn_id")
    ids_argument = "datasets"
    ids_key = "datasets"

    def __init__(
        self,
        *,
        connection_id: str | None = None,
        scope_id: str | None = None,
        datasets: Sequence[str | dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(connection_id=connection_id, scope_id=scope_id, resource_ids=datasets, **kwargs)
        if self._has_tables and self._listed_by == self.ids_argument:
            raise FaradayInputError(
                f"{self._label} takes tables with connection_id or scope_id, but got datasets.\n"
                "Pass tables to the operator that lists the datasets instead."
            )
