"""TargetsReadySensor: wait until Faraday has delivered its predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.sensors.resources import ResourcesReadySensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta


class TargetsReadySensor(ResourcesReadySensor):
    """Wait until all targets of a Faraday connection, of a scope, or of a list are ready.

    It succeeds when Faraday has delivered the predictions: to a table, to a bucket, or as a hosted CSV.
    Returns the ready targets as a list of dicts.
    For the modes and the errors, see
    :class:`~airflow_provider_faraday.sensors.resources.ResourcesReadySensor`.

    https://faraday.ai/docs/reference/getscopetargets

    :param connection_id: UUID or name of a Faraday connection: wait for all targets that deliver to it
        (templated).
    :param scope_id: UUID or name of a scope: wait for all targets that deliver its predictions (templated).
    :param targets: wait for these: UUIDs, names, or dicts as a list operator returns them; a list, or a
        single one, so that a mapped sensor can wait for each (templated). Pass exactly one of these three.
    :param updated_after: count only builds at or after this time, and wait out errors from before it. A
        datetime or ISO 8601 string, in Airflow's default time zone if it has no offset; or a dict of ids and
        times, such as the ``requested_at`` of a force update; or a list of either, as mapped tasks return
        them (templated).
    :param fail_on_error: fail as soon as a target is in status ``error``; False waits until it is fixed.
    :param allow_empty: succeed if there is nothing to wait for, instead of failing.
    :param include_upstream: also wait until all upstream resources are up to date.
    :param unchanged_after: with ``include_upstream`` and ``updated_after``: seconds without any change
        upstream after which a target counts as ready although Faraday did not rebuild it.
    :param checks: limits for fields of the ready targets, with the keys of Airflow's
        ``SQLColumnCheckOperator``, such as ``{"count": {"geq_to": 1000}}``; nested fields have dotted
        names.
    :param fields: the fields to return (templated); None for all but ``options``, which may hold credentials.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :param deferrable: wait in the triggerer. The default is Airflow's ``[operators] default_deferrable``.
    """

    template_fields: Sequence[str] = (
        "connection_id",
        "scope_id",
        "targets",
        "updated_after",
        "fields",
        "faraday_conn_id",
    )
    _ids_argument = "targets"

    def __init__(
        self,
        *,
        connection_id: str | None = None,
        scope_id: str | None = None,
        targets: Sequence[str | dict[str, Any]] | None = None,
        updated_after: datetime | str | Mapping[str, datetime | str] | None = None,
        fail_on_error: bool = True,
        allow_empty: bool = False,
        include_upstream: bool = False,
        unchanged_after: float | timedelta | None = None,
        checks: Mapping[str, Mapping[str, float]] | None = None,
        fields: Sequence[str] | None = None,
        faraday_conn_id: str = "faraday_default",
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        self.targets = targets
        super().__init__(
            resource_type="targets",
            connection_id=connection_id,
            scope_id=scope_id,
            updated_after=updated_after,
            fail_on_error=fail_on_error,
            allow_empty=allow_empty,
            include_upstream=include_upstream,
            unchanged_after=unchanged_after,
            checks=checks,
            fields=fields,
            faraday_conn_id=faraday_conn_id,
            deferrable=deferrable,
            **kwargs,
        )
