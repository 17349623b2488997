"""Attach builds to the events of outlets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_faraday.api.resources import ResourceType


def attach_builds(
    context: Context,
    outlets: Collection[object] | None,
    resource_type: ResourceType,
    resources: list[dict[str, Any]],
) -> None:
    """Attach each resource's build to the event of the outlet that represents it.

    :param outlets: the task's outlets, of any kind.
    :param resources: the resources as Faraday sent them.
    """
    if not outlets:
        return
    # Not at the top: it builds structs, which takes too long for a DAG file that is parsed.
    from airflow_provider_faraday.api.states import states_of

    by_uri = {resource_type.asset_uri(state.id): state for state in states_of(resource_type, resources)}
    for outlet in outlets:
        if isinstance(outlet, Asset) and (state := by_uri.get(outlet.uri)):
            context["outlet_events"][outlet].extra.update(state.build)
