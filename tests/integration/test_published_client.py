"""Faraday's own published client reads the sandbox: its models are the judge of the answers' shapes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_faraday.sandbox import Sandbox

CLIENT = "@fdy/faraday-js@0.1.172"
SCRIPT = Path(__file__).parent / "published_client" / "read_everything.cjs"

WAREHOUSE = "c0000000-0000-4000-8000-000000000001"
BUYERS = "50000000-0000-4000-8000-000000000001"
CUSTOMERS = "d0000000-0000-4000-8000-000000000001"

DATES = ("created_at", "updated_at", "status_changed_at", "last_updated_config_at", "last_updated_output_at")

# What the client's type declarations say is always there.
RESOURCE = {"id", "name", "resource_type", "status", "created_at", "updated_at"}
REQUIRED = {
    "account": RESOURCE,
    "connection": RESOURCE | {"directionality", "options"},
    "scope": RESOURCE | {"payload", "population", "preview"},
    "dataset": RESOURCE | {"identity_sets", "options"},
}

pytestmark = [
    pytest.mark.integration,
    pytest.mark.once,
    pytest.mark.skipif(
        not (shutil.which("npm") and shutil.which("node")),
        reason="needs Node.js: npm and node are not installed",
    ),
]


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the client made of a sandbox in which every build has ended."""
    folder = tmp_path_factory.mktemp("published-client")
    install = [
        "npm",
        "install",
        "--prefix",
        str(folder),
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        CLIENT,
    ]
    subprocess.run(install, check=True, timeout=240, capture_output=True, text=True)
    with Sandbox() as sandbox:
        sandbox.advance(60)
        environment = {
            **os.environ,
            "FARADAY_URL": sandbox.url,
            "FARADAY_KEY": sandbox.api_key,
            "NODE_PATH": str(folder / "node_modules"),
        }
        command = ["node", str(SCRIPT), WAREHOUSE, BUYERS, CUSTOMERS]
        done = subprocess.run(
            command, env=environment, timeout=60, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def names(resources: list[dict[str, Any]]) -> list[str]:
    return [resource["name"] for resource in resources]


def test_lists_hold_what_the_account_has(decoded: dict[str, Any]) -> None:
    warehouse = ["customers", "orders", "email_subscribers", "store_visits", "legacy_orders"]
    assert names(decoded["connections"]) == ["Warehouse", "Uploads", "Empty"]
    assert names(decoded["connectionDatasets"]) == warehouse
    assert names(decoded["datasets"]) == [*warehouse, "returns"]
    assert names(decoded["scopes"]) == ["Likely buyers"]
    assert names(decoded["scopeDatasets"]) == ["customers", "orders"]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("account", "account"),
        ("connection", "connection"),
        ("connection", "connections"),
        ("scope", "scope"),
        ("scope", "scopes"),
        ("dataset", "dataset"),
        ("dataset", "datasets"),
        ("dataset", "connectionDatasets"),
        ("dataset", "scopeDatasets"),
    ],
)
def test_every_field_that_the_client_requires_is_there_and_every_date_is_one(
    decoded: dict[str, Any], kind: str, answer: str
) -> None:
    resources = decoded[answer] if isinstance(decoded[answer], list) else [decoded[answer]]
    assert resources
    for resource in resources:
        present = {name for name, value in resource.items() if value is not None}
        assert REQUIRED[kind] <= present
        assert resource["resource_type"] == f"{kind}s"
        assert "an invalid date" not in str(resource)
        for name in DATES:
            # A dataset whose only build failed has never had an output.
            if resource["status"] != "error" or name != "last_updated_output_at":
                assert datetime.fromisoformat(resource[name]["date"]).tzinfo is not None


def test_a_dataset_is_decoded_with_its_options_columns_counts_and_updates(decoded: dict[str, Any]) -> None:
    dataset = decoded["dataset"]

    assert (dataset["id"], dataset["connection_id"], dataset["status"]) == (CUSTOMERS, WAREHOUSE, "ready")
    assert dataset["options"] == {"type": "snowflake", "table_name": "customers"}
    assert dataset["detected_columns"][0] == {
        "name": "customer_id",
        "data_type": "text",
        "is_nullable": False,
    }
    assert dataset["row_count"] == 1250
    assert [update["rows_added"] for update in dataset["updates"]] == [1250]
    assert dataset["identity_sets"]["customer"]["email"] == "email"


def test_connections_and_scopes_are_decoded_with_their_options(decoded: dict[str, Any]) -> None:
    assert decoded["connection"]["options"]["database"] == "RETAIL"
    assert decoded["scope"]["population"]["cohort_ids"]
    assert decoded["account"]["api_key"]


def test_the_graph_is_decoded(decoded: dict[str, Any]) -> None:
    edge = decoded["graph"][0]

    assert (edge["upstream_id"], edge["upstream_literate"]) == (WAREHOUSE, "Warehouse")
    assert (edge["downstream_id"], edge["downstream_type"]) == (CUSTOMERS, "datasets")


def test_an_error_is_decoded(decoded: dict[str, Any]) -> None:
    assert decoded["refused"]["error"] == "VALIDATION_FAILED"
    assert decoded["refused"]["validationErrors"][0]["path"] == "dataset_id"
