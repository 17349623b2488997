"""Operators that list Faraday targets, which deliver a scope's predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.operators.resources import ListResourcesOperator

if TYPE_CHECKING:
    from collections.abc import Sequence


class ListConnectionTargetsOperator(ListResourcesOperator):
    """List the targets that deliver to a Faraday connection and return them as a list of dicts.

    https://faraday.ai/docs/reference/getconnectiontargets

    :param connection_id: UUID or name of the Faraday connection (templated).
    :param fields: the target fields to return (templated); None for all but ``options``, which may hold
        credentials.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayLookupError: if a name does not identify one resource.
    :raises FaradayApiError: if the request fails.
    """

    template_fields: Sequence[str] = ("connection_id", "faraday_conn_id", "fields")

    def __init__(
        self,
        *,
        connection_id: str,
        fields: Sequence[str] | None = None,
        faraday_conn_id: str = "faraday_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            resource_type="targets",
            connection_id=connection_id,
            # Not those of default_args.
            scope_id=None,
            resource_ids=None,
            fields=fields,
            faraday_conn_id=faraday_conn_id,
            **kwargs,
        )


class ListScopeTargetsOperator(ListResourcesOperator):
    """List the targets that deliver a scope's predictions and return them as a list of dicts.

    https://faraday.ai/docs/reference/getscopetargets

    :param scope_id: UUID or name of the scope (templated).
    :param fields: the target fields to return (templated); None for all but ``options``, which may hold
        credentials.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayLookupError: if a name does not identify one resource.
    :raises FaradayApiError: if the request fails.
    """

    template_fields: Sequence[str] = ("scope_id", "faraday_conn_id", "fields")

    def __init__(
        self,
        *,
        scope_id: str,
        fields: Sequence[str] | None = None,
        faraday_conn_id: str = "faraday_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            resource_type="targets",
            # Not those of default_args.
            connection_id=None,
            resource_ids=None,
            scope_id=scope_id,
            fields=fields,
            faraday_conn_id=faraday_conn_id,
            **kwargs,
        )
