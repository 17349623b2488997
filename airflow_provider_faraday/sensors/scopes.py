"""ScopesReadySensor: gate a DAG on Faraday having computed its predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.sensors.resources import ResourcesReadySensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class ScopesReadySensor(ResourcesReadySensor):
    """Wait until scopes are ready.

    It succeeds when Faraday has computed the predictions. They may not have been delivered yet: that is what
    the scope's targets do. Returns the ready scopes as a list of dicts. For the other arguments, the modes
    and the errors, see :class:`~airflow_provider_faraday.sensors.resources.ResourcesReadySensor`.

    https://faraday.ai/docs/reference/getscopes

    :param scopes: the scopes to wait for: ids, or dicts as a list operator returns them; a list, or a single
        one, so that a mapped sensor can wait for each (templated).
    """

    template_fields: Sequence[str] = ("scopes", "updated_after", "fields", "faraday_conn_id")
    ids_argument = "scopes"

    def __init__(self, *, scopes: Sequence[str | dict[str, Any]], **kwargs: Any) -> None:
        super().__init__(
            resource_type="scopes", connection_id=None, scope_id=None, resource_ids=scopes, **kwargs
        )
