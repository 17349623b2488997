"""FaradayHook: what each method requests and returns. Its errors are in ``client/test_faults.py``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests_mock

from airflow_provider_faraday import __version__
from airflow_provider_faraday.exceptions import FaradayInputError, FaradayNotFoundError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.sandbox import Sandbox
from raw_server import RawServer, answer
from support.clients import DATASETS, ID, PATH

BASE_URL = "https://api.faraday.ai/v1"

SetConnection = Callable[..., FaradayHook]


@pytest.fixture
def mocked() -> Iterator[requests_mock.Mocker]:
    with requests_mock.Mocker() as mocker:
        yield mocker


@pytest.mark.parametrize(
    ("path", "sent", "call"),
    [
        (PATH[1:], DATASETS, lambda hook: hook.list_connection_datasets(ID)),
        (f"scopes/{ID}/datasets", DATASETS, lambda hook: hook.list_scope_datasets(ID)),
        (f"connections/{ID}/targets", DATASETS, lambda hook: hook.list_connection_targets(ID)),
        (f"scopes/{ID}/targets", DATASETS, lambda hook: hook.list_scope_targets(ID)),
        (f"datasets/{ID}", DATASETS[0], lambda hook: hook.get_dataset(ID)),
        ("graph", [{"upstream_id": ID, "brand_new": [1]}], lambda hook: hook.get_graph()),
    ],
)
def test_returns_what_faraday_sent(
    connect: SetConnection, mocked: requests_mock.Mocker, path: str, sent: Any, call: Any
) -> None:
    mocked.get(f"{BASE_URL}/{path}", json=sent)
    assert call(connect()) == sent
    headers = mocked.request_history[0].headers
    assert headers["User-Agent"].startswith(f"airflow-provider-faraday/{__version__} apache-airflow/")


def test_lists_all_datasets_or_some_by_id_in_batches(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    mocked.get(f"{BASE_URL}/datasets", json=DATASETS)
    hook = connect()
    assert hook.list_datasets() == DATASETS
    assert hook.list_datasets(ids=[]) == []
    assert mocked.call_count == 1
    assert hook.list_datasets(ids=[str(uuid.UUID(int=n)) for n in range(101)]) == DATASETS * 2
    assert [len(request.qs.get("ids", [])) for request in mocked.request_history] == [0, 100, 1]


def test_what_faraday_does_not_list_is_not_requested(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    with pytest.raises(FaradayInputError, match="does not list cohorts by scope"):
        connect().list_scope_resources("cohorts", ID)
    assert mocked.call_count == 0


def test_a_force_update_returns_when_faraday_accepted_it(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    headers = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    mocked.post(f"{BASE_URL}/datasets/{ID}/force_update", status_code=204, headers=headers)
    assert connect().force_update_dataset(ID) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
    assert mocked.call_count == 1


def test_reuses_one_tcp_connection(connect: SetConnection) -> None:
    with RawServer([answer(body=DATASETS)]) as server:
        hook = connect(server.url)
        for _ in range(3):
            hook.list_connection_datasets(ID)
        assert len(server.received) == 3
        assert server.connections == 1


@pytest.mark.usefixtures("faraday_default")
def test_deletes_an_upload(sandbox: Sandbox, tmp_path) -> None:
    hook = FaradayHook()
    (tmp_path / "a.csv").write_text("id\n1\n")
    for name in ("a.csv", "b.csv"):
        hook.upload_file(f"file://{tmp_path}/a.csv", directory="web_orders", filename=name)

    hook.delete_upload("web_orders", "a.csv")

    assert [upload["subpath"] for upload in hook.list_uploads()] == ["web_orders/b.csv"]
    with pytest.raises(FaradayNotFoundError):
        hook.delete_upload("web_orders", "a.csv")
