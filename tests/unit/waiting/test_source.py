"""Source: the set of resources that a task looks at."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_faraday.waiting.source import Source
from support.ids import ORDERS, SCOPE, WAREHOUSE


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        ({}, "datasets of the account"),
        ({"resource_ids": [ORDERS]}, "requested datasets"),
        ({"scope_id": SCOPE}, f"datasets of scope {SCOPE}"),
        (
            {"connection_id": WAREHOUSE, "include_upstream": True},
            f"datasets of Faraday connection {WAREHOUSE}",
        ),
    ],
)
def test_a_source_names_itself_and_is_restored_from_its_json(arguments: dict[str, Any], label: str) -> None:
    source = Source.parse("A test", "datasets", all_allowed=True, **arguments)
    assert source.label == label
    if arguments:
        assert Source.from_json(source.as_json) == source
