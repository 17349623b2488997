"""Checks: which numbers pass, what else does not, and which mistakes are found when a DAG file is parsed."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_faraday.api.checks import failed_checks, parse_checks
from airflow_provider_faraday.exceptions import FaradayInputError

MISSING = object()


def passes(value: Any, **limits: Any) -> bool:
    fields = {} if value is MISSING else {"value": value}
    return not failed_checks(parse_checks({"value": limits}), [{"id": "x", **fields}])


@pytest.mark.parametrize(
    ("limits", "pass_", "fail"),
    [
        ({"equal_to": 10}, [10, 10.0], [9, 11]),
        ({"greater_than": 10}, [11, 10.5], [10, 9]),
        ({"geq_to": 10}, [10, 11], [9.9]),
        ({"less_than": 10}, [9], [10, 11]),
        ({"leq_to": 10}, [10, 9], [10.1]),
        ({"geq_to": 10, "less_than": 20}, [10, 19], [9, 20]),
        # The tolerance widens each limit outward, also a negative one.
        ({"equal_to": 10, "tolerance": 0.1}, [9, 11], [8.9, 11.1]),
        ({"equal_to": -10, "tolerance": 0.1}, [-9, -11], [-8.9, -11.1]),
        ({"greater_than": 10, "tolerance": 0.1}, [9.1], [9]),
        ({"less_than": 10, "tolerance": 0.1}, [10.9], [11]),
    ],
)
def test_limits_mean_what_they_mean_in_airflow(
    limits: dict[str, float], pass_: list[float], fail: list[float]
) -> None:
    assert [value for value in pass_ if not passes(value, **limits)] == []
    assert [value for value in fail if passes(value, **limits)] == []


@pytest.mark.parametrize("value", [MISSING, None, "12", True, [12], float("nan")])
def test_what_is_not_a_number_does_not_pass(value: Any) -> None:
    assert not passes(value, geq_to=0)
    assert not passes(value, leq_to=100)


@pytest.mark.parametrize("nested", [{}, {"fig": None}, {"fig": {"person": None}}, {"fig": 5}])
def test_dots_lead_to_nested_fields(nested: Any) -> None:
    checks = parse_checks({"enrichment.fig.person": {"geq_to": 100}})
    assert not failed_checks(checks, [{"id": "x", "enrichment": {"fig": {"person": 100}}}])
    (failed,) = failed_checks(checks, [{"id": "x", "enrichment": nested}])
    assert "enrichment.fig.person is " in str(failed)


def test_a_failed_check_names_resource_field_value_and_limits() -> None:
    checks = parse_checks({"row_count": {"geq_to": 1000, "tolerance": 0.1}, "options.key": {"geq_to": 1}})
    resource = {"id": "id-1", "name": "orders\n", "row_count": 12, "options": {"key": "very secret"}}
    assert [str(failed) for failed in failed_checks(checks, [resource])] == [
        "'orders ' (id-1): row_count is 12, but must be geq_to 1000 and tolerance 0.1",
        "'orders ' (id-1): options.key is not a number, but must be geq_to 1",
    ]


@pytest.mark.parametrize(
    "checks",
    [
        "row_count",
        {"a..b": {"geq_to": 1}},
        {},
        {"row_count": 1000},
        {"row_count": {"tolerance": 0.1}},
        {"row_count": {"min": 1}},
        {"row_count": {"geq_to": "1000"}},
        {"row_count": {"geq_to": float("inf")}},
        {"row_count": {"geq_to": 1, "tolerance": -0.1}},
    ],
)
def test_mistakes_are_input_errors(checks: Any) -> None:
    with pytest.raises(FaradayInputError, match="checks"):
        parse_checks(checks)
