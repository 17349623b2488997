"""What tasks attach to the events of their outlets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_faraday.api.resources import ResourceType
    from airflow_provider_faraday.api.states import ResourceState


def attach_builds(context: Context, outlets: Iterable[object], states: Iterable[ResourceState]) -> None:
    """Attach each resource's build to the event of the outlet that represents it.

    :param outlets: the task's outlets, of any kind.
    :param states: the resources as the task last saw them.
    """
    by_uri = {state.resource_type.asset_uri(state.id): state for state in states}
    for outlet in outlets:
        if isinstance(outlet, Asset) and (state := by_uri.get(outlet.uri)):
            context["outlet_events"][outlet].extra.update(state.build)


def attach_resources(
    context: Context,
    outlets: Collection[object],
    resource_type: ResourceType,
    resources: list[dict[str, Any]],
) -> None:
    """Attach the builds of resources, as Faraday sent them, to the events of outlets."""
    if outlets:
        # Not at the top: it builds structs, which takes too long for a DAG file that is parsed.
        from airflow_provider_faraday.api.states import states_of

        attach_builds(context, outlets, states_of(resource_type, resources))
