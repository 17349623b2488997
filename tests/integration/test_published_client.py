"""Faraday's published JavaScript client can read the sandbox, so the responses have the right format."""

from __future__ import annotations

import hashlib
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
from support.ids import CUSTOMERS, SCOPE, TARGET, WAREHOUSE

CLIENT = "@fdy/faraday-js@0.1.172"
SCRIPT = Path(__file__).parent / "published_client" / "read_everything.cjs"

DATES = ("created_at", "updated_at", "status_changed_at", "last_updated_config_at", "last_updated_output_at")

# The fields that the client's type declarations require.
RESOURCE = {"id", "name", "resource_type", "status", "created_at", "updated_at"}
REQUIRED = {
    "accounts": RESOURCE,
    "connections": RESOURCE | {"directionality", "options"},
    "datasets": RESOURCE | {"identity_sets", "options"},
    "streams": RESOURCE,
    # The client does not know of the status.
    "traits": RESOURCE - {"status"},
    "cohorts": RESOURCE,
    "outcomes": RESOURCE | {"attainment_cohort_id"},
    "persona_sets": RESOURCE | {"cohort_id"},
    "recommenders": RESOURCE | {"stream_name", "stream_property_name"},
    "scopes": RESOURCE | {"payload", "population", "preview"},
    "targets": RESOURCE | {"options", "representation", "scope_id"},
}
NOT_BUILT = ("returns", "Next product")
"""The names of a dataset whose only build failed and of a preview."""

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
        command = ["node", str(SCRIPT), WAREHOUSE, SCOPE, CUSTOMERS, TARGET]
        ran = subprocess.run(
            command, env=environment, timeout=60, capture_output=True, text=True, check=False
        )
    assert ran.returncode == 0, ran.stderr
    responses: dict[str, Any] = json.loads(ran.stdout)
    return responses


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["name"] for item in items if "name" in item]


def test_lists_are_complete(decoded: dict[str, Any]) -> None:
    warehouse = ["customers", "orders", "email_subscribers", "store_visits", "legacy_orders"]
    targets = ["Likely buyers CSV", "Likely buyers to Snowflake"]
    assert {name: names(value) for name, value in decoded.items() if isinstance(value, list)} == {
        "connections": ["Warehouse", "Uploads", "Empty", "Files"],
        "connectionDatasets": warehouse,
        "connectionTargets": targets[1:],
        "datasets": [*warehouse, "returns", "web_orders"],
        "streams": ["orders", "web orders"],
        "traits": ["loyalty_tier"],
        "cohorts": ["Customers", "Web buyers"],
        "outcomes": ["Will buy in 30 days"],
        "personaSets": ["Customer personas"],
        "recommenders": ["Next product"],
        "places": [],
        "scopes": ["Likely buyers"],
        "scopeDatasets": ["customers", "orders"],
        "scopeTargets": targets,
        "scopePopulationCohorts": ["Customers"],
        "scopePayloadCohorts": [],
        "scopePayloadOutcomes": ["Will buy in 30 days"],
        "scopePayloadPersonaSets": ["Customer personas"],
        "scopePayloadRecommenders": [],
        "targets": targets,
        "graph": [],
        "uploads": [],
    }


@pytest.mark.parametrize(
    "response",
    [
        "account",
        "connection",
        "connections",
        "connectionDatasets",
        "connectionTargets",
        "datasets",
        "dataset",
        "streams",
        "traits",
        "cohorts",
        "outcomes",
        "personaSets",
        "recommenders",
        "scopes",
        "scope",
        "scopeDatasets",
        "scopeTargets",
        "scopePopulationCohorts",
        "scopePayloadOutcomes",
        "scopePayloadPersonaSets",
        "targets",
        "target",
    ],
)
def test_required_fields_are_present_and_dates_are_valid(decoded: dict[str, Any], response: str) -> None:
    resources = decoded[response] if isinstance(decoded[response], list) else [decoded[response]]
    assert resources
    for resource in resources:
        resource_type = resource["resource_type"]
        present = {name for name, value in resource.items() if value is not None}
        assert REQUIRED[resource_type] <= present
        assert "an invalid date" not in str(resource)
        for name in DATES if resource_type != "traits" else DATES[:2]:
            if resource["name"] not in NOT_BUILT or name != "last_updated_output_at":
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


def test_decodes_a_target_and_its_file(decoded: dict[str, Any]) -> None:
    target = decoded["target"]

    assert (target["id"], target["scope_id"], target["status"]) == (TARGET, SCOPE, "ready")
    assert target["options"] == {"type": "hosted_csv"}
    assert target["representation"] == {"mode": "identified", "aggregate": "person"}
    header, *rows = decoded["download"].splitlines()
    assert header.startswith("person_id,email,")
    assert len(rows) == decoded["scope"]["population_count"] == 18230


def test_uploads_reads_lists_and_deletes_a_file(decoded: dict[str, Any]) -> None:
    (listed,) = decoded["uploads"]

    assert datetime.fromisoformat(listed.pop("created_at")["date"]).tzinfo is not None
    content = b"id\n1\n"
    assert listed == {
        "subpath": "web_orders/monday.csv",
        "file_size": len(content),
        "md5_hash": hashlib.md5(content).hexdigest(),
    }
    assert (decoded["upload"], decoded["deleted"]) == (content.decode(), "nothing")


def test_decodes_connections_scopes_and_the_account(decoded: dict[str, Any]) -> None:
    assert decoded["connection"]["options"]["database"] == "RETAIL"
    assert decoded["scope"]["population"]["cohort_ids"]
    assert decoded["account"]["api_key"]


def test_decodes_the_graph(decoded: dict[str, Any]) -> None:
    edge = decoded["graph"][0]

    assert (edge["upstream_id"], edge["upstream_literate"]) == (WAREHOUSE, "Warehouse")
    assert (edge["downstream_id"], edge["downstream_type"]) == (CUSTOMERS, "datasets")
    assert (edge["upstream_status"], edge["downstream_status"]) == ("ready", "ready")
    # The client knows the most common types.
    assert {edge["downstream_type"] for edge in decoded["graph"]} == set(REQUIRED) - {
        "accounts",
        "connections",
    }


def test_decodes_an_error(decoded: dict[str, Any]) -> None:
    assert decoded["error"]["error"] == "VALIDATION_FAILED"
    assert decoded["error"]["validationErrors"][0]["path"] == "resource_id"
