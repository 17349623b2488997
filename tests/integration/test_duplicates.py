"""The consumer of docs/assets.md loads each build once, whether events start one run together or one each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support.cluster import cluster
from support.ids import CUSTOMERS
from support.markdown_pages import ROOT
from support.run_dag import AIRFLOW_3_3, AIRFLOW_3_4

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.cluster import Cluster

pytestmark = [
    pytest.mark.skipif(not AIRFLOW_3_3, reason="Each earlier Airflow starts its processes differently."),
    pytest.mark.timeout(480),
]

HEAD = f"""
from airflow.sdk import DAG, task

from airflow_provider_faraday.assets.datasets import dataset_asset

CUSTOMERS = dataset_asset("{CUSTOMERS}")
"""
# The second build twice, and the first one again after it.
ANNOUNCED = ("2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z", "2026-01-02T00:00:00.000Z")
ANNOUNCED += ANNOUNCED[:1]


@pytest.fixture
def airflow(another_airflow_home: Path, tmp_path: Path) -> Iterator[Cluster]:
    section = (ROOT / "docs" / "assets.md").read_text().partition("### Deduplicate events")[2]
    [pattern] = re.findall(r"```python airflow3\n(.*?)```", section.partition("\n#")[0], re.DOTALL)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "load_once.py").write_text(HEAD + pattern)
    with cluster(another_airflow_home, tmp_path / "dags") as created:
        created.start_all("scheduler")
        created.until(lambda: asset_ids(created) != [], 120, "the asset is there")
        yield created


def asset_ids(airflow: Cluster) -> list[int]:
    return [asset["id"] for asset in airflow.api.items("/api/v2/assets", "assets")]


def test_a_build_that_is_announced_again_is_not_loaded_again(airflow: Cluster) -> None:
    [asset_id] = asset_ids(airflow)
    for built_at in ANNOUNCED:
        build = {"id": CUSTOMERS, "name": "customers", "last_updated_output_at": built_at}
        airflow.api.post("/api/v2/assets/events", {"asset_id": asset_id, "extra": {"payload": build}})
        if AIRFLOW_3_4:
            continue
        # An event that arrives before the run for the previous one has started would start none.
        runs = len(airflow.api.returned("load_once"))
        airflow.until(lambda runs=runs: len(airflow.api.returned("load_once")) > runs, 120, "a run ends")

    airflow.until(lambda: len(airflow.api.returned("load_once")) == len(ANNOUNCED), 180, "all runs end")
    loaded = [built_at for _, value in airflow.api.returned("load_once") for built_at in value]
    assert sorted(loaded) == sorted({*ANNOUNCED})
