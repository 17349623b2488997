"""Account files: what they may contain, and the errors for those that are invalid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_faraday.sandbox import SandboxError
from airflow_provider_faraday.sandbox.account_file import load

DATASET = "d1000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"datasets": [{"id": DATASET}]}, "datasets.0.name: Field required"),
        ({"datasets": [{"name": "a", "sandbox": {"nwe": 1}}]}, "datasets.0.sandbox.nwe: Extra inputs"),
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
