"""The asset watcher for datasets."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_faraday.triggers.resources import ResourceUpdatedTrigger


class DatasetUpdatedTrigger(ResourceUpdatedTrigger):
    """Watch datasets for an asset: one event for each build, with its ``row_count``.

    For how events are delivered, see
    :class:`~airflow_provider_faraday.triggers.resources.ResourceUpdatedTrigger`.

    https://faraday.ai/docs/reference/getconnectiondatasets

    :param connection_id: UUID of a Faraday connection: watch all its datasets.
    :param scope_id: UUID of a scope: watch the datasets behind it.
    :param datasets: UUIDs of the datasets to watch. Pass exactly one of these three.
    :param on_error: also send an event when a dataset goes into status ``error``.
    :param emit_initial: also send an event for each dataset that is ``ready`` at the first poll, and, with
        ``on_error``, for each in ``error``.
    :param poke_interval: seconds between polls.
    :param faraday_conn_id: the Airflow connection of type ``faraday``.
    :param queue: run in triggerers that serve this queue (Airflow 3.4 and later). It is not part of the
        watcher's identity: Airflow reads it when it first stores the watcher.
    :raises FaradayInputError: if an argument is not valid.
    :raises AirflowOptionalProviderFeatureException: on Airflow 2, which has no asset watchers, and with
        ``queue`` before Airflow 3.4.
    """

    _ids_argument = "datasets"

    def __init__(
        self,
        *,
        connection_id: str | None = None,
        scope_id: str | None = None,
        datasets: Sequence[str] | None = None,
        on_error: bool = False,
        emit_initial: bool = False,
        poke_interval: float = 60.0,
        faraday_conn_id: str = "faraday_default",
        queue: str | None = None,
    ) -> None:
        super().__init__(
            resource_type="datasets",
            connection_id=connection_id,
            scope_id=scope_id,
            resource_ids=datasets,
            on_error=on_error,
            emit_initial=emit_initial,
            poke_interval=poke_interval,
            faraday_conn_id=faraday_conn_id,
            queue=queue,
        )
