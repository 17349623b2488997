"""Checks of a ready resource's numbers, with the keys of Airflow's ``SQLColumnCheckOperator``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, NamedTuple

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.inputs import excerpt
from airflow_provider_faraday.api.text import one_line

Checks = Mapping[str, Mapping[str, float]]
"""Limits by field. Each limit is a number by one of the words in :data:`LIMITS`."""

# Whether a value is within a limit, which may be off by a margin.
LIMITS: dict[str, Callable[[float, float, float], bool]] = {
    "equal_to": lambda value, limit, margin: limit - margin <= value <= limit + margin,
    "greater_than": lambda value, limit, margin: value > limit - margin,
    "less_than": lambda value, limit, margin: value < limit + margin,
    "geq_to": lambda value, limit, margin: value >= limit - margin,
    "leq_to": lambda value, limit, margin: value <= limit + margin,
}
TOLERANCE = "tolerance"
"""The fraction by which a value may be off from each limit of its field."""


class FailedCheck(NamedTuple):
    """A field of a resource that is missing, not a number, or not within its limits.

    :param found: the number, or what is there instead. Other values are not quoted: they may be secret.
    """

    resource: Mapping[str, Any]
    field: str
    found: str
    limits: Mapping[str, float]

    def __str__(self) -> str:
        label = one_line(f"'{self.resource.get('name')}' ({self.resource['id']})")
        limits = " and ".join(f"{word} {limit}" for word, limit in self.limits.items())
        return f"{label}: {self.field} is {self.found}, but must be {limits}"


def parse_checks(checks: object) -> Checks:
    """Return a ``checks`` argument as a dict of fields and limits; an empty one for None.

    :raises FaradayInputError: if it is anything else.
    """
    if checks is None:
        return {}
    if not isinstance(checks, Mapping) or not checks or not all(map(_is_field, checks)):
        raise FaradayInputError(
            "checks must be a dict of fields and limits, such as {'row_count': {'geq_to': 1000}}, but is "
            f"{type(checks).__name__} {excerpt(checks)}.\nchecks is not templated: pass the dict itself."
        )
    return {field: _limits(field, limits) for field, limits in checks.items()}


def failed_checks(checks: Checks, resources: list[dict[str, Any]]) -> list[FailedCheck]:
    """Return the checks that resources do not pass.

    :param resources: the resources, as Faraday sent them.
    """
    return [
        FailedCheck(resource, field, _describe(value), limits)
        for resource in resources
        for field, limits in checks.items()
        if not _passes(value := _value(resource, field), limits)
    ]


def _is_field(name: object) -> bool:
    return isinstance(name, str) and all(name.split("."))


def _limits(field: str, limits: object) -> dict[str, float]:
    if not (
        isinstance(limits, Mapping)
        and limits.keys() - {TOLERANCE}
        and limits.keys() <= {*LIMITS, TOLERANCE}
        and all(_is_number(number) and -inf < number < inf for number in limits.values())
        and limits.get(TOLERANCE, 0) >= 0
    ):
        raise FaradayInputError(
            f"checks[{field!r}] must be a dict of limits and numbers, such as {{'geq_to': 1000}}, but is "
            f"{excerpt(limits)}.\nUse {', '.join(LIMITS)}, and with these also {TOLERANCE} >= 0."
        )
    return dict(limits)


def _value(resource: Mapping[str, Any], field: str) -> Any:
    value: Any = resource
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _passes(value: Any, limits: Mapping[str, float]) -> bool:
    tolerance = limits.get(TOLERANCE, 0)
    return _is_number(value) and all(
        LIMITS[word](value, limit, abs(limit) * tolerance)
        for word, limit in limits.items()
        if word != TOLERANCE
    )


def _describe(value: Any) -> str:
    if value is None:
        return "missing"
    return str(value) if _is_number(value) else "not a number"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
