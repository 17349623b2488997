"""Arguments of operators and sensors: mistakes are errors that name the task, and nothing is sent."""

from __future__ import annotations

from collections import UserList
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
    ListConnectionDatasetsOperator,
    ListScopeDatasetsOperator,
)
from airflow_provider_faraday.operators.resources import ForceUpdateResourcesOperator, ListResourcesOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.sensors.scopes import ScopesReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from airflow_provider_faraday.transfers.targets import DownloadTargetOperator
from airflow_provider_faraday.transfers.uploads import UploadFileOperator
from airflow_provider_faraday.waiting.arguments import parse_updated_after
from support.ids import CUSTOMERS, ORDERS, SCOPE, WAREHOUSE

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_faraday.sandbox import Sandbox

X = "{{ x }}"
DATASETS = {"resource_type": "datasets"}
MORNING = datetime(2026, 1, 31, 6, tzinfo=UTC)
CONNECTIONS = {"resource_type": "connections", "resource_ids": [WAREHOUSE]}
UNCHANGED = {"scope_id": SCOPE, "updated_after": "2026-01-31", "unchanged_after": 60}
UPSTREAM = {"scope_id": SCOPE, "include_upstream": True}
CHECKS = {"checks": {"row_count": {"geq_to": 100}}}
INVALID_CHECKS = {"checks": "{{ params.checks }}"}
INVALID_UPDATE = {**INVALID_CHECKS, "wait_for_completion": True}


@pytest.mark.usefixtures("faraday_default")
@pytest.mark.parametrize("value", [None, b""])
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ListConnectionDatasetsOperator, {"connection_id": X}),
        (ListConnectionDatasetsOperator, {"connection_id": WAREHOUSE, "tables": X}),
        (ListScopeDatasetsOperator, {"scope_id": X}),
        (ListScopeDatasetsOperator, {"scope_id": SCOPE, "fields": X}),
        (ListResourcesOperator, {**DATASETS, "resource_ids": X}),
        (ForceUpdateResourcesOperator, {**DATASETS, "resource_ids": X}),
        (ForceUpdateDatasetsOperator, {"datasets": X}),
        (ForceUpdateDatasetsOperator, {"scope_id": SCOPE, "tables": X}),
        (ResourcesReadySensor, {**DATASETS, "resource_ids": X}),
        (DatasetsReadySensor, {"datasets": X}),
        (DatasetsReadySensor, {"connection_id": X, "allow_empty": True}),
        (DatasetsReadySensor, {"scope_id": SCOPE, "updated_after": X}),
        (DatasetsReadySensor, {"scope_id": SCOPE, "updated_after": X, "deferrable": True}),
        (DatasetsReadySensor, {"scope_id": SCOPE, "fields": X}),
        (TargetsReadySensor, {"targets": X}),
        (ScopesReadySensor, {"scopes": X}),
        (DownloadTargetOperator, {"target_id": X, "path": "predictions.csv"}),
        (UploadFileOperator, {"directory": X, "path": "FILE"}),
        (UploadFileOperator, {"directory": "web_orders", "filename": X, "path": "FILE"}),
    ],
)
def test_an_invalid_rendered_value_is_an_error_and_nothing_is_sent(
    kind: Any, arguments: dict[str, Any], value: Any, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("id\n")
    (argument,) = [name for name, given in arguments.items() if given == X]
    task = kind(task_id="wait", **{name: str(file) if v == "FILE" else v for name, v in arguments.items()})
    setattr(task, argument, value)

    says = f"(?s)^{kind.__name__} 'wait'.*{argument}"
    with pytest.raises(FaradayInputError, match=f"{says}.*the upstream task" if value is None else says):
        task.execute({"task_reschedule_count": 0})

    assert sandbox.requests() == []


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        (DatasetsReadySensor, {}, "exactly one of .*, scope_id, datasets. It got none"),
        (DatasetsReadySensor, {"connection_id": WAREHOUSE, "datasets": []}, "got connection_id and datasets"),
        (DatasetsReadySensor, {"scope_id": SCOPE[:-1]}, "scope_id must be the UUID"),
        (DatasetsReadySensor, {"datasets": "[orders]"}, "datasets must be a list"),
        (DatasetsReadySensor, {"scope_id": SCOPE, "fields": "id"}, "fields must be a list"),
        (DatasetsReadySensor, {"scope_id": SCOPE, "updated_after": {ORDERS: "yesterday"}}, "updated_after"),
        (
            TargetsReadySensor,
            {"scope_id": SCOPE, "targets": [ORDERS]},
            "for targets: connection_id, scope_id, targets. It got",
        ),
        (TargetsReadySensor, UNCHANGED, "include_upstream=True and"),
        (TargetsReadySensor, {**UPSTREAM, "unchanged_after": 60}, "include_upstream=True and"),
        (TargetsReadySensor, {**UPSTREAM, **UNCHANGED, "unchanged_after": -1}, "unchanged_after must be"),
        (ScopesReadySensor, {"scopes": None}, "for scopes: scopes. It got none of them"),
        (ResourcesReadySensor, {"resource_type": "dataset", "resource_ids": [ORDERS]}, "must be one of"),
        (
            ResourcesReadySensor,
            {"resource_type": "streams", "scope_id": SCOPE},
            "for streams: resource_ids. It got",
        ),
        (ResourcesReadySensor, {**CONNECTIONS, "include_upstream": True}, "nothing is upstream of"),
        (ListConnectionDatasetsOperator, {"connection_id": f"{WAREHOUSE}0"}, "connection_id must be"),
        (ListResourcesOperator, {"resource_type": "accounts"}, "must be one of"),
        (ForceUpdateDatasetsOperator, {"datasets": [None]}, r"datasets\[0\] must be the UUID"),
        (ForceUpdateDatasetsOperator, {"scope_id": SCOPE, "tables": ["a..b"]}, "tables must be a list"),
        (ForceUpdateDatasetsOperator, {"datasets": [ORDERS], "tables": ["a"]}, "connection_id or scope_id"),
        (ForceUpdateDatasetsOperator, {"datasets": [ORDERS], "poke_interval": "60"}, "poke_interval must be"),
        (ForceUpdateDatasetsOperator, {"datasets": [ORDERS], "timeout": -1}, "timeout must be"),
        (ForceUpdateDatasetsOperator, {"datasets": [ORDERS], **CHECKS}, "checks are for a task that waits"),
        (ForceUpdateDatasetsOperator, {**INVALID_UPDATE, "datasets": [ORDERS]}, "checks must be"),
        (DatasetsReadySensor, {**INVALID_CHECKS, "datasets": [ORDERS]}, "checks must be"),
        (TargetsReadySensor, {**INVALID_CHECKS, "targets": [ORDERS]}, "checks must be"),
        (ScopesReadySensor, {**INVALID_CHECKS, "scopes": [ORDERS]}, "checks must be"),
        (ResourcesReadySensor, {**INVALID_CHECKS, **CONNECTIONS}, "checks must be"),
        (DownloadTargetOperator, {"path": "x.csv", "target_id": "[]"}, "target_id must be the UUID"),
        (UploadFileOperator, {"path": "x.csv", "directory": "../x"}, "directory must be"),
        (UploadFileOperator, {"path": "x.csv", "directory": "x", "filename": "x.xlsx"}, "filename must be"),
    ],
)
def test_an_invalid_literal_fails_when_the_dag_file_is_parsed(
    kind: Any, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(FaradayInputError, match=f"^{kind.__name__} 'one_of_many'.*{says}"):
        kind(task_id="one_of_many", **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"datasets": [ORDERS, "{{ params.dataset }}"]},
        {"datasets": [{"id": "{% if x %}a{% endif %}"}]},
        {"scope_id": SCOPE, "updated_after": {ORDERS: "{{ ts }}"}, "fields": "{{ params.fields }}"},
        {"datasets": ForceUpdateDatasetsOperator(task_id="a", datasets=[ORDERS]).output["datasets"]},
    ],
)
def test_templates_and_xcoms_are_not_checked_before_they_are_rendered(arguments: dict[str, Any]) -> None:
    with DAG("templates", schedule=None):
        DatasetsReadySensor(task_id="t", **arguments)


def test_default_args_of_other_tasks_do_not_add_a_source() -> None:
    others = {"connection_id": WAREHOUSE, "scope_id": SCOPE}
    sensor = ScopesReadySensor(task_id="t", scopes=[SCOPE], default_args=others)
    assert (sensor.connection_id, sensor.scope_id) == (None, None)


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        (None, None),
        (MORNING.astimezone(timezone(timedelta(hours=7))), MORNING),
        # Airflow's default time zone.
        ("2026-01-31T06:00:00", MORNING),
        ("2026-01-31T07:00:00+01:00", MORNING),
        # As several uploads return it: not as a list, but as another sequence.
        (UserList(["2026-01-30T06:00:00Z", MORNING]), MORNING),
        ({ORDERS.upper(): "2026-01-31T06:00:00Z"}, {ORDERS: MORNING}),
        # As several force updates return it: only a build after both requests counts.
        (
            UserList([{ORDERS: MORNING}, {CUSTOMERS: MORNING, ORDERS: "2026-01-30T06:00:00Z"}]),
            {ORDERS: MORNING, CUSTOMERS: MORNING},
        ),
    ],
)
def test_updated_after_is_a_time_or_times_by_id(value: Any, parsed: Any) -> None:
    assert parse_updated_after(value) == parsed


@pytest.mark.parametrize(
    "value", ["None", "1767225600", 5, b"2026-01-31", date(2026, 1, 31), timedelta(1), ["2026-01-01", {}]]
)
def test_updated_after_must_be_a_time(value: Any) -> None:
    with pytest.raises(FaradayInputError, match="updated_after must be a datetime"):
        parse_updated_after(value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"orders": "2026-01-31"}, "dict of resource ids .* {'orders'"),
        ({"datasets": [ORDERS], "requested_at": {ORDERS: "2026-01-31"}}, r'\.output\["requested_at"\]'),
        ([{"path": "a/b.csv", "updated_after": {ORDERS: "2026-01-31"}}], r'\.output\["updated_after"\]'),
        (f"{{'{ORDERS}': '2026-01-31'}}", "render_template_as_native_obj"),
    ],
)
def test_an_error_says_what_to_pass_as_updated_after(value: Any, says: str) -> None:
    with pytest.raises(FaradayInputError, match=says):
        parse_updated_after(value)
