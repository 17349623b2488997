"""A source: the set of resources that a task looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.inputs import (
    excerpt,
    field_names,
    resource_id,
    resource_ids,
    seconds,
    upload_directory,
    upload_filename,
)
from airflow_provider_faraday.api.resources import ResourceType, resource_type_named
from airflow_provider_faraday.api.tables import table_names
from airflow_provider_faraday.compat import to_utc

if TYPE_CHECKING:
    from airflow_provider_faraday.api.endpoints import Endpoint


class Source(NamedTuple):
    """Resources of one type: those of a Faraday connection, those of a scope, or those listed by id; and,
    with ``include_upstream``, everything that they are built from."""

    resource_type: str
    connection_id: str | None = None
    scope_id: str | None = None
    resource_ids: tuple[str, ...] | None = None
    include_upstream: bool = False

    @classmethod
    def of(
        cls,
        owner: str,
        resource_type: str,
        *,
        ids_argument: str = "resource_ids",
        include_upstream: bool = False,
        **given: object,
    ) -> Source:
        """Return the source that arguments describe.

        :param owner: who has these arguments, for the error.
        :param ids_argument: the argument that names the resources themselves.
        :param include_upstream: whether everything upstream of the resources belongs to it.
        :param given: ``connection_id``, ``scope_id`` and the ids; all but one None.
        :raises FaradayInputError: if they do not describe exactly one source.
        """
        check_source(owner, resource_type, given)
        ids = given.get(ids_argument)
        container = {
            name: resource_id(given[name], name)
            for name in ("connection_id", "scope_id")
            if given.get(name) is not None
        }
        return cls(
            resource_type=resource_type,
            resource_ids=None if ids is None else tuple(resource_ids(ids, ids_argument)),
            include_upstream=include_upstream,
            **container,
        )

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Source:
        """Return the source that a trigger's arguments describe, the fields as JSON values."""
        ids = saved.get("resource_ids")
        return cls(**{**saved, "resource_ids": None if ids is None else tuple(ids)})

    @property
    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        ids = self.resource_ids
        saved = {**self._asdict(), "resource_ids": None if ids is None else list(ids)}
        # A watcher never has it, and its marks are kept under a hash of these fields.
        return saved if self.include_upstream else {k: v for k, v in saved.items() if k != "include_upstream"}

    @property
    def type(self) -> ResourceType:
        """The row of the resource type."""
        return resource_type_named(self.resource_type)

    @property
    def label(self) -> str:
        """The source, for messages."""
        if self.connection_id is not None:
            return f"{self.type.plural} of Faraday connection {self.connection_id}"
        if self.scope_id is not None:
            return f"{self.type.plural} of scope {self.scope_id}"
        return f"{self.type.plural} that were requested by id"

    @property
    def without_ids(self) -> Source:
        """The source that is polled for this one and others of its kind together."""
        return self._replace(resource_ids=None if self.resource_ids is None else ())

    def endpoints(self, ids: Iterable[str] = ()) -> list[Endpoint]:
        """Return the requests that make up one poll.

        :param ids: the resources to poll, for a source by id.
        """
        from airflow_provider_faraday.api import endpoints

        if self.connection_id is not None:
            return [endpoints.resources_of_connection(self.type, self.connection_id)]
        if self.scope_id is not None:
            return [endpoints.resources_of_scope(self.type, self.scope_id)]
        return endpoints.resources_by_id(self.type, ids)


def check_source(owner: str, resource_type: str, given: Mapping[str, object]) -> None:
    """Check that exactly one of the arguments that describe a source is given, and that the type has it.

    :raises FaradayInputError: if not.
    """
    listed_by = resource_type_named(resource_type).listed_by
    names = [name for name, value in given.items() if value is not None]
    supported = [name for name in given if name in listed_by or name not in ("connection_id", "scope_id")]
    if len(names) != 1 or names[0] not in supported:
        *others, last = supported
        which = f"exactly one of {', '.join(others)} and {last}" if others else last
        if names and len(supported) < len(given):
            which += f" for {resource_type}"
        raise FaradayInputError(f"{owner} takes {which}, but got {' and '.join(names) or 'none of them'}.")


def check_upstream(
    owner: str,
    resource_type: str,
    include_upstream: bool,
    unchanged_after: object = None,
    updated_after: object = None,
) -> float | None:
    """Check the arguments about upstream resources. Return ``unchanged_after`` in seconds.

    :raises FaradayInputError: if they do not fit together, or the type has nothing upstream.
    """
    kind = resource_type_named(resource_type)
    if include_upstream and not kind.has_upstream:
        raise FaradayInputError(
            f"{owner} cannot use include_upstream: nothing is upstream of {kind.plural}.\nRemove it."
        )
    if unchanged_after is None:
        return None
    if not include_upstream or updated_after is None:
        raise FaradayInputError(
            f"{owner} can use unchanged_after only with include_upstream=True and updated_after: otherwise, "
            "a resource that was not rebuilt is ready anyway.\nAdd them, or remove unchanged_after."
        )
    return seconds(unchanged_after, "unchanged_after")


def check_literals(operator: Any, ids_argument: str = "") -> None:
    """Check the arguments of an operator that hold neither templates nor XComs, so that a typo fails early.

    :param ids_argument: the argument that names the resources themselves.
    :raises FaradayInputError: if one is not valid.
    """
    checks: dict[str, Callable[[Any], object]] = {
        "connection_id": lambda value: resource_id(value, "connection_id"),
        "scope_id": lambda value: resource_id(value, "scope_id"),
        ids_argument: lambda value: resource_ids(value, ids_argument),
        "fields": field_names,
        "tables": table_names,
        "updated_after": parse_updated_after,
        "target_id": lambda value: resource_id(value, "target_id"),
        "directory": upload_directory,
        "filename": upload_filename,
    }
    for name, check in checks.items():
        value = getattr(operator, name, None) if name else None
        if value is not None and _is_literal(value):
            check(value)


def parse_updated_after(value: object) -> datetime | dict[str, datetime] | None:
    """Return the time, or the time by resource id, of an ``updated_after`` argument.

    :param value: a datetime or ISO 8601 text, in Airflow's default time zone if it has no offset; a mapping
        of ids to such times, such as ``requested_at`` of a force update; or a list of mappings, as a mapped
        force update returns them. Of a list of times, the latest counts.
    :raises FaradayInputError: if it is anything else.
    """
    if value is None:
        return None
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        mappings: list[Any] = [value] if isinstance(value, Mapping) else list(value)
        if mappings and all(isinstance(mapping, Mapping) for mapping in mappings):
            times: dict[str, datetime] = {}
            for key, given in chain.from_iterable(mapping.items() for mapping in mappings):
                id_, time = resource_id(key, "updated_after"), _time(given)
                # Requested twice: only a build after both counts.
                times[id_] = max(time, times.get(id_, time))
            return times
        if mappings and not any(isinstance(each, Mapping) for each in mappings):
            # As several mapped uploads return theirs.
            return max(_time(each) for each in mappings)
    return _time(value)


def _time(value: object) -> datetime:
    try:
        return to_utc(datetime.fromisoformat(value) if isinstance(value, str) else value)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise FaradayInputError(
            "updated_after must be a datetime, ISO 8601 text such as 2026-01-31T06:00:00+00:00, or a dict of "
            f"resource ids and such times, but is {type(value).__name__} {excerpt(value)}."
        ) from None


def _is_literal(value: object) -> bool:
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    if isinstance(value, Mapping):
        return all(map(_is_literal, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_literal, value))
    return value is None or isinstance(value, (int, float, date, timedelta))
