"""Transfers on real Airflow against the sandbox: mapped, templated, redirected, and before a sensor."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.transfers.targets import DownloadTargetOperator
from airflow_provider_faraday.transfers.uploads import UploadFileOperator
from support.ids import TARGET, WEB_ORDERS

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_faraday.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("faraday_default")

ROWS = b"order_id,email\nW-1,ada@example.com\n"

RunDag = "Callable[..., DagRunResult]"


def test_mapped_uploads_and_a_wait_for_the_build_that_contains_one(
    run_dag: RunDag, sandbox: Sandbox, tmp_path: Path
) -> None:
    paths = [tmp_path / f"orders_{number}.csv" for number in range(2)]
    for path in paths:
        path.write_bytes(ROWS + path.name.encode())
    (tmp_path / "last.csv").write_bytes(ROWS)
    with DAG("mapped_uploads", schedule=None) as dag:
        mapped = UploadFileOperator.partial(task_id="mapped", directory="web_orders").expand(
            path=[str(path) for path in paths]
        )
        last = UploadFileOperator(
            task_id="last",
            path=f"{tmp_path}/{{{{ params.name }}}}",
            directory="{{ params.directory }}",
            filename="{{ run_id[:6] }}.csv",
            params={"name": "last.csv", "directory": "web_orders"},
        )
        wait = DatasetsReadySensor(
            task_id="wait",
            datasets=[WEB_ORDERS],
            updated_after=last.output["uploaded_at"],
            poke_interval=0.1,
            timeout=60,
        )
        mapped >> last >> wait

    result = run_dag(dag)

    assert set(result.states.values()) == {"success"}
    names = ["web_orders/orders_0.csv", "web_orders/orders_1.csv", "web_orders/manual.csv"]
    assert [result[key].xcom["path"] for key in ("mapped[0]", "mapped[1]", "last")] == names
    assert sorted(each["subpath"] for each in sandbox.uploads()) == sorted(names)
    (dataset,) = result["wait"].xcom
    assert dataset["last_updated_output_at"] >= result["last"].xcom["uploaded_at"][:23]


@pytest.mark.parametrize("redirect", [False, True])
def test_mapped_downloads(run_dag: RunDag, sandbox: Sandbox, tmp_path: Path, redirect: bool) -> None:
    sandbox.set(download_redirect=redirect)
    # Until everything is built.
    sandbox.advance(3600)
    with DAG("mapped_downloads", schedule=None, default_args={"retries": 0}) as dag:
        DownloadTargetOperator.partial(
            task_id="download", path=f"{tmp_path}/{{{{ ti.map_index }}}}.csv"
        ).expand(target_id=[TARGET, TARGET])

    result = run_dag(dag)

    assert result.states == {"download[0]": "success", "download[1]": "success"}
    for index in range(2):
        returned: dict[str, Any] = result[f"download[{index}]"].xcom
        content = (tmp_path / f"{index}.csv").read_bytes()
        assert returned["path"] == f"{tmp_path}/{index}.csv"
        assert returned["md5"] == hashlib.md5(content).hexdigest()
        assert returned["count"] == content.count(b"\n") - 1
    requests = [request for request in sandbox.requests() if request["path"].startswith("/downloads/")]
    assert len(requests) == (2 if redirect else 0)
