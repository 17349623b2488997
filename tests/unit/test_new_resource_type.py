"""A new resource type is a row in the table: it can be listed, waited for, force-updated and watched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_faraday.api.resources import RESOURCE_TYPES, ResourceType
from airflow_provider_faraday.assets.resources import resource_asset
from airflow_provider_faraday.exceptions import DatasetsFailedError, FaradayInputError, ResourcesFailedError
from airflow_provider_faraday.operators.resources import ForceUpdateResourcesOperator, ListResourcesOperator
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.triggers.resources import ResourceUpdatedTrigger
from airflow_provider_faraday.waiting import feed
from raw_server import RawServer, answer
from support.ids import SCOPE

A, B = (f"a0000000-0000-4000-8000-00000000000{n}" for n in (1, 2))


class Widgets:
    """An account with two widgets, served over a real socket."""

    def __init__(self) -> None:
        self.by_id = {id_: self.widget(id_) for id_ in (A, B)}
        self.server = RawServer(self.respond)

    def widget(self, id_: str, built: str = "2026-01-01T00:00:00Z", **fields: Any) -> dict[str, Any]:
        document = {"id": id_, "name": f"widget {id_[-1]}", "status": "ready", "part_count": 3, "secret": "s"}
        return {**document, "last_updated_output_at": built, **fields}

    def respond(self, request: Any) -> Any:
        path, _, query = request.target.partition("?")
        if request.method == "POST":
            id_ = path.split("/")[3]
            self.by_id[id_] = self.widget(id_, built="2026-06-01T00:00:00Z")
            return answer(status=204, headers={"Date": "Mon, 01 Jun 2026 00:00:00 GMT"})
        assert path in ("/v1/widgets", f"/v1/scopes/{SCOPE}/widgets")
        return answer(body=[widget for id_, widget in self.by_id.items() if not query or id_ in query])


@pytest.fixture
def widgets(monkeypatch: pytest.MonkeyPatch, faraday_default: Callable[..., None]) -> Iterator[Widgets]:
    row = ResourceType(
        name="widgets",
        label="widget",
        count_field="part_count",
        excluded_fields=frozenset({"secret"}),
        listed_by=frozenset({"scope_id"}),
    )
    monkeypatch.setitem(RESOURCE_TYPES, "widgets", row)
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(feed, "TICK_SECONDS", 0.01)
    widgets = Widgets()
    with widgets.server as server:
        faraday_default(host=server.url)
        yield widgets


def test_it_can_be_listed(widgets: Widgets, task_log: list[str]) -> None:
    listed = ListResourcesOperator(task_id="t", resource_type="widgets").execute({})
    assert [widget["id"] for widget in listed] == [A, B]
    assert all("secret" not in widget for widget in listed)
    assert "INFO Faraday returned 2 widgets: 2 ready" in task_log
    only = ListResourcesOperator(task_id="t", resource_type="widgets", resource_ids=[B], fields=["id"])
    assert only.execute({}) == [{"id": B}]


@pytest.mark.parametrize("source", [{"resource_ids": [A, B]}, {"scope_id": SCOPE}])
def test_it_can_be_waited_for(widgets: Widgets, source: dict[str, Any]) -> None:
    widgets.by_id[B]["status"] = "running"
    gate = ResourcesReadySensor(
        task_id="t", resource_type="widgets", deferrable=True, poke_interval=0.02, fields=["id"], **source
    )
    with pytest.raises(TaskDeferred) as deferral:
        gate.execute({})

    async def event() -> Any:
        widgets.by_id[B]["status"] = "ready"
        return await asyncio.wait_for(anext(deferral.value.trigger.run()), 10)

    payload = asyncio.run(event()).payload
    assert gate.execute_complete({}, payload, **deferral.value.kwargs) == [{"id": A}, {"id": B}]


def test_its_failure_is_named_by_its_label(widgets: Widgets) -> None:
    widgets.by_id[B] |= {"status": "error", "status_error": "No parts"}
    with pytest.raises(ResourcesFailedError, match=r"widget 'widget 2'.*No parts") as caught:
        ResourcesReadySensor(task_id="t", resource_type="widgets", resource_ids=[A, B]).execute({})
    assert not isinstance(caught.value, DatasetsFailedError)


@pytest.mark.parametrize("wait_for_completion", [False, True])
def test_it_can_be_force_updated(widgets: Widgets, wait_for_completion: bool) -> None:
    returned = ForceUpdateResourcesOperator(
        task_id="t",
        resource_type="widgets",
        resource_ids=[A],
        wait_for_completion=wait_for_completion,
        poke_interval=0.02,
    ).execute({})
    assert returned == {"resource_ids": [A], "requested_at": {A: "2026-06-01T00:00:00+00:00"}}


@pytest.mark.skipif(airflow_version.startswith("2."), reason="Airflow 2 has no asset watchers")
def test_it_can_be_watched(widgets: Widgets) -> None:
    asset: Any = resource_asset("widgets", A, watch_every=0.02)
    assert asset.uri == f"faraday://widgets/{A}"
    path, arguments = asset.watchers[0].trigger.serialize()
    assert path.endswith(".ResourceUpdatedTrigger")

    async def first_event() -> Any:
        run = ResourceUpdatedTrigger(**arguments).run()
        event = asyncio.ensure_future(anext(run))
        while not widgets.server.received:  # noqa: ASYNC110  the server runs in another thread
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        widgets.by_id[A] = widgets.widget(A, built="2026-02-01T00:00:00Z")
        payload = (await asyncio.wait_for(event, 10)).payload
        await run.aclose()
        return payload

    payload = asyncio.run(first_event())
    assert (payload["id"], payload["part_count"]) == (A, 3)
    assert "row_count" not in payload


def test_it_cannot_be_listed_by_what_faraday_does_not_list_it_by(widgets: Widgets) -> None:
    with pytest.raises(FaradayInputError, match="takes exactly one of scope_id and resource_ids for widgets"):
        ResourcesReadySensor(task_id="t", resource_type="widgets", connection_id=SCOPE)
