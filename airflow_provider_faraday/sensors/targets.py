"""TargetsReadySensor: gate a DAG on Faraday having delivered its predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.sensors.resources import ResourcesReadySensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class TargetsReadySensor(ResourcesReadySensor):
    """Wait until all targets of a Faraday connection, of a scope, or of a list are ready.

    It succeeds when Faraday has delivered the predictions: to a table, to a bucket, or as a hosted CSV.
    Returns the ready targets as a list of dicts. For the other arguments, the modes and the errors, see
    :class:`~airflow_provider_faraday.sensors.resources.ResourcesReadySensor`.

    https://faraday.ai/docs/reference/getscopetargets

    :param connection_id: UUID of a Faraday connection: wait for all targets that deliver to it (templated).
    :param scope_id: UUID of a scope: wait for all targets that deliver its predictions (templated).
    :param targets: wait for these: ids, or dicts as a list operator returns them; a list, or a single one, so
        that a mapped sensor can wait for each (templated). Pass exactly one of these three.
    """

    template_fields: Sequence[str] = (
        "connection_id",
        "scope_id",
        "targets",
        "updated_after",
        "fields",
        "faraday_conn_id",
    )
    ids_argument = "targets"

    def __init__(
        self,
        *,
        connection_id: str | None = None,
        scope_id: str | None = None,
        targets: Sequence[str | dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            resource_type="targets",
            connection_id=connection_id,
            scope_id=scope_id,
            resource_ids=targets,
            **kwargs,
        )
