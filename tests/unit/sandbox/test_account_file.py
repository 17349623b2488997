"""Account files: what they may contain, and the errors for those that are invalid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_faraday.sandbox import SandboxError
from airflow_provider_faraday.sandbox.account_file import load

CONNECTION = "c1000000-0000-4000-8000-000000000001"
DATASET = "d1000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"datasets": [{"id": DATASET}]}, "datasets.0.name: Field required"),
        ({"datasets": [{"id": "orders", "name": "orders"}]}, "datasets.0.id: must be a UUID"),
        ({"datasets": [{"name": "a", "sandbox": {"nwe": 1}}]}, "datasets.0.sandbox.nwe: Extra inputs"),
        (
            {"datasets": [{"id": DATASET, "name": "a"}, {"id": DATASET, "name": "b"}]},
            f"datasets.1.id: duplicate id {DATASET}",
        ),
        (
            {"datasets": [{"name": "a", "connection_id": CONNECTION}]},
            f"datasets.0.connection_id: no connection {CONNECTION}",
        ),
        (
            {"targets": [{"name": "a", "scope_id": DATASET}], "datasets": [{"id": DATASET, "name": "b"}]},
            f"targets.0.scope_id: no scope {DATASET}",
        ),
        (
            {"cohorts": [{"name": "a", "sandbox": {"upstream_ids": [DATASET]}}]},
            f"cohorts.0.sandbox.upstream_ids: no resource {DATASET}",
        ),
        (
            {"cohorts": [{"id": DATASET, "name": "a", "sandbox": {"upstream_ids": [DATASET]}}]},
            f"upstream of each other: {DATASET}",
        ),
    ],
)
def test_an_error_names_the_file_and_the_invalid_field(tmp_path: Path, content: Any, problem: str) -> None:
    path = tmp_path / "account.json"
    path.write_text(json.dumps(content))

    with pytest.raises(SandboxError) as raised:
        load(path)

    assert str(path) in str(raised.value)
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"{", "is not valid JSON"), (b"", "is not valid JSON"), (b'"caf\xe9"', "is not UTF-8")],
)
def test_rejects_a_file_that_is_not_json(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "account.json"
    path.write_bytes(content)

    with pytest.raises(SandboxError, match=problem):
        load(path)
