"""Sensors with ``include_upstream`` on a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayInputError,
    ResourcesFailedError,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from raw_server import RawServer, answer
from support.graphs import chain, node
from support.ids import SCOPE

TARGET, COHORT, DATASET, OUTCOME = (f"{n}0000000-0000-4000-8000-000000000001" for n in (7, 1, 13 % 10, 9))
FIRST: Any = {"task_reschedule_count": 0}


class Account:
    """A target that is built from a cohort."""

    def __init__(self) -> None:
        self.target = node(TARGET, "targets", "Buyers table", count=3)
        self.upstream = [node(DATASET, "datasets", "Orders"), node(COHORT, "cohorts", "Customers")]
        self.failing: dict[str, Any] = {}
        self.server = RawServer(self.respond)

    def respond(self, request: Any) -> Any:
        path = request.target.partition("?")[0].removeprefix("/v1")
        if path in self.failing:
            return self.failing[path]
        if path == "/graph":
            edges = chain(*self.upstream, self.target)
            return answer(body=edges, headers={"Date": "Fri, 02 Jan 2026 00:10:00 GMT"})
        return answer(body=[{**each, "preview": True} for each in (self.target, *self.upstream)][:1])


@pytest.fixture
def account(faraday_default: Callable[..., None]) -> Iterator[Account]:
    account = Account()
    with account.server as server:
        faraday_default(host=server.url, extra={"max_attempts": 1})
        yield account


def sensor(**arguments: Any) -> ResourcesReadySensor:
    fields = {"resource_type": "targets", "resource_ids": [TARGET], "include_upstream": True}
    return ResourcesReadySensor(task_id="gate", **{**fields, **arguments})


def test_a_poke_requests_the_list_and_then_the_graph(account: Account) -> None:
    result = sensor(fields=["id", "count"]).poke(FIRST)
    assert result.is_done
    assert result.xcom_value == [{"id": TARGET, "count": 3}]
    assert account.server.targets == [f"/v1/targets?ids={TARGET}", "/v1/graph"]


def test_waits_for_what_is_upstream_and_says_so(account: Account) -> None:
    account.upstream[1]["status"] = "running"
    gate = sensor(poke_interval=0.01, timeout=0.1)
    message = (
        r"Timed out waiting for target 'Buyers table': cohort 'Customers' is running \(1 step upstream\)"
    )
    with pytest.raises(AirflowSensorTimeout, match=message):
        gate.execute(FIRST)


def test_an_error_upstream_fails_the_task(account: Account) -> None:
    account.upstream[0] |= {"status": "error", "status_error": "No such table"}
    message = r"'Orders' failed: No such table \(dataset → cohort 'Customers' → target\)"
    with pytest.raises(ResourcesFailedError, match=message):
        sensor().poke(FIRST)


def test_an_unavailable_graph_fails_the_first_poll_and_is_waited_out_later(account: Account) -> None:
    gate = sensor()
    account.failing["/graph"] = answer(503, {"error": "X", "note": "down"})
    with pytest.raises(FaradayApiError, match="503"):
        gate.poke(FIRST)
    account.failing.clear()
    assert gate.poke(FIRST).is_done
    account.failing["/graph"] = answer(503, {"error": "X", "note": "down"})
    assert not gate.poke(FIRST).is_done


def test_a_preview_upstream_is_looked_up_once(account: Account) -> None:
    account.upstream = [node(OUTCOME, "outcomes", "Draft", status="new")]
    account.failing["/outcomes"] = answer(body=[{**account.upstream[0], "preview": True}])
    gate = sensor()
    assert gate.poke(FIRST).is_done
    assert gate.poke(FIRST).is_done
    assert account.server.targets.count(f"/v1/outcomes?ids={OUTCOME}") == 1


@pytest.mark.parametrize("seconds", [600, timedelta(minutes=10)])
def test_an_unchanged_resource_is_returned_with_a_flag(account: Account, seconds: Any) -> None:
    gate = sensor(updated_after="2026-01-02T00:00:00Z", unchanged_after=seconds, fields=["id"])
    assert gate.poke(FIRST).xcom_value == [{"id": TARGET, "unchanged": False}]
    account.target["last_updated_output_at"] = "2026-01-01T00:00:00Z"
    assert gate.poke(FIRST).xcom_value == [{"id": TARGET, "unchanged": True}]


def test_without_unchanged_after_an_unchanged_resource_is_waited_for(account: Account) -> None:
    account.target["last_updated_output_at"] = "2026-01-01T00:00:00Z"
    gate = sensor(updated_after="2026-01-02T00:00:00Z", poke_interval=0.01, timeout=0.1)
    with pytest.raises(AirflowSensorTimeout, match="unchanged_after"):
        gate.execute(FIRST)


def test_the_times_of_a_refresh_reach_downstream(account: Account) -> None:
    requested_at = {DATASET: "2026-01-02T00:00:00Z"}
    assert sensor(updated_after=requested_at).poke(FIRST).is_done
    account.target["last_updated_output_at"] = "2026-01-01T00:00:00Z"
    assert not sensor(updated_after=requested_at).poke(FIRST).is_done
    with pytest.raises(FaradayInputError, match="upstream of it"):
        sensor(updated_after={SCOPE: "2026-01-02T00:00:00Z"}).poke(FIRST)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resource_type": "connections"}, "nothing is upstream of"),
        ({"unchanged_after": 60}, "include_upstream=True and updated_after"),
        (
            {"unchanged_after": 60, "include_upstream": False, "updated_after": "2026-01-01T00:00:00Z"},
            "include_upstream=True and updated_after",
        ),
        ({"unchanged_after": -1, "updated_after": "2026-01-01T00:00:00Z"}, "unchanged_after must be"),
    ],
)
def test_arguments_that_do_not_fit_are_rejected_at_parse_time(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(FaradayInputError, match=message):
        sensor(**arguments)


def test_datasets_can_wait_for_what_is_upstream(account: Account) -> None:
    account.failing["/datasets"] = answer(body=[account.upstream[0]])
    assert DatasetsReadySensor(task_id="gate", datasets=[DATASET], include_upstream=True).poke(FIRST).is_done
