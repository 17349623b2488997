"""Resource types: a new one is a row in the table, and the rows say what a type cannot do."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from airflow_provider_faraday.api.resources import RESOURCE_TYPES, ResourceType
from airflow_provider_faraday.assets.resources import resource_asset
from airflow_provider_faraday.exceptions import DatasetsFailedError, FaradayInputError, ResourcesFailedError
from airflow_provider_faraday.operators.resources import ForceUpdateResourcesOperator, ListResourcesOperator
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.triggers.resources import ResourceUpdatedTrigger
from support.accounts import Account
from support.events import Events
from support.ids import SCOPE
from support.modes import deferral_of, event_of
from support.run_dag import AIRFLOW_3

A, B = (f"a0000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
SECRET = "the-warehouse-password"
BUILT_AGAIN = {"status": "ready", "last_updated_output_at": "2026-06-01T00:00:00Z"}

Start = Callable[..., Account]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, serve: Callable[[Account], Account]) -> Start:
    """Return a function that starts an account with two resources, by default of a new type."""
    listed_by, options = frozenset({"scope_id"}), frozenset({"options"})
    widgets = ResourceType("widgets", "widget", "part_count", excluded_fields=options, listed_by=listed_by)
    monkeypatch.setitem(RESOURCE_TYPES, "widgets", widgets)

    def start(kind: str = "widgets") -> Account:
        fields = {"resource_type": kind, "status": "ready", "last_updated_output_at": "2026-01-01T00:00:00Z"}
        fields |= {"part_count": 3, "options": {"password": SECRET}}
        return serve(
            Account(*({"id": id_, "name": f"{kind} {id_[-1]}"} | fields for id_ in (A, B)), waited=kind)
        )

    return start


WAIT = partial(ResourcesReadySensor, task_id="t", resource_type="widgets", poke_interval=0.02)
UPDATE = partial(ForceUpdateResourcesOperator, task_id="t", resource_type="widgets", poke_interval=0.02)


# A new type.


def test_it_can_be_listed(start: Start, task_log: list[str]) -> None:
    start()
    listed = ListResourcesOperator(task_id="t", resource_type="widgets").execute({})
    assert [widget["id"] for widget in listed] == [A, B]
    assert all("options" not in widget for widget in listed)
    assert "INFO Faraday returned 2 widgets: 2 ready" in task_log
    only = ListResourcesOperator(task_id="t", resource_type="widgets", resource_ids=[B], fields=["id"])
    assert only.execute({}) == [{"id": B}]


@pytest.mark.parametrize("source", [{"resource_ids": [A, B]}, {"scope_id": SCOPE}])
def test_it_can_be_waited_for(start: Start, source: dict[str, Any]) -> None:
    _, last = start().resources
    last["status"] = "running"
    gate = WAIT(deferrable=True, fields=["id"], **source)
    deferral = deferral_of(gate)
    last["status"] = "ready"
    event = event_of(deferral.trigger)
    assert gate.execute_complete({}, event, **(deferral.kwargs or {})) == [{"id": A}, {"id": B}]


def test_its_failure_is_named_by_its_label(start: Start) -> None:
    start().resources[1] |= {"status": "error", "status_error": "No parts"}
    with pytest.raises(ResourcesFailedError, match=r"widget 'widgets 2'.*No parts") as caught:
        WAIT(resource_ids=[A, B]).execute({})
    assert not isinstance(caught.value, DatasetsFailedError)


@pytest.mark.parametrize("wait_for_completion", [False, True])
def test_it_can_be_force_updated(start: Start, wait_for_completion: bool) -> None:
    account = start()
    account.script = [lambda: account.resources[0].update(BUILT_AGAIN)]
    returned = UPDATE(resource_ids=[A], wait_for_completion=wait_for_completion).execute({})
    assert account.posted == [f"/widgets/{A}/force_update"]
    assert (returned["resource_ids"], list(returned["requested_at"])) == ([A], [A])
    assert account.script == [] or not wait_for_completion


class ForceUpdateWidgets(ForceUpdateResourcesOperator):
    template_fields = ("widgets",)
    _ids_argument = "widgets"

    def __init__(self, *, widgets: Any, **arguments: Any) -> None:
        self.widgets = widgets
        super().__init__(resource_type="widgets", **arguments)


def test_a_class_of_its_own_can_name_the_argument_for_ids(start: Start) -> None:
    account = start()
    task = ForceUpdateWidgets(task_id="t", widgets=[A])
    assert task.execute({})["widgets"] == [A]
    # Not those of the whole account.
    assert account.posted == [f"/widgets/{A}/force_update"]
    task.widgets = None
    with pytest.raises(FaradayInputError, match="was given widgets, but the rendered value is None"):
        task.execute({})
    with pytest.raises(FaradayInputError, match="widgets must be a list of ids"):
        ForceUpdateWidgets(task_id="t", widgets=1)


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers")
def test_it_can_be_watched(start: Start) -> None:
    start()
    asset: Any = resource_asset("widgets", A, watch_every=0.02)
    _, arguments = asset.watchers[0].trigger.serialize()
    payload = event_of(ResourceUpdatedTrigger(**arguments | {"emit_initial": True}))
    assert (payload["resource_type"], payload["id"], payload["part_count"]) == ("widgets", A, 3)
    assert "row_count" not in payload


# Traits have no build times.


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (partial(WAIT, resource_type="traits", updated_after={A: "2026-01-01"}), "updated_after"),
        (partial(UPDATE, resource_type="traits", wait_for_completion=True), "wait_for_completion"),
    ],
)
def test_traits_cannot_be_waited_for_by_build_time(use: Callable[..., Any], says: str) -> None:
    with pytest.raises(FaradayInputError, match=f"'t': {says} cannot be used with traits: Faraday does not"):
        use(resource_ids=[A])


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers")
def test_traits_cannot_be_watched() -> None:
    with pytest.raises(FaradayInputError, match="cannot watch traits"):
        resource_asset("traits", A, watch_every=60)


# Faraday connections have credentials in their options.


@pytest.mark.parametrize(
    "kind",
    [
        partial(ListResourcesOperator, task_id="t"),
        partial(WAIT, resource_ids=[A]),
        partial(UPDATE, resource_ids=[A], wait_for_completion=True),
    ],
)
def test_credentials_are_neither_returned_nor_logged(
    start: Start, kind: Callable[..., Any], task_log: list[str]
) -> None:
    account = start("connections")
    account.script = [lambda: account.resources[0].update(BUILT_AGAIN)]
    events = Events()
    task = kind(resource_type="connections", outlets=[resource_asset("connections", A)])
    returned = task.execute({"outlet_events": events})
    assert returned
    assert events.extras
    assert SECRET not in json.dumps([returned, events.extras, task_log])


@pytest.mark.parametrize("kind", [WAIT, partial(UPDATE, wait_for_completion=True)])
def test_credentials_are_not_stored_with_a_deferral(start: Start, kind: Callable[..., Any]) -> None:
    connection, _ = start("connections").resources
    connection["status"] = "running"
    task = kind(resource_type="connections", resource_ids=[A], deferrable=True)
    deferral = deferral_of(task)
    connection |= BUILT_AGAIN
    event = event_of(deferral.trigger)
    returned = task.execute_complete({}, event, **(deferral.kwargs or {}))
    assert returned
    assert SECRET not in json.dumps([deferral.trigger.serialize(), deferral.kwargs, event, returned])
