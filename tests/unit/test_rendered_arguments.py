"""An argument that was given and renders to None is an error, and never means "all" or "any build"."""

from __future__ import annotations

from copy import deepcopy
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
from airflow_provider_faraday.operators.targets import ListConnectionTargetsOperator, ListScopeTargetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.sensors.scopes import ScopesReadySensor
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from airflow_provider_faraday.transfers.targets import DownloadTargetOperator
from airflow_provider_faraday.transfers.uploads import UploadFileOperator
from support.ids import CUSTOMERS, ORDERS, SCOPE, WAREHOUSE

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_faraday.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("faraday_default")

NONE = "{{ none }}"
DATASETS: dict[str, Any] = {"resource_type": "datasets"}

CASES: list[tuple[Any, dict[str, Any]]] = [
    (ListConnectionDatasetsOperator, {"connection_id": NONE}),
    (ListConnectionDatasetsOperator, {"connection_id": WAREHOUSE, "tables": NONE}),
    (ListScopeDatasetsOperator, {"scope_id": NONE}),
    (ListScopeDatasetsOperator, {"scope_id": SCOPE, "fields": NONE}),
    (ListConnectionTargetsOperator, {"connection_id": NONE}),
    (ListScopeTargetsOperator, {"scope_id": NONE}),
    (ListResourcesOperator, DATASETS | {"resource_ids": NONE}),
    (ListResourcesOperator, DATASETS | {"connection_id": NONE}),
    (ForceUpdateResourcesOperator, DATASETS | {"resource_ids": NONE}),
    (ForceUpdateDatasetsOperator, {"datasets": NONE}),
    (ForceUpdateDatasetsOperator, {"connection_id": NONE}),
    (ForceUpdateDatasetsOperator, {"scope_id": SCOPE, "tables": NONE}),
    (ResourcesReadySensor, DATASETS | {"resource_ids": NONE}),
    (DatasetsReadySensor, {"datasets": NONE}),
    (DatasetsReadySensor, {"connection_id": NONE}),
    (DatasetsReadySensor, {"scope_id": NONE}),
    (DatasetsReadySensor, {"scope_id": SCOPE, "updated_after": NONE}),
    (DatasetsReadySensor, {"scope_id": SCOPE, "updated_after": NONE, "deferrable": True}),
    (DatasetsReadySensor, {"scope_id": SCOPE, "fields": NONE}),
    (TargetsReadySensor, {"targets": NONE}),
    (TargetsReadySensor, {"scope_id": SCOPE, "updated_after": NONE}),
    (ScopesReadySensor, {"scopes": NONE}),
    (ScopesReadySensor, {"scopes": [SCOPE], "updated_after": NONE}),
    (DownloadTargetOperator, {"target_id": NONE, "path": "/tmp/predictions.csv"}),
    (UploadFileOperator, {"directory": NONE, "path": "FILE"}),
    (UploadFileOperator, {"directory": "web_orders", "filename": NONE, "path": "FILE"}),
]


@pytest.fixture
def ready(sandbox: Sandbox) -> Sandbox:
    for id_ in (CUSTOMERS, ORDERS):
        sandbox.set_dataset(id_, status="ready", last_updated_output_at="2026-01-01T00:00:00Z")
    return sandbox


@pytest.mark.parametrize(
    ("kind", "arguments"), CASES, ids=lambda value: value.__name__ if isinstance(value, type) else None
)
def test_none_is_an_error_that_names_the_task_and_sends_nothing(
    kind: Any, arguments: dict[str, Any], ready: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "orders.csv").write_text("id\n")
    path = {"path": str(tmp_path / "orders.csv")} if "path" in arguments else {}
    (argument,) = [name for name, value in arguments.items() if value == NONE]
    with DAG("rendered", schedule=None, render_template_as_native_obj=True) as dag:
        kind(task_id="wait", **arguments | path)

    # Airflow renders the arguments of a copy.
    copy = deepcopy(dag).get_task("wait").prepare_for_execution()
    copy.render_template_fields({}, dag.get_template_env())

    with pytest.raises(FaradayInputError, match=rf"(?s)'wait'.*{argument}.*the upstream task and the key"):
        copy.execute({"task_reschedule_count": 0})
    assert ready.requests() == []
