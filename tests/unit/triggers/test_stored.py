"""Triggers in Airflow's database: a release must load what the previous one stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import ANY

import pytest
from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException, TaskDeferred

from airflow_provider_faraday.compat import has_watcher_queues
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.triggers.datasets import DatasetUpdatedTrigger
from airflow_provider_faraday.triggers.resources import ResourcesReadyTrigger, ResourceUpdatedTrigger
from support.accounts import Account
from support.ids import CUSTOMERS, ORDERS, SCOPE
from support.run_dag import AIRFLOW_3
from support.triggers import States, Waiting, until

since_airflow_3 = pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers")

BY_SCOPE = {
    "resource_type": "datasets",
    "connection_id": None,
    "scope_id": SCOPE,
    "resource_ids": None,
    "on_error": False,
    "emit_initial": False,
    "poke_interval": 60.0,
    "faraday_conn_id": "faraday_default",
}
BY_ID = {**BY_SCOPE, "scope_id": None, "resource_ids": [ORDERS, CUSTOMERS], "on_error": True}
TIME = "2026-01-02T03:04:05Z"


@since_airflow_3
def test_stored_arguments_make_the_same_watcher() -> None:
    """Airflow identifies a watcher by its class and these arguments."""
    path = "airflow_provider_faraday.triggers.resources.ResourceUpdatedTrigger"
    for stored in (BY_SCOPE, BY_ID):
        assert ResourceUpdatedTrigger(**stored).serialize() == (path, stored)
    assert DatasetUpdatedTrigger(scope_id=SCOPE).serialize() == (path, BY_SCOPE)


@since_airflow_3
@pytest.mark.anyio
@pytest.mark.parametrize(("stored", "key"), [(BY_SCOPE, "e0ed0e38c21f"), (BY_ID, "b55476cf6454")])
async def test_stored_watchers_keep_the_key_of_their_records(
    account: Account, build: Callable[..., None], waiting: Waiting, stored: dict[str, Any], key: str
) -> None:
    states = States("asset")
    states.values["asset"] = {f"airflow-provider-faraday.{key}.0": {ORDERS: {"built": TIME, "failed": None}}}
    build(ORDERS, 3)
    arguments = {name: value for name, value in stored.items() if name != "resource_type"}
    watcher = waiting.watch(states, datasets=arguments.pop("resource_ids"), **arguments)
    # Without the record, the build would be the initial one, which is no event.
    await until(lambda: watcher.builds == [("orders", "2026-01-03")])


@since_airflow_3
@pytest.mark.skipif(not has_watcher_queues(), reason="Airflow before 3.4 has no queues of triggerers")
def test_a_queue_does_not_identify_a_watcher() -> None:
    plain = DatasetUpdatedTrigger(datasets=[CUSTOMERS])
    queued = DatasetUpdatedTrigger(datasets=[CUSTOMERS], queue="faraday")
    assert (plain.queue, queued.queue) == (None, "faraday")
    assert queued.serialize() == plain.serialize()


@since_airflow_3
@pytest.mark.skipif(has_watcher_queues(), reason="Airflow 3.4 has queues of triggerers")
def test_a_queue_is_rejected_before_airflow_3_4() -> None:
    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"queue .* requires Airflow 3\.4"):
        DatasetUpdatedTrigger(datasets=[CUSTOMERS], queue="faraday")


@pytest.mark.parametrize("updated_after", [None, TIME, {ORDERS: TIME}])
def test_stored_waits_load(account: Account, build: Callable[..., None], updated_after: Any) -> None:
    """Arguments that any release has stored, in a trigger and in the task that resumes."""
    criteria = {"updated_after": updated_after, "fail_on_error": False, "allow_empty": True}
    source = {"resource_type": "datasets", "connection_id": None, "scope_id": None, "resource_ids": [ORDERS]}
    stored: dict[str, Any] = {
        "faraday_conn_id": "faraday_default",
        "source": source,
        "criteria": criteria,
        "poke_interval": 60.0,
        "deadline": 4e9,
    }
    path, arguments = ResourcesReadyTrigger(**stored).serialize()
    assert path == "airflow_provider_faraday.triggers.resources.ResourcesReadyTrigger"
    assert arguments == stored

    build(ORDERS, 3)
    event = {"status": "ready", "criteria": {}, "deadline": 4e9}
    edited = DatasetsReadySensor(task_id="gate", datasets=[CUSTOMERS], fields=["id"])
    assert edited.execute_complete({}, event, wait=stored) == [{"id": ORDERS}]
    build(ORDERS, 3, status="running")
    with pytest.raises(TaskDeferred) as again:
        edited.execute_complete({}, event, wait=stored)
    assert again.value.trigger.serialize()[1].items() >= {**stored, "criteria": ANY}.items()
