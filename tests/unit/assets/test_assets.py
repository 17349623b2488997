"""Assets of Faraday's resources: their URIs, their watchers, and what their events carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import Asset

from airflow_provider_faraday.assets.datasets import dataset_asset
from airflow_provider_faraday.assets.resources import resource_asset, sanitize_uri
from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
    ListScopeDatasetsOperator,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from support.events import Events
from support.ids import CUSTOMERS, ORDERS, SCOPE, WAREHOUSE
from support.run_dag import AIRFLOW_3

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

URI = f"faraday://datasets/{CUSTOMERS}"

since_airflow_3 = pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no assets of this kind")


def test_an_asset_has_the_uri_of_its_resource() -> None:
    assert dataset_asset(CUSTOMERS.upper()).uri == URI
    assert resource_asset("scopes", SCOPE).uri == f"faraday://scopes/{SCOPE}"
    with pytest.raises(FaradayInputError, match="dataset_id must be the UUID"):
        dataset_asset("customers")


@since_airflow_3
def test_airflow_normalizes_and_validates_uris_with_our_handler() -> None:
    assert Asset(f"FARADAY://Datasets/{CUSTOMERS.upper()}/").uri == URI
    with pytest.raises(ValueError, match="is not a valid faraday:// URI"):
        Asset("faraday://datasets/customers")


@pytest.mark.parametrize(
    "uri",
    [
        f"faraday://accounts/{CUSTOMERS}",
        f"faraday://datasets/{CUSTOMERS}/{CUSTOMERS}",
        f"faraday://datasets/{CUSTOMERS}?a=b",
        f"faraday://datasets/{CUSTOMERS}#a",
        f"faraday://key@datasets/{CUSTOMERS}",
    ],
)
def test_a_uri_is_a_type_and_a_uuid(uri: str) -> None:
    with pytest.raises(ValueError, match="is not a valid faraday:// URI"):
        sanitize_uri(urlsplit(uri))


@since_airflow_3
@pytest.mark.parametrize(("resource_type", "id_"), [("datasets", CUSTOMERS), ("scopes", SCOPE)])
def test_watch_every_adds_a_watcher(resource_type: str, id_: str) -> None:
    asset: Any = resource_asset(resource_type, id_, name="x", watch_every=30, faraday_conn_id="other")
    assert (asset.name, asset.group) == ("x", "faraday")
    (watcher,) = asset.watchers
    _, arguments = watcher.trigger.serialize()
    assert (arguments["resource_type"], arguments["resource_ids"]) == (resource_type, [id_])
    assert (arguments["poke_interval"], arguments["faraday_conn_id"]) == (30, "other")


@pytest.mark.parametrize(
    "task",
    [
        lambda **arguments: DatasetsReadySensor(scope_id=SCOPE, **arguments),
        lambda **arguments: ListScopeDatasetsOperator(scope_id=SCOPE, **arguments),
        lambda **arguments: ForceUpdateDatasetsOperator(
            scope_id=SCOPE, wait_for_completion=True, poke_interval=0.05, **arguments
        ),
    ],
)
@pytest.mark.usefixtures("faraday_default")
def test_a_task_attaches_the_build_to_its_outlets(sandbox: Sandbox, task: Any) -> None:
    for id_ in (CUSTOMERS, ORDERS):
        sandbox.set_dataset(id_, status="ready")
    events = Events()
    outlets = [dataset_asset(CUSTOMERS), Asset("s3://bucket/key"), dataset_asset(WAREHOUSE)]
    task(task_id="t", outlets=outlets).execute({"outlet_events": events})
    build = ("id", "name", "status", "last_updated_output_at", "row_count")
    dataset = sandbox.dataset(CUSTOMERS)
    assert events.extras == {URI: {"resource_type": "datasets", **{name: dataset[name] for name in build}}}


@since_airflow_3
def test_airflows_hook_lineage_gets_an_asset_from_the_factory() -> None:
    try:
        from airflow.sdk.lineage import HookLineageCollector
    except ImportError:  # before 3.2
        from airflow.lineage.hook import HookLineageCollector

    asset = HookLineageCollector().create_asset(
        scheme="faraday", asset_kwargs={"dataset_id": CUSTOMERS}, asset_extra={"rows": 5}
    )
    assert asset is not None
    assert (asset.uri, asset.extra) == (URI, {"rows": 5})
