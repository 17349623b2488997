"""Assets that represent Faraday datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.assets.resources import resource_asset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Asset


def dataset_asset(
    dataset_id: str,
    *,
    name: str | None = None,
    watch_every: float | None = None,
    faraday_conn_id: str = "faraday_default",
    extra: Mapping[str, Any] | None = None,
) -> Asset:
    """Return the asset that represents a dataset, ``faraday://datasets/<UUID>``.

    https://faraday.ai/docs/reference/getdataset

    :param dataset_id: UUID of the dataset. The other arguments are those of
        :func:`~airflow_provider_faraday.assets.resources.resource_asset`.
    """
    return resource_asset(
        "datasets",
        dataset_id,
        name=name,
        watch_every=watch_every,
        faraday_conn_id=faraday_conn_id,
        extra=extra,
    )
