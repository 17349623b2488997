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

    See :func:`~airflow_provider_faraday.assets.resources.resource_asset`.

    :param dataset_id: UUID of the dataset.
    :param name: the asset's name in Airflow; by default its URI. Airflow 2 uses the URI only.
    :param watch_every: seconds between polls for new builds (Airflow 3.0 and later); None disables watching.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` to watch with.
    :param extra: the asset's extra.
    :raises FaradayInputError: if an argument is not valid.
    :raises AirflowOptionalProviderFeatureException: with ``watch_every`` on Airflow 2.
    """
    return resource_asset(
        "datasets",
        dataset_id,
        name=name,
        watch_every=watch_every,
        faraday_conn_id=faraday_conn_id,
        extra=extra,
    )
