"""The example response of Faraday's reference: a preview with an undocumented status, archived."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_faraday.exceptions import NothingToWaitForError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from raw_server import RawServer, answer

DOCUMENTED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "samples" / "datasets.json").read_text()
)[0]
ID = DOCUMENTED["id"]


@pytest.fixture
def sent(faraday_default: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Return the dataset that Faraday sends; tests may change it."""
    dataset = dict(DOCUMENTED)

    def respond(request: Any) -> Any:
        return answer(body=dataset if request.target.endswith(f"/datasets/{ID}") else [dataset])

    with RawServer(respond) as server:
        faraday_default(host=server.url)
        yield dataset


@pytest.mark.usefixtures("sent")
def test_the_hook_returns_all_fields() -> None:
    assert FaradayHook().list_datasets() == FaradayHook().list_datasets([ID]) == [DOCUMENTED]
    assert FaradayHook().get_dataset(ID) == DOCUMENTED


def test_a_sensor_skips_it_and_otherwise_waits_for_its_status(sent: dict[str, Any]) -> None:
    sensor = DatasetsReadySensor(task_id="wait", datasets=[ID])
    with pytest.raises(NothingToWaitForError, match="archived"):
        sensor.poke({})
    sent |= {"archived_at": None, "preview": False}
    assert not sensor.poke({}).is_done
    sent["status"] = "ready"
    assert sensor.poke({}).is_done
