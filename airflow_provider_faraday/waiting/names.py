"""Replace the names in a source by ids, before anything waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_faraday.api.resources import CONTAINERS

if TYPE_CHECKING:
    from airflow_provider_faraday.hooks.faraday import FaradayHook
    from airflow_provider_faraday.waiting.source import Source


def look_up(hook: FaradayHook, source: Source) -> Source:
    """Return the source with ids in place of names. It sends one request if there is a name.

    :raises FaradayLookupError: if a name does not identify one resource.
    """
    if source.container:
        id_ = hook.find_id(CONTAINERS[source.container.argument].name, source.container.id)
        return source._replace(container=source.container._replace(id=id_))
    if source.ids:
        return source._replace(ids=tuple(hook.find_ids(source.type.name, source.ids)))
    return source
