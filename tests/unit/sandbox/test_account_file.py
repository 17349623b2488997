"""What an account file may say, and what is told about one that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_faraday.sandbox.account_file import AccountFileError, load

CONNECTION = "c1000000-0000-4000-8000-000000000001"
DATASET = "d1000000-0000-4000-8000-000000000001"


def test_the_bundled_account_has_the_ids_that_the_examples_use() -> None:
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


def test_a_file_is_read_with_every_field_of_faradays(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    path.write_text(json.dumps({"datasets": [{"name": "orders", "someday": {"new": 1}}]}))

    (dataset,) = load(path).datasets

    assert dataset.faraday_fields()["someday"] == {"new": 1}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([], "is not a sandbox account"),
        ({"datasets": [{"id": DATASET}]}, "datasets.0.name: Field required"),
        ({"datasets": [{"id": "orders", "name": "orders"}]}, "datasets.0.id: must be a UUID"),
        ({"datasets": [{"name": "a", "sandbox": {"nwe": 1}}]}, "datasets.0.sandbox.nwe: Extra inputs"),
        ({"datasets": [{"name": "a", "sandbox": {"new": -1}}]}, "datasets.0.sandbox.new: Input should be"),
        ({"dataset": []}, "dataset: Extra inputs"),
        (
            {"datasets": [{"id": DATASET, "name": "a"}, {"id": DATASET, "name": "b"}]},
            f"datasets.1.id: {DATASET} is there twice",
        ),
        (
            {"datasets": [{"name": "a", "connection_id": CONNECTION}]},
            f"datasets.0.connection_id: there is no connection {CONNECTION}",
        ),
        (
            {"scopes": [{"name": "a", "sandbox": {"dataset_ids": [DATASET]}}]},
            f"scopes.0.sandbox.dataset_ids: there is no dataset {DATASET}",
        ),
    ],
)
def test_a_wrong_file_is_told_with_its_place(tmp_path: Path, content: Any, told: str) -> None:
    path = tmp_path / "account.json"
    path.write_text(json.dumps(content))

    with pytest.raises(AccountFileError) as raised:
        load(path)

    assert str(path) in str(raised.value)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("content", "told"), [(b"{", "is not JSON"), (b"", "is not JSON"), (b'"caf\xe9"', "not UTF-8")]
)
def test_a_file_that_is_not_json_is_told_so(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "account.json"
    path.write_bytes(content)

    with pytest.raises(AccountFileError, match=told):
        load(path)


def test_a_missing_file_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(AccountFileError, match=r"Cannot read account file .*: No such file or directory\."):
        load(tmp_path / "nowhere.json")
