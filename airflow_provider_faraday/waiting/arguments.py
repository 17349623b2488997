"""Check the arguments of operators and sensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.api.errors import FaradayInputError, FaradayLookupError
from airflow_provider_faraday.api.inputs import (
    excerpt,
    field_names,
    resource_id,
    resource_id_or_name,
    resource_ids_or_names,
    seconds,
    upload_directory,
    upload_filename,
)
from airflow_provider_faraday.api.resources import CONTAINERS, resource_type_named
from airflow_provider_faraday.api.tables import table_names
from airflow_provider_faraday.compat import to_utc
from airflow_provider_faraday.waiting.source import Source, given_source

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator


def check_upstream(task: Any, unchanged_after: object = None) -> float | None:
    """Check the arguments of a task about upstream resources. Return ``unchanged_after`` in seconds.

    :raises FaradayInputError: if they do not fit together, or the type has nothing upstream.
    """
    kind = resource_type_named(task.resource_type)
    if task.include_upstream and not kind.has_upstream:
        raise FaradayInputError(
            f"include_upstream has no effect: nothing is upstream of {kind.plural}.\nRemove it."
        )
    if unchanged_after is None:
        return None
    if not task.include_upstream or task.updated_after is None:
        raise FaradayInputError(
            "unchanged_after requires include_upstream=True and updated_after: otherwise, a resource "
            "that was not rebuilt is ready anyway.\nAdd them, or remove unchanged_after."
        )
    return seconds(unchanged_after, "unchanged_after")


def task_label(task: BaseOperator) -> str:
    """Return the class and id of a task, for errors."""
    return f"{type(task).__name__} '{task.task_id}'"


@contextmanager
def naming(task: BaseOperator) -> Iterator[None]:
    """Name the task in errors about its arguments."""
    try:
        yield
    except (FaradayInputError, FaradayLookupError) as error:
        label = task_label(task)
        if label not in str(error):
            error.args = (f"{label}: {error}",)
        raise


def check_source(task: Any, *, all_allowed: bool = False) -> None:
    """Check that exactly one of the arguments of a task that describe a source is given.

    :param all_allowed: whether none of them describes all resources of the account.
    :raises FaradayInputError: if that is not so.
    """
    given = {name: getattr(task, name, None) for name in (*CONTAINERS, task._ids_argument)}
    kind = resource_type_named(task.resource_type)
    if not all_allowed or any(value is not None for value in given.values()):
        given_source(task_label(task), kind, given)


def parse_source(task: Any) -> Source:
    """Return the source that the rendered arguments of a task describe.

    :raises FaradayInputError: if an argument that was given rendered to None, or describes no source.
    """
    check_rendered(task)
    argument = next((name for name in (*CONTAINERS, task._ids_argument) if name in task._given), None)
    value = getattr(task, argument) if argument else None
    return Source.parse(resource_type_named(task.resource_type), argument, value)


def check_literals(task: BaseOperator) -> frozenset[str]:
    """Check the arguments of a task that hold neither templates nor XComs, so that a typo fails early.

    :return: the names of the arguments that were given, which the task keeps as ``_given``.
    :raises FaradayInputError: if one is not valid.
    """
    checks = _CHECKS | {getattr(task, "_ids_argument", "resource_ids"): resource_ids_or_names}
    given = {name: value for name in checks if (value := getattr(task, name, None)) is not None}
    with naming(task):
        for name, value in given.items():
            if _is_literal(value):
                checks[name](value, name)
    return frozenset(given)


def check_rendered(task: Any) -> None:
    """Check that no argument that was given rendered to None, which would mean "not given".

    :raises FaradayInputError: if one is None.
    """
    lost = sorted(name for name in task._given if getattr(task, name) is None)
    if lost:
        raise FaradayInputError(
            f"{task_label(task)} was given {' and '.join(lost)}, but the rendered value is None.\n"
            "Check the upstream task and the key. The XCom of a skipped task, or of a key that the task does "
            "not push, is None."
        )


def parse_updated_after(value: object) -> datetime | dict[str, datetime] | None:
    """Return the time, or the time by resource id, of an ``updated_after`` argument.

    :param value: a datetime or ISO 8601 string, in Airflow's default time zone if it has no offset; a mapping
        of ids to such times, such as ``requested_at`` of a force update; or a list of mappings, as a mapped
        force update returns them. Of a list of times, the latest counts.
    :raises FaradayInputError: if it is anything else.
    """
    if value is None:
        return None
    try:
        parts: list[Any] = [value] if isinstance(value, (str, date, Mapping)) else list(value)  # type: ignore[call-overload]
        if not parts or not all(isinstance(part, Mapping) for part in parts):
            return max(_time(part) for part in parts)
        times: dict[str, datetime] = {}
        for key, given in chain.from_iterable(part.items() for part in parts):
            id_, time = resource_id(key, "updated_after"), _time(given)
            # Requested twice: only a build after both counts.
            times[id_] = max(time, times.get(id_, time))
        return times
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise FaradayInputError(
            "updated_after must be a datetime, an ISO 8601 string such as 2026-01-31T06:00:00+00:00, or a "
            f"dict of resource ids and such times, but is {type(value).__name__} {excerpt(value)}.\n"
            'Pass .output["requested_at"] of a force update or .output["updated_after"] of an upload, not '
            "the whole .output. If it comes from a template, check the rendered value: a template renders to "
            "a dict only in a DAG with render_template_as_native_obj=True."
        ) from None


_CHECKS: dict[str, Callable[[Any, str], object]] = {
    **dict.fromkeys(CONTAINERS, resource_id_or_name),
    "target_id": resource_id_or_name,
    "updated_after": lambda value, _: parse_updated_after(value),
    "fields": lambda value, _: field_names(value),
    "tables": lambda value, _: table_names(value),
    "directory": lambda value, _: upload_directory(value),
    "filename": lambda value, _: upload_filename(value),
    "faraday_conn_id": lambda value, _: None,
}
"""Templated arguments, each with its check: a function of the value and of the argument's name. The ids of a
task are checked, too, whatever their argument is called."""


def _time(value: Any) -> datetime:
    return to_utc(datetime.fromisoformat(value) if isinstance(value, str) else value)


def _is_literal(value: object) -> bool:
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    if isinstance(value, Mapping):
        return all(map(_is_literal, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_literal, value))
    return value is None or isinstance(value, (int, float, date, timedelta))
