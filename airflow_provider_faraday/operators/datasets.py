"""Operators that list Faraday datasets, and that force Faraday to rebuild them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.operators.resources import ForceUpdateResourcesOperator, ListResourcesOperator
from airflow_provider_faraday.waiting.arguments import task_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ListConnectionDatasetsOperator(ListResourcesOperator):
    """List all datasets of a Faraday connection and return them as a list of dicts (XCom ``return_value``).

    https://faraday.ai/docs/reference/getconnectiondatasets

    :param connection_id: UUID or name of the Faraday connection (templated).
    :param tables: list only the datasets that read these tables: a list of names, or a single one, each with
        or without its schema. Case is ignored. A table that no dataset reads is an error (templated).
    :param fields: the dataset fields to return (templated); None for all but ``sample``, which holds rows of
        customers' data.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayLookupError: if a name does not identify one resource.
    :raises FaradayNotFoundError: if no dataset reads one of ``tables``.
    :raises FaradayApiError: if the request fails.
    """

    template_fields: Sequence[str] = ("connection_id", "tables", "faraday_conn_id", "fields")

    def __init__(
        self,
        *,
        connection_id: str,
        tables: Sequence[str] | str | None = None,
        fields: Sequence[str] | None = None,
        faraday_conn_id: str = "faraday_default",
        **kwargs: Any,
    ) -> None:
        self.tables = tables
        super().__init__(
            resource_type="datasets",
            connection_id=connection_id,
            # Not those of default_args.
            scope_id=None,
            resource_ids=None,
            fields=fields,
            faraday_conn_id=faraday_conn_id,
            **kwargs,
        )


class ListScopeDatasetsOperator(ListResourcesOperator):
    """List the datasets behind a scope's population cohorts and return them as a list of dicts.

    https://faraday.ai/docs/reference/getscopedatasets

    :param scope_id: UUID or name of the scope (templated).
    :param tables: list only the datasets that read these tables: a list of names, or a single one, each with
        or without its schema. Case is ignored. A table that no dataset reads is an error (templated).
    :param fields: the dataset fields to return (templated); None for all but ``sample``, which holds rows of
        customers' data.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayLookupError: if a name does not identify one resource.
    :raises FaradayNotFoundError: if no dataset reads one of ``tables``.
    :raises FaradayApiError: if the request fails.
    """

    template_fields: Sequence[str] = ("scope_id", "tables", "faraday_conn_id", "fields")

    def __init__(
        self,
        *,
        scope_id: str,
        tables: Sequence[str] | str | None = None,
        fields: Sequence[str] | None = None,
        faraday_conn_id: str = "faraday_default",
        **kwargs: Any,
    ) -> None:
        self.tables = tables
        super().__init__(
            resource_type="datasets",
            # Not those of default_args.
            connection_id=None,
            resource_ids=None,
            scope_id=scope_id,
            fields=fields,
            faraday_conn_id=faraday_conn_id,
            **kwargs,
        )


class ForceUpdateDatasetsOperator(ForceUpdateResourcesOperator):
    """Force Faraday to rebuild datasets, and optionally wait for those builds.

    Returns ``{"datasets": ["<id>", …], "requested_at": {"<id>": "<ISO 8601>", …}}``. Each entry is also a
    separate XCom: pass ``operator.output["requested_at"]`` to a sensor as ``updated_after`` to wait for these
    builds. For archived datasets, rejected requests and retries, see
    :class:`~airflow_provider_faraday.operators.resources.ForceUpdateResourcesOperator`.

    https://faraday.ai/docs/reference/forceupdatedataset

    :param connection_id: UUID or name of a Faraday connection: update all its datasets (templated).
    :param scope_id: UUID or name of a scope: update the datasets behind it (templated).
    :param datasets: update these: UUIDs, names, or dicts as a list operator returns them; a list, or a single
        one (templated). Pass exactly one of these three.
    :param tables: with ``connection_id`` or ``scope_id``, update only the datasets that read these tables: a
        list of names, or a single one, each with or without its schema. Case is ignored (templated).
    :param allow_empty: succeed if there is nothing to update, and ignore tables that no dataset reads.
    :param wait_for_completion: wait until the builds finish.
    :param include_upstream: while waiting, also wait until all upstream resources are up to date; see
        :class:`~airflow_provider_faraday.sensors.resources.ResourcesReadySensor`.
    :param fail_on_error: while waiting, fail as soon as a build fails; False keeps waiting.
    :param checks: while waiting, limits for fields of the ready datasets, with the keys of Airflow's
        ``SQLColumnCheckOperator``, such as ``{"row_count": {"geq_to": 1000}}``; nested fields have dotted
        names.
    :param poke_interval: while waiting, seconds between polls.
    :param timeout: while waiting, seconds until it times out; by default Airflow's ``[sensors]
        default_timeout``.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :param deferrable: wait in the triggerer. The default is Airflow's ``[operators] default_deferrable``.
    :raises NothingToWaitForError: if there is nothing to update.
    :raises FaradayNotFoundError: if a table in ``tables`` is not read by any dataset, unless ``allow_empty``.
    :raises DatasetsFailedError: if a build that is waited for fails.
    :raises ChecksFailedError: if a build that is waited for does not pass ``checks``.
    :raises AirflowSensorTimeout: if waiting times out.
    :raises FaradayInputError: if an argument is not valid; nothing is sent.
    :raises FaradayLookupError: if a name does not identify one resource.
    :raises FaradayApiError: if a request fails.
    """

    template_fields: Sequence[str] = ("connection_id", "scope_id", "datasets", "tables", "faraday_conn_id")
    _ids_argument = "datasets"

    def __init__(
        self,
        *,
        connection_id: str | None = None,
        scope_id: str | None = None,
        datasets: Sequence[str | dict[str, Any]] | None = None,
        tables: Sequence[str] | str | None = None,
        allow_empty: bool = False,
        wait_for_completion: bool = False,
        include_upstream: bool = False,
        fail_on_error: bool = True,
        checks: Mapping[str, Mapping[str, float]] | None = None,
        poke_interval: float = 60.0,
        timeout: float | None = None,
        faraday_conn_id: str = "faraday_default",
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        self.datasets = datasets
        self.tables = tables
        super().__init__(
            resource_type="datasets",
            connection_id=connection_id,
            scope_id=scope_id,
            allow_empty=allow_empty,
            wait_for_completion=wait_for_completion,
            include_upstream=include_upstream,
            fail_on_error=fail_on_error,
            checks=checks,
            poke_interval=poke_interval,
            timeout=timeout,
            faraday_conn_id=faraday_conn_id,
            deferrable=deferrable,
            **kwargs,
        )
        if tables is not None and datasets is not None:
            raise FaradayInputError(
                f"{task_label(self)} takes tables with connection_id or scope_id, but got datasets.\n"
                "Pass tables to the operator that lists the datasets instead."
            )
