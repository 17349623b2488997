"""Faraday's published JavaScript client can read the sandbox, so the responses have the right format."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from airflow_provider_faraday.sandbox import Sandbox

CLIENT = "@fdy/faraday-js@0.1.172"
SCRIPT = Path(__file__).parent / "published_client" / "read_everything.cjs"

WAREHOUSE = "c0000000-0000-4000-8000-000000000001"
BUYERS = "50000000-0000-4000-8000-000000000001"
CUSTOMERS = "d0000000-0000-4000-8000-000000000001"

DATES = ("created_at", "updated_at", "status_changed_at", "last_updated_config_at", "last_updated_output_at")

# The fields that the client's type declarations require.
RESOURCE = {"id", "name", "resource_type", "status", "created_at", "updated_at"}
REQUIRED = {
    "account": RESOURCE,
    "connection": RESOURCE | {"directionality", "options"},
    "scope": RESOURCE | {"payload", "population", "preview"},
    "dataset": RESOURCE | {"identity_sets", "options"},
}

pytestmark = [pytest.mark.integration, pytest.mark.once]


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory that contains the client."""
    if not (shutil.which("npm") and shutil.which("node")):
        unavailable("npm and node are not installed")
    directory = tmp_path_factory.mktemp("published-client")
    flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=30000"]
    command = ["npm", "install", "--prefix", str(directory), *flags, CLIENT]
    try:
        installed = subprocess.run(command, timeout=240, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        unavailable("npm install timed out")
    if installed.returncode != 0:
        # npm prints this line for any error: ECONNREFUSED, ENOTFOUND, ETIMEDOUT, E404, ...
        code = re.search(r"^npm \S+ code (\w+)", installed.stderr, re.MULTILINE)
        unavailable(f"npm cannot install {CLIENT}: {code[1] if code else installed.stderr}")
    return directory / "node_modules"


def unavailable(reason: str) -> NoReturn:
    """Skip on a person's machine; fail in CI, where these tests must run."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def decoded(node_modules: Path) -> dict[str, Any]:
    """Return what the client decoded from a sandbox whose builds are complete."""
    with Sandbox() as sandbox:
        sandbox.advance(60)
        environment = {
            **os.environ,
            "FARADAY_URL": sandbox.url,
            "FARADAY_KEY": sandbox.api_key,
            "NODE_PATH": str(node_modules),
        }
        command = ["node", str(SCRIPT), WAREHOUSE, BUYERS, CUSTOMERS]
        ran = subprocess.run(
            command, env=environment, timeout=60, capture_output=True, text=True, check=False
        )
    assert ran.returncode == 0, ran.stderr
    responses: dict[str, Any] = json.loads(ran.stdout)
    return responses


def names(resources: list[dict[str, Any]]) -> list[str]:
    return [resource["name"] for resource in resources]


def test_lists_are_complete(decoded: dict[str, Any]) -> None:
    warehouse = ["customers", "orders", "email_subscribers", "store_visits", "legacy_orders"]
    assert names(decoded["connections"]) == ["Warehouse", "Uploads", "Empty"]
    assert names(decoded["connectionDatasets"]) == warehouse
    assert names(decoded["datasets"]) == [*warehouse, "returns"]
    assert names(decoded["scopes"]) == ["Likely buyers"]
    assert names(decoded["scopeDatasets"]) == ["customers", "orders"]


@pytest.mark.parametrize(
    ("kind", "response"),
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
def test_required_fields_are_present_and_dates_are_valid(
    decoded: dict[str, Any], kind: str, response: str
) -> None:
    resources = decoded[response] if isinstance(decoded[response], list) else [decoded[response]]
    assert resources
    for resource in resources:
        present = {name for name, value in resource.items() if value is not None}
        assert REQUIRED[kind] <= present
        assert resource["resource_type"] == f"{kind}s"
        assert "an invalid date" not in str(resource)
        for name in DATES:
            # A dataset whose only build failed has no output.
            if resource["status"] != "error" or name != "last_updated_output_at":
                assert datetime.fromisoformat(resource[name]["date"]).tzinfo is not None


def test_decodes_a_dataset(decoded: dict[str, Any]) -> None:
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


def test_decodes_connections_scopes_and_the_account(decoded: dict[str, Any]) -> None:
    assert decoded["connection"]["options"]["database"] == "RETAIL"
    assert decoded["scope"]["population"]["cohort_ids"]
    assert decoded["account"]["api_key"]


def test_decodes_the_graph(decoded: dict[str, Any]) -> None:
    edge = decoded["graph"][0]

    assert (edge["upstream_id"], edge["upstream_literate"]) == (WAREHOUSE, "Warehouse")
    assert (edge["downstream_id"], edge["downstream_type"]) == (CUSTOMERS, "datasets")


def test_decodes_an_error(decoded: dict[str, Any]) -> None:
    assert decoded["error"]["error"] == "VALIDATION_FAILED"
    assert decoded["error"]["validationErrors"][0]["path"] == "resource_id"
