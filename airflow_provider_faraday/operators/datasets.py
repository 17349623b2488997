"""Operators that list Faraday datasets, and that force Faraday to rebuild them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.operators.resources import ForceUpdateResourcesOperator, ListResourcesOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_faraday.hooks.faraday import FaradayHook


class ListConnectionDatasetsOperator(ListResourcesOperator):
    """List all datasets of a Faraday connection and return them as a list of dicts (XCom ``return_value``).

    https://faraday.ai/docs/reference/getconnectiondatasets

    :param connection_id: UUID of the Faraday connection (templated).
    :param fields: the dataset fields to return (templated); None for all but ``sample``, which holds rows of
        customers' data.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayApiError: if the request fails.
    """

    template_fields: Sequence[str] = ("connection_id", "faraday_conn_id", "fields")

    def __init__(self, *, connection_id: str, **kwargs: Any) -> None:
        self.connection_id = connection_id
        super().__init__(resource_type="datasets", resource_ids=None, **kwargs)

    def _list(self, hook: FaradayHook) -> list[dict[str, Any]]:
        return hook.list_connection_datasets(self.connection_id)


class ListScopeDatasetsOperator(ListResourcesOperator):
    """List the datasets behind a scope's population cohorts and return them as a list of dicts.

    https://faraday.ai/docs/reference/getscopedatasets

    :param scope_id: UUID of the scope (templated).
    :param fields: the dataset fields to return (templated); None for all but ``sample``, which holds rows of
        customers' data.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayApiError: if the request fails.
    """

    template_fields: Sequence[str] = ("scope_id", "faraday_conn_id", "fields")

    def __init__(self, *, scope_id: str, **kwargs: Any) -> None:
        self.scope_id = scope_id
        super().__init__(resource_type="datasets", resource_ids=None, **kwargs)

    def _list(self, hook: FaradayHook) -> list[dict[str, Any]]:
        return hook.list_scope_datasets(self.scope_id)


class ForceUpdateDatasetsOperator(ForceUpdateResourcesOperator):
    """Force Faraday to rebuild datasets, and optionally wait for those builds.

    Returns ``{"dataset_ids": […], "requested_at": {"<id>": "<ISO 8601>", …}}``. Each entry is also a separate
    XCom: pass ``operator.output["requested_at"]`` to a sensor as ``updated_after`` to wait for these builds.
    For the other arguments, archived datasets, rejected requests and retries, see
    :class:`~airflow_provider_faraday.operators.resources.ForceUpdateResourcesOperator`.

    https://faraday.ai/docs/reference/forceupdatedataset

    :param datasets: ids, or dicts as a list operator returns them; a list, or a single one (templated).
    :raises DatasetsFailedError: if a build that is waited for fails.
    """

    template_fields: Sequence[str] = ("datasets", "faraday_conn_id")
    ids_argument = "datasets"
    ids_key = "dataset_ids"

    def __init__(self, *, datasets: Sequence[str | dict[str, Any]], **kwargs: Any) -> None:
        super().__init__(resource_type="datasets", resource_ids=datasets, **kwargs)
