"""Assets that stand for Faraday's datasets: to schedule DAGs on, to name as outlets and inlets, to watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset

from airflow_provider_faraday.api.calls import faraday_id
from airflow_provider_faraday.api.errors import FaradayInputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_faraday.api.readiness import DatasetState

RESOURCES = ("connections", "datasets", "scopes")
"""What a ``faraday://`` URI may name: ``faraday://datasets/<UUID>``."""


def dataset_asset(
    dataset_id: str,
    *,
    name: str | None = None,
    watch_every: float | None = None,
    faraday_conn_id: str = "faraday_default",
) -> Asset:
    """Give the asset that stands for a dataset, ``faraday://datasets/<UUID>``.

    Tasks of this provider that have it as an outlet attach the dataset's build to the asset's event. Every
    DAG file that names a watched asset must name it with the same watcher, or Airflow takes the watcher
    away: keep it in a module of your own and import it.

    https://faraday.ai/docs/reference/getdataset

    :param dataset_id: UUID of the dataset.
    :param name: the asset's name in Airflow; by default its URI. Airflow 2 knows the URI alone.
    :param watch_every: seconds between polls for a new build, each of which becomes an event of this asset,
        so that DAGs scheduled on it start by themselves (Airflow 3.0 and later); None for an asset that
        nobody watches. For more than that, make the ``AssetWatcher`` with
        :class:`~airflow_provider_faraday.triggers.datasets.DatasetUpdatedTrigger` yourself.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` to watch with.
    :raises FaradayInputError: where an argument cannot be used.
    :raises AirflowOptionalProviderFeatureException: with ``watch_every`` on Airflow 2.
    """
    id_ = faraday_id(dataset_id, "dataset_id")
    fields: dict[str, Any] = {"uri": f"faraday://datasets/{id_}"}
    if hasattr(Asset, "asset_type"):  # not so on Airflow 2, whose datasets have a URI and no name
        fields |= {"name": name or fields["uri"], "group": "faraday"}
    if watch_every is not None:
        from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger

        trigger = DatasetUpdatedTrigger(
            dataset_ids=[id_], poke_interval=watch_every, faraday_conn_id=faraday_conn_id
        )
        from airflow.sdk import AssetWatcher

        fields["watchers"] = [AssetWatcher(name=f"faraday dataset {id_}", trigger=trigger)]
    return Asset(**fields)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check and normalize a ``faraday://`` URI, for Airflow.

    :raises ValueError: where it does not name a connection, a dataset or a scope by its UUID.
    """
    resource = uri.netloc.lower()
    try:
        id_ = faraday_id(uri.path.strip("/"), "the id")
    except FaradayInputError:
        id_ = ""
    if resource not in RESOURCES or not id_ or uri.query or uri.fragment:
        raise ValueError(
            f"A faraday:// URI must be faraday:// and one of {', '.join(RESOURCES)}, a slash and a UUID, "
            f"such as faraday://datasets/5e0dfa56-2d52-4c06-a870-bc79c71e86a3, but is {uri.geturl()!r}."
        )
    return uri._replace(netloc=resource, path=f"/{id_}")


def attach_builds(context: Context, outlets: Iterable[object], states: Iterable[DatasetState]) -> None:
    """Attach each dataset's build to the event of the outlet that stands for it.

    :param outlets: the task's outlets, of any kind.
    :param states: the datasets as the task has seen them last.
    """
    by_uri = {f"faraday://datasets/{state.id.lower()}": state for state in states}
    for outlet in outlets:
        if isinstance(outlet, Asset) and (state := by_uri.get(outlet.uri)):
            context["outlet_events"][outlet].extra.update(state.build)
