"""Every way to read datasets, with the example responses of Faraday's reference.

The example is a preview with the undocumented status ``pending``, and it is archived.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests_mock
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_faraday.exceptions import NothingToWaitForError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.operators.resources import ListResourcesOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

DOCUMENTED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "samples" / "datasets.json").read_text()
)
ID = DOCUMENTED[0]["id"]

Answer = Callable[[list[dict[str, Any]]], None]

pytestmark = pytest.mark.usefixtures("faraday_default")


def in_use(**changes: Any) -> list[dict[str, Any]]:
    """Return the example as a dataset that Faraday builds."""
    return [{**deepcopy(DOCUMENTED[0]), "archived_at": None, "preview": False, **changes}]


@pytest.fixture
def over_a_socket(sandbox: Sandbox) -> Answer:
    """Let a server answer with these datasets."""

    def answer(datasets: list[dict[str, Any]]) -> None:
        sandbox.clear_faults()
        sandbox.fail_next(times=1000, path="/datasets$", method="GET", body=datasets)
        sandbox.fail_next(times=1000, path=f"/datasets/{ID}$", method="GET", body=datasets[0])

    return answer


@pytest.fixture(params=["requests-mock", "socket"])
def answer(request: pytest.FixtureRequest, sandbox: Sandbox, over_a_socket: Answer) -> Iterator[Answer]:
    """Let Faraday answer with these datasets."""
    if request.param == "socket":
        yield over_a_socket
        return
    with requests_mock.Mocker() as mocked:

        def answer(datasets: list[dict[str, Any]]) -> None:
            mocked.get(f"{sandbox.url}/datasets", json=datasets)
            mocked.get(f"{sandbox.url}/datasets/{ID}", json=datasets[0])

        yield answer


def wait(**arguments: Any) -> DatasetsReadySensor:
    return DatasetsReadySensor(task_id="wait", datasets=[ID], poke_interval=0.05, **arguments)


def test_the_hook_returns_all_fields(answer: Answer) -> None:
    answer(DOCUMENTED)

    assert FaradayHook().list_datasets() == DOCUMENTED
    assert FaradayHook().list_datasets([ID]) == DOCUMENTED
    assert FaradayHook().get_dataset(ID) == DOCUMENTED[0]


def test_the_list_operator_returns_all_fields_but_the_sample(answer: Answer) -> None:
    answer(DOCUMENTED)

    (listed,) = ListResourcesOperator(task_id="list", resource_type="datasets").execute({})

    assert listed == {name: value for name, value in DOCUMENTED[0].items() if name != "sample"}


def test_a_sensor_skips_what_is_archived_and_waits_for_an_unknown_status(answer: Answer) -> None:
    answer(DOCUMENTED)
    with pytest.raises(NothingToWaitForError, match="archived"):
        wait().poke({})

    answer(in_use())
    assert not wait().poke({}).is_done
    assert not wait(updated_after="2023-12-31T00:00:00Z").poke({}).is_done

    answer(in_use(status="ready"))
    assert wait(updated_after="2023-12-31T00:00:00Z").poke({}).is_done
    assert not wait(updated_after="2024-01-02T00:00:00Z").poke({}).is_done


def test_lineage_has_the_columns(answer: Answer) -> None:
    answer(DOCUMENTED)
    task = ListResourcesOperator(task_id="list", resource_type="datasets")
    task.execute({})

    (found,) = task.get_openlineage_facets_on_complete(None).inputs

    assert found.name == f"datasets/{ID}"
    columns = [(column.name, column.type) for column in found.facets["schema"].fields]
    assert columns == [("id", "text"), ("amount", "long")]
    assert found.facets["version"].datasetVersion == DOCUMENTED[0]["last_updated_output_at"]


def first_event(sandbox: Sandbox, trigger: BaseTrigger, changes: Callable[[], None]) -> dict[str, Any]:
    """Return the first event of a trigger. The changes happen after its first two polls."""

    async def change() -> None:
        before = len(sandbox.requests())
        while len(sandbox.requests()) < before + 2:  # noqa: ASYNC110  the sandbox runs in another thread
            await asyncio.sleep(0.01)
        changes()

    async def first() -> TriggerEvent:
        changing = asyncio.create_task(change())
        event = await anext(trigger.run())
        await changing
        return event

    payload: dict[str, Any] = asyncio.run(asyncio.wait_for(first(), 30)).payload
    return payload


def test_a_trigger_waits_for_an_unknown_status(sandbox: Sandbox, over_a_socket: Answer) -> None:
    over_a_socket(in_use())
    with pytest.raises(TaskDeferred) as deferred:
        wait(deferrable=True).execute({})

    event = first_event(sandbox, deferred.value.trigger, lambda: over_a_socket(in_use(status="ready")))

    assert event["status"] == "ready"


@pytest.mark.skipif(airflow_version.startswith("2."), reason="Airflow 2 has no asset watchers")
def test_a_watcher_announces_the_next_build(sandbox: Sandbox, over_a_socket: Answer) -> None:
    over_a_socket(in_use(status="ready"))
    trigger = DatasetUpdatedTrigger(datasets=[ID], poke_interval=0.05)
    built_at = "2024-01-02T12:00:00Z"
    next_build = in_use(status="ready", last_updated_output_at=built_at)

    event = first_event(sandbox, trigger, lambda: over_a_socket(next_build))

    assert (event["id"], event["last_updated_output_at"], event["row_count"]) == (ID, built_at, 10000)
