"""What tasks attach to the events of their outlets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Asset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import Context

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
