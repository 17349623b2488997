"""Assets of Faraday's datasets: their URIs in Airflow, and what their events carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException, Asset

from airflow_provider_faraday.assets.datasets import dataset_asset
from airflow_provider_faraday.assets.resources import resource_asset, sanitize_uri
from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.operators.datasets import (
    ListConnectionDatasetsOperator,
    ListScopeDatasetsOperator,
)
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from support.events import Events
from support.ids import CUSTOMERS, ORDERS, SCOPE, WAREHOUSE

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

URI = f"faraday://datasets/{CUSTOMERS}"

on_airflow_2 = pytest.mark.skipif(not airflow_version.startswith("2."), reason="about Airflow 2")
since_airflow_3 = pytest.mark.skipif(
    airflow_version.startswith("2."), reason="Airflow 2 has no assets of this kind"
)


def test_an_asset_has_the_uri_of_its_dataset() -> None:
    assert dataset_asset(CUSTOMERS.upper()).uri == URI
    assert dataset_asset(CUSTOMERS, name="customers").uri == URI


@since_airflow_3
def test_an_asset_has_the_given_name() -> None:
    asset: Any = dataset_asset(CUSTOMERS, name="customers")
    assert (asset.name, asset.group, asset.watchers) == ("customers", "faraday", [])
    assert asset.normalized_uri == URI


def test_an_invalid_id_is_rejected_when_the_dag_file_is_parsed() -> None:
    with pytest.raises(FaradayInputError, match="dataset_id must be the UUID"):
        dataset_asset("customers")


@since_airflow_3
def test_airflow_normalizes_the_uri_with_our_handler() -> None:
    asset: Any = Asset(f"FARADAY://Datasets/{CUSTOMERS.upper()}/")
    assert asset.uri == URI


@since_airflow_3
@pytest.mark.parametrize(
    "uri",
    [
        "faraday://datasets/customers",
        f"faraday://accounts/{CUSTOMERS}",
        f"faraday://datasets/{CUSTOMERS}/{CUSTOMERS}",
        f"faraday://datasets/{CUSTOMERS}?a=b",
        "faraday://",
        f"faraday:///datasets/{CUSTOMERS}",
    ],
)
def test_airflow_rejects_an_invalid_uri(uri: str) -> None:
    with pytest.raises(ValueError, match="is not a valid faraday:// URI"):
        Asset(uri)


def test_a_uri_must_not_have_a_user() -> None:
    with pytest.raises(ValueError, match="is not a valid faraday:// URI"):
        sanitize_uri(urlsplit(f"faraday://key@datasets/{CUSTOMERS}"))


@pytest.mark.parametrize("resource", ["connections", "datasets", "scopes"])
def test_connections_datasets_and_scopes_have_uris(resource: str) -> None:
    uri = f"faraday://{resource}/{CUSTOMERS}"
    assert sanitize_uri(urlsplit(uri)).geturl() == uri


@since_airflow_3
def test_watch_every_adds_a_watcher_of_the_dataset() -> None:
    asset: Any = dataset_asset(CUSTOMERS, watch_every=30, faraday_conn_id="other")
    (watcher,) = asset.watchers
    _, arguments = watcher.trigger.serialize()
    assert arguments["resource_ids"] == [CUSTOMERS]
    assert (arguments["poke_interval"], arguments["faraday_conn_id"]) == (30, "other")


@on_airflow_2
def test_watching_on_airflow_2_says_what_it_requires() -> None:
    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"requires Airflow 3\.0 or later"):
        dataset_asset(CUSTOMERS, watch_every=30)


@pytest.mark.parametrize(
    "task",
    [
        lambda **arguments: DatasetsReadySensor(scope_id=SCOPE, **arguments),
        lambda **arguments: ListScopeDatasetsOperator(scope_id=SCOPE, **arguments),
        lambda **arguments: ListConnectionDatasetsOperator(connection_id=WAREHOUSE, **arguments),
    ],
)
@pytest.mark.usefixtures("faraday_default")
def test_a_task_attaches_the_build_to_its_outlets(sandbox: Sandbox, task: Any) -> None:
    for id_, rows in ((CUSTOMERS, 7), (ORDERS, 8)):
        sandbox.set_dataset(id_, status="ready", row_count=rows)
    events = Events()
    outlets = [dataset_asset(CUSTOMERS), Asset("s3://bucket/key"), dataset_asset(WAREHOUSE)]
    task(task_id="t", outlets=outlets).execute({"outlet_events": events})
    assert events.extras.keys() == {URI}
    assert events.extras[URI] == {
        "resource_type": "datasets",
        "id": CUSTOMERS,
        "name": "customers",
        "status": "ready",
        "last_updated_output_at": sandbox.dataset(CUSTOMERS)["last_updated_output_at"],
        "row_count": 7,
    }


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


@since_airflow_3
def test_other_resource_types_have_assets_too() -> None:
    asset: Any = resource_asset("scopes", SCOPE, watch_every=60)
    assert asset.uri == f"faraday://scopes/{SCOPE}"
    _, arguments = asset.watchers[0].trigger.serialize()
    assert (arguments["resource_type"], arguments["resource_ids"]) == ("scopes", [SCOPE])
