"""Operators that push a Faraday connection's or scope's datasets to XCom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_faraday.hooks.faraday import FaradayHook


class _ListDatasetsOperator(BaseOperator):
    """What the list operators share: the Airflow connection, the fields and the log line."""

    ui_color = "#e8e4f8"

    def __init__(
        self, *, faraday_conn_id: str = "faraday_default", fields: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.faraday_conn_id = faraday_conn_id
        self.fields = fields

    def execute(self, context: Context) -> list[dict[str, Any]]:
        # Not at the top: nothing that only a running task needs is loaded when a DAG file is parsed.
        from airflow_provider_faraday.api.datasets import checked_fields, count_by_status, trimmed
        from airflow_provider_faraday.hooks.faraday import FaradayHook

        fields = checked_fields(self.fields)
        datasets = self._list(FaradayHook(self.faraday_conn_id))
        self.log.info("Faraday lists %s", count_by_status(datasets))
        return [trimmed(dataset, fields) for dataset in datasets]

    def _list(self, hook: FaradayHook) -> list[dict[str, Any]]:
        raise NotImplementedError


class ListConnectionDatasetsOperator(_ListDatasetsOperator):
    """List all datasets of a Faraday connection and return them as a list of dicts (XCom ``return_value``).

    https://faraday.ai/docs/reference/getconnectiondatasets

    :param connection_id: UUID of the Faraday connection (templated).
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :param fields: the dataset fields to keep (templated); a name that a dataset does not have is absent.
        None keeps every field but ``sample``, which holds rows of customers' data.
    :raises FaradayInputError: where an argument cannot be used; nothing is sent then.
    :raises FaradayApiError: where Faraday does not give the list.
    """

    template_fields: Sequence[str] = ("connection_id", "faraday_conn_id", "fields")

    def __init__(self, *, connection_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.connection_id = connection_id

    def _list(self, hook: FaradayHook) -> list[dict[str, Any]]:
        return hook.list_connection_datasets(self.connection_id)


class ListScopeDatasetsOperator(_ListDatasetsOperator):
    """List the datasets behind a scope's population cohorts and return them as a list of dicts.

    https://faraday.ai/docs/reference/getscopedatasets

    :param scope_id: UUID of the scope (templated).
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :param fields: the dataset fields to keep (templated); a name that a dataset does not have is absent.
        None keeps every field but ``sample``, which holds rows of customers' data.
    :raises FaradayInputError: where an argument cannot be used; nothing is sent then.
    :raises FaradayApiError: where Faraday does not give the list.
    """

    template_fields: Sequence[str] = ("scope_id", "faraday_conn_id", "fields")

    def __init__(self, *, scope_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scope_id = scope_id

    def _list(self, hook: FaradayHook) -> list[dict[str, Any]]:
        return hook.list_scope_datasets(self.scope_id)
