"""Assets that represent Faraday resources, for scheduling, inlets, outlets and watchers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.api.inputs import is_resource_id
from airflow_provider_faraday.api.inputs import resource_id as valid_id
from airflow_provider_faraday.api.resources import RESOURCE_TYPES, resource_type_named
from airflow_provider_faraday.compat import named_asset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.sdk import Asset


def resource_asset(
    resource_type: str,
    resource_id: str,
    *,
    name: str | None = None,
    watch_every: float | None = None,
    faraday_conn_id: str = "faraday_default",
    extra: Mapping[str, Any] | None = None,
) -> Asset:
    """Return the asset that represents a resource, ``faraday://<type>/<UUID>``.

    Tasks of this provider that have it as an outlet attach the resource's build to the asset's event. Every
    DAG file that defines a watched asset must define it with the same watcher, or Airflow removes the
    watcher: define it in one module, and import it.

    :param resource_type: the type, such as ``datasets``.
    :param resource_id: UUID of the resource.
    :param name: the asset's name in Airflow; by default its URI. Airflow 2 uses the URI only.
    :param watch_every: seconds between polls for new builds (Airflow 3.0 and later). Each build creates an
        asset event, which starts the DAGs that are scheduled on the asset. None disables watching. For more
        options, define the ``AssetWatcher`` with a
        :class:`~airflow_provider_faraday.triggers.resources.ResourceUpdatedTrigger`.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` to watch with.
    :param extra: the asset's extra.
    :raises FaradayInputError: if an argument is not valid.
    :raises AirflowOptionalProviderFeatureException: with ``watch_every`` on Airflow 2.
    """
    kind = resource_type_named(resource_type)
    id_ = valid_id(resource_id, kind.id_argument)
    fields: dict[str, Any] = {"extra": dict(extra)} if extra else {}
    if watch_every is not None:
        from airflow_provider_faraday.triggers.resources import ResourceUpdatedTrigger

        trigger = ResourceUpdatedTrigger(
            resource_type=resource_type,
            resource_ids=[id_],
            poke_interval=watch_every,
            faraday_conn_id=faraday_conn_id,
        )
        from airflow.sdk import AssetWatcher

        fields["watchers"] = [AssetWatcher(name=f"faraday {kind.singular} {id_}", trigger=trigger)]
    return named_asset(kind.asset_uri(id_), name, **fields)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Validate and normalize a ``faraday://`` URI, for Airflow.

    :raises ValueError: if it is not a resource type and a UUID.
    """
    resource_type, id_ = uri.netloc.lower(), uri.path.strip("/").lower()
    if resource_type not in RESOURCE_TYPES or not is_resource_id(id_) or uri.query or uri.fragment:
        raise ValueError(
            f"{uri.geturl()!r} is not a valid faraday:// URI. Use faraday://<type>/<UUID>, such as "
            "faraday://datasets/5e0dfa56-2d52-4c06-a870-bc79c71e86a3, with one of these types: "
            f"{', '.join(sorted(RESOURCE_TYPES))}."
        )
    return uri._replace(netloc=resource_type, path=f"/{id_}")
