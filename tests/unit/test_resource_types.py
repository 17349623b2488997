"""Each resource type can be listed, got, waited for, updated and watched, or says why not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.assets.resources import resource_asset
from airflow_provider_faraday.exceptions import FaradayInputError, FaradayNotFoundError, ResourcesFailedError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.operators.resources import ForceUpdateResourcesOperator, ListResourcesOperator
from airflow_provider_faraday.operators.targets import (
    ListConnectionTargetsOperator,
    ListScopeTargetsOperator,
)
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.sensors.scopes import ScopesReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from airflow_provider_faraday.triggers.resources import ResourceUpdatedTrigger
from airflow_provider_faraday.waiting import feed
from raw_server import RawServer, answer
from support.events import Events
from support.ids import SCOPE, TARGET, UNKNOWN, WAREHOUSE, WAREHOUSE_TARGET
from support.run_dag import AIRFLOW_3

pytestmark = pytest.mark.usefixtures("faraday_default")

ID = "a0000000-0000-4000-8000-000000000001"
OTHER = "a0000000-0000-4000-8000-000000000002"
SECRET = "the-warehouse-password"

BUILT_TYPES = [name for name, kind in RESOURCE_TYPES.items() if kind.has_builds]
BY_CONTAINER = [name for name, kind in RESOURCE_TYPES.items() if kind.listed_by]
COUNTS = {
    "cohorts": "population_count",
    "datasets": "row_count",
    "scopes": "population_count",
    "streams": "event_count",
    "targets": "count",
}


class Account:
    """An account with two resources of each type, served over a real socket."""

    def __init__(self) -> None:
        self.changes: dict[str, Any] = {}
        self.server = RawServer(self.respond)

    def resource(self, kind: str, id_: str) -> dict[str, Any]:
        counts = dict.fromkeys(("count", "row_count", "event_count", "population_count"), 7)
        document = {"id": id_, "name": f"{kind} {id_[-1]}", "resource_type": kind, "status": "ready"}
        if kind != "traits":
            document["last_updated_output_at"] = "2026-01-01T00:00:00Z"
        options = {"options": {"password": SECRET}} if kind == "connections" else {}
        return {**document, **counts, **options, **self.changes}

    def respond(self, request: Any) -> Any:
        path, _, query = request.target.removeprefix("/v1/").partition("?")
        *container, last = path.split("/")
        if request.method == "POST":
            self.changes["last_updated_output_at"] = "2026-06-01T00:00:00Z"
            return answer(status=204, headers={"Date": "Mon, 01 Jun 2026 00:00:00 GMT"})
        if last in RESOURCE_TYPES:
            assert container in ([], ["connections", WAREHOUSE], ["scopes", SCOPE])
            return answer(body=[self.resource(last, id_) for id_ in (ID, OTHER) if not query or id_ in query])
        return answer(body=self.resource(container[0], last))

    @property
    def requests(self) -> list[str]:
        return [f"{request.method} {request.target.removeprefix('/v1')}" for request in self.server.received]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, faraday_default: Callable[..., None]) -> Iterator[Account]:
    monkeypatch.setattr(feed, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(feed, "TICK_SECONDS", 0.01)
    account = Account()
    with account.server as server:
        faraday_default(host=server.url)
        yield account


def ids(resources: list[dict[str, Any]]) -> list[str]:
    return [resource["id"] for resource in resources]


# Every type


@pytest.mark.parametrize("name", RESOURCE_TYPES)
def test_every_type_can_be_listed_and_got(account: Account, name: str) -> None:
    assert ids(ListResourcesOperator(task_id="t", resource_type=name).execute({})) == [ID, OTHER]
    by_id = ListResourcesOperator(task_id="t", resource_type=name, resource_ids=[OTHER], fields=["id"])
    assert by_id.execute({}) == [{"id": OTHER}]
    assert FaradayHook().get_resource(name, ID)["id"] == ID
    assert account.requests == [f"GET /{name}", f"GET /{name}?ids={OTHER}", f"GET /{name}/{ID}"]


@pytest.mark.parametrize("name", BY_CONTAINER)
@pytest.mark.parametrize(
    ("container", "path"),
    [({"connection_id": WAREHOUSE}, f"/connections/{WAREHOUSE}"), ({"scope_id": SCOPE}, f"/scopes/{SCOPE}")],
)
def test_datasets_and_targets_are_listed_waited_for_and_updated_by_what_they_belong_to(
    account: Account, name: str, container: dict[str, str], path: str
) -> None:
    assert ids(ListResourcesOperator(task_id="t", resource_type=name, **container).execute({})) == [ID, OTHER]
    sensor = ResourcesReadySensor(task_id="t", resource_type=name, deferrable=False, **container)
    assert ids(sensor.execute({})) == [ID, OTHER]
    update = ForceUpdateResourcesOperator(task_id="t", resource_type=name, **container)
    assert update.execute({})["resource_ids"] == [ID, OTHER]
    updates = [f"POST /{name}/{id_}/force_update" for id_ in (ID, OTHER)]
    assert account.requests == [f"GET {path}/{name}"] * 3 + updates


@pytest.mark.parametrize("name", [name for name in RESOURCE_TYPES if name not in BY_CONTAINER])
@pytest.mark.parametrize(
    "task",
    [ListResourcesOperator, ResourcesReadySensor, ForceUpdateResourcesOperator],
    ids=lambda t: t.__name__,
)
def test_the_other_types_are_not_listed_by_scope(name: str, task: Any) -> None:
    with pytest.raises(FaradayInputError, match=f"takes resource_ids for {name}, but got scope_id"):
        task(task_id="t", resource_type=name, scope_id=SCOPE)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("name", RESOURCE_TYPES)
def test_every_type_can_be_waited_for(account: Account, name: str, deferrable: bool) -> None:
    sensor = ResourcesReadySensor(
        task_id="t", resource_type=name, resource_ids=[ID], deferrable=deferrable, poke_interval=0.02
    )
    if deferrable:
        account.changes["status"] = "running"
        with pytest.raises(TaskDeferred) as deferral:
            sensor.execute({})
        account.changes.clear()
        event = asyncio.run(first_event(deferral.value.trigger))
        returned = sensor.execute_complete({}, event, **deferral.value.kwargs)
    else:
        returned = sensor.execute({})
    assert ids(returned) == [ID]


@pytest.mark.parametrize("name", RESOURCE_TYPES)
def test_a_failure_is_named_by_the_types_label(account: Account, name: str) -> None:
    account.changes |= {"status": "error", "status_error": "No rows"}
    sensor = ResourcesReadySensor(task_id="t", resource_type=name, resource_ids=[ID], deferrable=False)
    with pytest.raises(ResourcesFailedError, match=f"build {RESOURCE_TYPES[name].label} '.*No rows"):
        sensor.execute({})


@pytest.mark.parametrize("name", RESOURCE_TYPES)
def test_every_type_can_be_updated(account: Account, name: str) -> None:
    update = ForceUpdateResourcesOperator(task_id="t", resource_type=name, resource_ids=[ID])
    assert update.execute({}) == {"resource_ids": [ID], "requested_at": {ID: "2026-06-01T00:00:00+00:00"}}
    assert account.requests[-1] == f"POST /{name}/{ID}/force_update"


@pytest.mark.parametrize("name", BUILT_TYPES)
def test_every_type_with_build_times_can_be_updated_and_waited_for(account: Account, name: str) -> None:
    update = ForceUpdateResourcesOperator(
        task_id="t", resource_type=name, resource_ids=[ID], wait_for_completion=True, deferrable=False
    )
    assert update.execute({})["resource_ids"] == [ID]
    assert account.requests[-1] == f"GET /{name}?ids={ID}"


@pytest.mark.parametrize("name", RESOURCE_TYPES)
def test_every_type_has_assets_whose_events_carry_the_build(account: Account, name: str) -> None:
    asset: Any = resource_asset(name, ID.upper())
    assert asset.uri == f"faraday://{name}/{ID}"
    events: Any = Events()
    ListResourcesOperator(task_id="t", resource_type=name, outlets=[asset]).execute({"outlet_events": events})
    count = {COUNTS[name]: 7} if name in COUNTS else {}
    assert events.extras[asset.uri] == {
        "resource_type": name,
        "id": ID,
        "name": f"{name} 1",
        "status": "ready",
        "last_updated_output_at": None if name == "traits" else "2026-01-01T00:00:00Z",
        **count,
    }


if AIRFLOW_3:

    @pytest.mark.parametrize("name", BUILT_TYPES)
    def test_every_type_with_build_times_can_be_watched(account: Account, name: str) -> None:
        asset: Any = resource_asset(name, ID, watch_every=0.02)
        _, arguments = asset.watchers[0].trigger.serialize()
        payload = asyncio.run(first_event(ResourceUpdatedTrigger(**arguments | {"emit_initial": True})))
        assert (payload["resource_type"], payload["id"]) == (name, ID)
        assert payload.get(COUNTS.get(name, "")) == (7 if name in COUNTS else None)

    def test_traits_cannot_be_watched() -> None:
        refusal = "cannot watch traits: Faraday does not report when traits are built"
        with pytest.raises(FaradayInputError, match=refusal):
            resource_asset("traits", ID, watch_every=60)


async def first_event(trigger: Any) -> Any:
    run = trigger.run()
    event = await asyncio.wait_for(anext(run), 20)
    await run.aclose()
    return event.payload


@pytest.mark.parametrize("name", RESOURCE_TYPES)
def test_the_sandbox_has_every_type(sandbox: Sandbox, name: str) -> None:
    resources = ListResourcesOperator(task_id="t", resource_type=name).execute({})
    assert {resource["resource_type"] for resource in resources} <= {name}
    for resource in resources[:1]:
        assert FaradayHook().get_resource(name, resource["id"])["name"] == resource["name"]
        by_id = ListResourcesOperator(task_id="t", resource_type=name, resource_ids=[resource["id"]])
        assert ids(by_id.execute({})) == [resource["id"]]


def test_the_sandboxs_targets_and_graph_can_be_read(sandbox: Sandbox) -> None:
    of_scope = ListScopeTargetsOperator(task_id="t", scope_id=SCOPE).execute({})
    of_connection = ListConnectionTargetsOperator(task_id="t", connection_id=WAREHOUSE).execute({})
    assert ids(of_scope) == [TARGET, WAREHOUSE_TARGET]
    assert ids(of_connection) == [WAREHOUSE_TARGET]
    edges = {(edge["upstream_id"], edge["downstream_id"]) for edge in FaradayHook().get_graph()}
    assert {(SCOPE, TARGET), (SCOPE, WAREHOUSE_TARGET)} <= edges


# What a type cannot do


@pytest.mark.parametrize("updated_after", ["2026-01-01", "{{ ts }}", {ID: "2026-01-01"}])
def test_traits_cannot_be_waited_for_by_build_time(updated_after: Any) -> None:
    with pytest.raises(FaradayInputError, match="'t' cannot use updated_after with traits: Faraday does not"):
        ResourcesReadySensor(
            task_id="t", resource_type="traits", resource_ids=[ID], updated_after=updated_after
        )


def test_traits_cannot_be_updated_and_waited_for() -> None:
    with pytest.raises(FaradayInputError, match="'t' cannot use wait_for_completion with traits"):
        ForceUpdateResourcesOperator(
            task_id="t", resource_type="traits", resource_ids=[ID], wait_for_completion=True
        )


@pytest.mark.parametrize(
    "use",
    [
        lambda: ListResourcesOperator(task_id="t", resource_type="accounts"),
        lambda: ResourcesReadySensor(task_id="t", resource_type="accounts", resource_ids=[ID]),
        lambda: ForceUpdateResourcesOperator(task_id="t", resource_type="accounts", resource_ids=[ID]),
        lambda: resource_asset("accounts", ID),
        lambda: FaradayHook().list_resources("accounts"),
        lambda: FaradayHook().get_resource("accounts", ID),
        lambda: FaradayHook().force_update("accounts", ID),
    ],
)
def test_accounts_are_refused_everywhere(account: Account, use: Callable[[], object]) -> None:
    with pytest.raises(FaradayInputError, match="Accounts are not resources to list, wait for or update"):
        use()
    assert account.requests == []


# The options of Faraday connections


@pytest.mark.parametrize(
    "task",
    [
        ListResourcesOperator(task_id="t", resource_type="connections"),
        ResourcesReadySensor(task_id="t", resource_type="connections", resource_ids=[ID], deferrable=False),
        ForceUpdateResourcesOperator(task_id="t", resource_type="connections", resource_ids=[ID]),
        ForceUpdateResourcesOperator(
            task_id="t",
            resource_type="connections",
            resource_ids=[ID],
            wait_for_completion=True,
            deferrable=False,
        ),
    ],
    ids=["list", "sensor", "force update", "force update and wait"],
)
def test_credentials_of_faraday_connections_are_not_returned_or_logged(
    account: Account, task: Any, task_log: list[str]
) -> None:
    asset: Any = resource_asset("connections", ID)
    events = Events()
    task.outlets = [asset]
    returned = task.execute({"outlet_events": events})
    assert returned
    assert SECRET not in json.dumps([returned, events.extras, task_log])
    assert account.requests


@pytest.mark.parametrize("task", ["sensor", "operator"])
def test_credentials_of_faraday_connections_are_not_deferred_with(account: Account, task: str) -> None:
    arguments: dict[str, Any] = {
        "task_id": "t",
        "resource_type": "connections",
        "resource_ids": [ID],
        "deferrable": True,
        "poke_interval": 0.02,
    }
    waiting: Any = (
        ResourcesReadySensor(**arguments)
        if task == "sensor"
        else ForceUpdateResourcesOperator(wait_for_completion=True, **arguments)
    )
    account.changes["status"] = "running"
    with pytest.raises(TaskDeferred) as deferral:
        waiting.execute({})
    account.changes["status"] = "ready"
    event = asyncio.run(first_event(deferral.value.trigger))
    returned = waiting.execute_complete({}, event, **deferral.value.kwargs)
    assert returned
    stored = [deferral.value.trigger.serialize(), deferral.value.kwargs, event, returned]
    assert SECRET not in json.dumps(stored)


@pytest.mark.parametrize("task", [ListResourcesOperator, ResourcesReadySensor], ids=lambda t: t.__name__)
def test_options_of_faraday_connections_are_returned_on_request(account: Account, task: Any) -> None:
    by_name = task(task_id="t", resource_type="connections", resource_ids=[ID], fields=["options"])
    assert by_name.execute({}) == [{"options": {"password": SECRET}}]


def test_messages_say_faraday_connection(account: Account, task_log: list[str]) -> None:
    ListResourcesOperator(task_id="t", resource_type="connections").execute({})
    assert "INFO Faraday returned 2 Faraday connections: 2 ready" in task_log
    sensor = ResourcesReadySensor(task_id="t", resource_type="connections", resource_ids=[UNKNOWN])
    with pytest.raises(
        FaradayNotFoundError, match=r"did not return Faraday connection d0.*the requested Faraday connect"
    ):
        sensor.execute({})


# Targets and scopes


@pytest.mark.parametrize(
    ("operator", "path"),
    [
        (ListConnectionTargetsOperator(task_id="t", connection_id=WAREHOUSE), f"/connections/{WAREHOUSE}"),
        (ListScopeTargetsOperator(task_id="t", scope_id=SCOPE), f"/scopes/{SCOPE}"),
    ],
    ids=["connection", "scope"],
)
def test_targets_can_be_listed(account: Account, operator: Any, path: str) -> None:
    assert ids(operator.execute({})) == [ID, OTHER]
    assert account.requests == [f"GET {path}/targets"]


@pytest.mark.parametrize("operator", [ListConnectionTargetsOperator, ListScopeTargetsOperator])
def test_the_arguments_of_lists_of_targets_are_templated_and_checked(operator: Any) -> None:
    container = operator.template_fields[0]
    assert set(operator.template_fields) == {container, "faraday_conn_id", "fields"}
    with pytest.raises(FaradayInputError, match=f"{container} must be the UUID"):
        operator(task_id="t", **{container: ID[:-1]})


@pytest.mark.parametrize(
    ("sensor", "request_line"),
    [
        (lambda **more: TargetsReadySensor(scope_id=SCOPE, **more), f"GET /scopes/{SCOPE}/targets"),
        (
            lambda **more: TargetsReadySensor(connection_id=WAREHOUSE, **more),
            f"GET /connections/{WAREHOUSE}/targets",
        ),
        (lambda **more: TargetsReadySensor(targets=[ID, {"id": OTHER}], **more), "GET /targets?ids="),
        (lambda **more: ScopesReadySensor(scopes=[ID, {"id": OTHER}], **more), "GET /scopes?ids="),
    ],
    ids=["targets of a scope", "targets of a connection", "targets", "scopes"],
)
def test_targets_and_scopes_can_be_waited_for(account: Account, sensor: Any, request_line: str) -> None:
    arguments = {"task_id": "t", "updated_after": "2026-01-01T00:00:00Z", "fields": ["id"]}
    assert sensor(deferrable=False, **arguments).execute({}) == [{"id": ID}, {"id": OTHER}]
    (sent,) = account.requests
    assert sent.startswith(request_line)


@pytest.mark.parametrize("one", [ID, {"id": ID, "name": "Likely buyers"}])
@pytest.mark.parametrize("argument", ["targets", "scopes"])
def test_a_single_target_or_scope_is_accepted_as_a_mapped_task_gets_it(
    account: Account, argument: str, one: Any
) -> None:
    sensor: Any = {"targets": TargetsReadySensor, "scopes": ScopesReadySensor}[argument]
    assert ids(sensor(task_id="t", deferrable=False, **{argument: one}).execute({})) == [ID]


@pytest.mark.parametrize(
    ("sensor", "arguments", "says"),
    [
        (TargetsReadySensor, {}, "takes exactly one of connection_id, scope_id and targets"),
        (TargetsReadySensor, {"scope_id": SCOPE, "targets": [ID]}, "but got scope_id and targets"),
        (TargetsReadySensor, {"targets": [ID[:-1]]}, r"targets\[0\] must be the UUID"),
        (ScopesReadySensor, {"scopes": None}, "takes scopes, but got none of them"),
        (ScopesReadySensor, {"scopes": [ID[:-1]]}, r"scopes\[0\] must be the UUID"),
    ],
)
def test_the_arguments_of_their_sensors_are_checked(sensor: Any, arguments: Any, says: str) -> None:
    with pytest.raises(FaradayInputError, match=says):
        sensor(task_id="t", **arguments)


@pytest.mark.parametrize(
    ("sensor", "sources"),
    [(TargetsReadySensor, {"connection_id", "scope_id", "targets"}), (ScopesReadySensor, {"scopes"})],
)
def test_the_arguments_of_their_sensors_are_templated(sensor: Any, sources: set[str]) -> None:
    assert set(sensor.template_fields) == sources | {"updated_after", "fields", "faraday_conn_id"}
