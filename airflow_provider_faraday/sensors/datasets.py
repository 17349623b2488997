"""DatasetsReadySensor: gate a DAG on Faraday datasets being ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.sensors.resources import ResourcesReadySensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class DatasetsReadySensor(ResourcesReadySensor):
    """Wait until all datasets of a Faraday connection, of a scope, or of a list are ready.

    It succeeds when Faraday has ingested the input. Predictions may not be up to date yet. Returns the ready
    datasets as a list of dicts. For the other arguments, the modes and the errors, see
    :class:`~airflow_provider_faraday.sensors.resources.ResourcesReadySensor`.

    https://faraday.ai/docs/reference/getconnectiondatasets

    :param connection_id: UUID of a Faraday connection: wait for all its datasets (templated).
    :param scope_id: UUID of a scope: wait for the datasets behind it (templated).
    :param datasets: wait for these: ids, or dicts as a list operator returns them; a list, or a single one,
        so that a mapped sensor can wait for each (templated). Pass exactly one of these three.
    :raises DatasetsFailedError: if a dataset is in status ``error`` (skipped with ``soft_fail=True``).
    """

    template_fields: Sequence[str] = (
        "connection_id",
        "scope_id",
        "datasets",
        "updated_after",
        "fields",
        "faraday_conn_id",
    )
    ids_argument = "datasets"

    def __init__(
        self,
        *,
        connection_id: str | None = None,
        scope_id: str | None = None,
        datasets: Sequence[str | dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            resource_type="datasets",
            connection_id=connection_id,
            scope_id=scope_id,
            resource_ids=datasets,
            **kwargs,
        )
