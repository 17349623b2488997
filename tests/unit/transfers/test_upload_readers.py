"""Uploads: which datasets read the directory, and what is known if none does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_faraday.exceptions import FaradayApiError, FaradayNotFoundError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.transfers.uploads import UploadFileOperator
from support.ids import WEB_ORDERS

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_faraday.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("faraday_default", "no_backoff")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "web_orders.csv"
    path.write_text("order_id,email\nW-1,ada@example.com\n" * 2000)
    return path


def upload(path: Path, directory: str, **arguments: Any) -> dict[str, Any]:
    return UploadFileOperator(task_id="upload", path=path, directory=directory, **arguments).execute({})


def warnings(task_log: list[str]) -> list[str]:
    # Not those of Airflow, such as about execute() outside of a task.
    return [line for line in task_log if line.startswith("WARNING") and "upload directory" in line]


def test_the_datasets_that_read_the_directory_are_returned_with_the_end_of_the_upload(
    source: Path, sandbox: Sandbox, task_log: list[str]
) -> None:
    options = {"type": "hosted_csv", "upload_directory": "web_orders"}
    second = sandbox.add_dataset(name="second", options=options)["id"]
    sandbox.add_dataset(name="archived", options=options, archived_at="2025-01-31T00:00:00Z")
    sandbox.add_dataset(name="preview", options=options, preview=True)
    sandbox.add_dataset(name="table", options={"type": "snowflake", "upload_directory": "web_orders"})

    first = upload(source, "web_orders", require_dataset=True)
    again = upload(source, "web_orders", require_dataset=True)

    assert first["updated_after"] == dict.fromkeys((WEB_ORDERS, second), first["uploaded_at"])
    assert (again["skipped"], again["updated_after"]) == (True, first["updated_after"])
    assert len(sandbox.requests("/v1/datasets")) == 2
    assert warnings(task_log) == []


def test_a_directory_that_no_dataset_reads_is_a_warning_with_those_that_are_read(
    source: Path, sandbox: Sandbox, task_log: list[str]
) -> None:
    sandbox.add_dataset(name="without a directory", options={"type": "hosted_csv"})
    for number in range(20):
        options = {"type": "hosted_csv", "upload_directory": f"d{number:02}"}
        sandbox.add_dataset(name=f"dataset {number}", options=options)

    assert upload(source, "web_ordres")["updated_after"] == {}

    (warning,) = warnings(task_log)
    assert "'web_ordres'" in warning
    assert "d09 and 12 more" in warning


def test_a_directory_that_no_dataset_reads_is_an_error_if_one_is_required(
    source: Path, sandbox: Sandbox
) -> None:
    with pytest.raises(FaradayNotFoundError, match="returns, web_orders"):
        upload(source, "web_ordres", require_dataset=True)
    with pytest.raises(FaradayNotFoundError):
        FaradayHook().upload_file(source, "web_ordres", require_dataset=True)

    assert sandbox.uploads() == []


def test_an_upload_succeeds_if_the_datasets_cannot_be_listed_unless_one_is_required(
    source: Path, sandbox: Sandbox, task_log: list[str]
) -> None:
    sandbox.fail_next(times=100, status=500, path="/datasets")

    with pytest.raises(FaradayApiError):
        upload(source, "web_orders", require_dataset=True)
    assert sandbox.uploads() == []

    assert upload(source, "web_orders")["updated_after"] == {}
    assert len(sandbox.uploads()) == 1
    assert "500" in warnings(task_log)[-1]
