"""The triggers for datasets, with the arguments that fit datasets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow_provider_faraday.triggers.resources import ResourcesReadyTrigger, ResourceUpdatedTrigger
from airflow_provider_faraday.waiting.arguments import parse_updated_after
from airflow_provider_faraday.waiting.source import Source


class DatasetsReadyTrigger(ResourcesReadyTrigger):
    """Wait in the triggerer until all datasets of a Faraday connection, of a scope, or of a list are ready.

    :param connection_id: UUID of a Faraday connection.
    :param scope_id: UUID of a scope.
    :param dataset_ids: UUIDs of datasets. Pass exactly one of these three.
    :param updated_after: count only builds at or after this time: ISO 8601 with an offset.
    :param fail_on_error: whether a dataset in status ``error`` ends the wait.
    :param allow_empty: whether nothing to wait for counts as ready.
    """

    def __init__(
        self,
        *,
        connection_id: str | None = None,
        scope_id: str | None = None,
        dataset_ids: Sequence[str] | None = None,
        updated_after: str | None = None,
        fail_on_error: bool = True,
        allow_empty: bool = False,
        **kwargs: Any,
    ) -> None:
        source = Source.parse(
            type(self).__name__,
            "datasets",
            ids_argument="dataset_ids",
            connection_id=connection_id,
            scope_id=scope_id,
            dataset_ids=dataset_ids,
        )
        after = parse_updated_after(updated_after or None)
        criteria = {
            "updated_after": after.isoformat() if isinstance(after, datetime) else None,
            "fail_on_error": fail_on_error,
            "allow_empty": allow_empty,
        }
        super().__init__(source=source.as_json, criteria=criteria, **kwargs)


class DatasetUpdatedTrigger(ResourceUpdatedTrigger):
    """Watch datasets for an asset: one event for each build, with its ``row_count``.

    https://faraday.ai/docs/reference/getconnectiondatasets

    :param dataset_ids: UUIDs of the datasets to watch; or pass ``connection_id`` or ``scope_id``. The other
        arguments, and how events are delivered, are those of
        :class:`~airflow_provider_faraday.triggers.resources.ResourceUpdatedTrigger`.
    """

    ids_argument = "dataset_ids"

    def __init__(self, *, dataset_ids: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(resource_type="datasets", resource_ids=dataset_ids, **kwargs)
