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


def test_the_bundled_account_has_the_documented_ids() -> None:
    account = load()

    assert [each.id for each in account.connections] == [
        f"c0000000-0000-4000-8000-00000000000{number}" for number in (1, 2, 3)
    ]
    assert [each.id for each in account.scopes] == ["50000000-0000-4000-8000-000000000001"]
    assert {each.id: each.name for each in account.datasets} == {
        f"d0000000-0000-4000-8000-00000000000{number}": name
        for number, name in enumerate(
            ("customers", "orders", "email_subscribers", "store_visits", "legacy_orders", "returns"), start=1
        )
    }


def test_unknown_fields_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    path.write_text(json.dumps({"datasets": [{"name": "orders", "future_field": {"new": 1}}]}))

    (dataset,) = load(path).datasets

    assert dataset.faraday_fields()["future_field"] == {"new": 1}


def test_accepts_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    path.write_text('{"datasets": [{"name": "orders"}]}', encoding="utf-8-sig")

    assert [dataset.name for dataset in load(path).datasets] == ["orders"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "is invalid"),
        ({"datasets": [{"id": DATASET}]}, "datasets.0.name: Field required"),
        ({"datasets": [{"id": "orders", "name": "orders"}]}, "datasets.0.id: must be a UUID"),
        ({"datasets": [{"name": "a", "sandbox": {"nwe": 1}}]}, "datasets.0.sandbox.nwe: Extra inputs"),
        ({"datasets": [{"name": "a", "sandbox": {"new": -1}}]}, "datasets.0.sandbox.new: Input should be"),
        ({"dataset": []}, "dataset: Extra inputs"),
        (
            {"datasets": [{"id": DATASET, "name": "a"}, {"id": DATASET, "name": "b"}]},
            f"datasets.1.id: duplicate id {DATASET}",
        ),
        (
            {"datasets": [{"name": "a", "connection_id": CONNECTION}]},
            f"datasets.0.connection_id: no connection {CONNECTION}",
        ),
        (
            {"scopes": [{"name": "a", "sandbox": {"dataset_ids": [DATASET]}}]},
            f"scopes.0.sandbox.dataset_ids: no dataset {DATASET}",
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


def test_rejects_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"nowhere\.json' cannot be read: No such file or directory\."):
        load(tmp_path / "nowhere.json")
