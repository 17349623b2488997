"""This package and its sandbox, compared with what Faraday publishes of its API."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from airflow_provider_faraday.api import endpoints, graph, states, webhooks
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.app import create_app
from support.ids import (
    CUSTOMER_COHORT,
    LEGACY_ORDERS,
    LOYALTY_TIER,
    ORDERS,
    ORDERS_STREAM,
    OUTCOME,
    PERSONA_SET,
    RECOMMENDER,
    SCOPE,
    TARGET,
    UNKNOWN,
    WAREHOUSE,
)
from support.published import ENUMS, FACTS, OPERATIONS, differences, schema_of

ADDED = "add00000-0000-4000-8000-00000000000{}"
IDS = {
    "connections": WAREHOUSE,
    "datasets": ORDERS,
    "streams": ORDERS_STREAM,
    "traits": LOYALTY_TIER,
    "cohorts": CUSTOMER_COHORT,
    "outcomes": OUTCOME,
    "persona_sets": PERSONA_SET,
    "recommenders": RECOMMENDER,
    "scopes": SCOPE,
    "targets": TARGET,
    # Not in the sample account.
    "places": ADDED.format(1),
    "attributes": ADDED.format(2),
    "atlases": ADDED.format(3),
    "feature_stores": ADDED.format(4),
    "market_opportunity_analyses": ADDED.format(5),
}
WEBHOOK = {"url": "http://127.0.0.1:1/hooks", "enabled_events": list(webhooks.EVENTS)}
MERGE_PATCH = "application/merge-patch+json"


# The endpoints and the table of resource types


def used_endpoints() -> dict[str, list[endpoints.Endpoint]]:
    """Return the endpoints of each function, with all resource types."""
    types = RESOURCE_TYPES.values()
    contained = [(kind, RESOURCE_TYPES[f"{name[:-3]}s"]) for kind in types for name in sorted(kind.listed_by)]
    return {
        "list_resources": [endpoints.list_resources(kind) for kind in types],
        "resources_by_id": [each for kind in types for each in endpoints.resources_by_id(kind, [ORDERS])],
        "resources_of": [endpoints.resources_of(container, ORDERS, kind) for kind, container in contained],
        "get_resource": [endpoints.get_resource(kind, ORDERS) for kind in types],
        "force_update": [endpoints.force_update(kind, ORDERS) for kind in types],
        "graph": [endpoints.graph()],
        "current_account": [endpoints.current_account()],
        "list_uploads": [endpoints.list_uploads()],
        "upload": [endpoints.upload("directory", "file.csv")],
        "delete_upload": [endpoints.delete_upload("directory", "file.csv")],
        "ingress_logs": [endpoints.ingress_logs(ORDERS, 1)],
        "download_target": [endpoints.download_target(TARGET)],
        "list_webhook_endpoints": [endpoints.list_webhook_endpoints()],
        "create_webhook_endpoint": [endpoints.create_webhook_endpoint()],
        "update_webhook_endpoint": [endpoints.update_webhook_endpoint(ORDERS)],
    }


def operation_of(endpoint: endpoints.Endpoint) -> str:
    arguments = rf"({ORDERS}|{TARGET}|(?<=/)directory(?=/)|(?<=/)file\.csv)"
    return f"{endpoint.method} {re.sub(arguments, '{}', endpoint.path)}"


def test_every_endpoint_is_published_with_its_query_and_content_type() -> None:
    makers = {
        name
        for name, each in inspect.getmembers(endpoints, inspect.isfunction)
        if each.__module__ == endpoints.__name__ and "Endpoint" in str(each.__annotations__.get("return"))
    }
    assert makers - {"any_endpoint"} == used_endpoints().keys()

    for endpoint in [each for made in used_endpoints().values() for each in made]:
        published = OPERATIONS[operation_of(endpoint)]
        assert {name for name, _ in endpoint.query} <= set(published.get("query", ())), endpoint
        accepted = published.get("content_types")
        assert endpoint.content_type in accepted if accepted else endpoint.content_type is None, endpoint


@pytest.mark.parametrize("resource_type", RESOURCE_TYPES)
def test_the_table_of_resource_types_agrees(resource_type: str) -> None:
    kind, schema = RESOURCE_TYPES[resource_type], schema_of(resource_type)

    assert kind.count_field is None or schema[kind.count_field] == "number"
    assert kind.excluded_fields <= schema.keys()
    # What a scope's preview means is not published, so that waits do not skip it.
    assert (kind.preview is not None) == ("preview" in schema and resource_type != "scopes")
    assert kind.has_builds == ("last_updated_output_at" in schema)
    containers = ("connection", "scope")
    assert kind.listed_by == {
        f"{each}_id" for each in containers if f"GET /{each}s/{{}}/{resource_type}" in OPERATIONS
    }


def test_the_table_of_resource_types_is_complete() -> None:
    assert RESOURCE_TYPES.keys() == set(ENUMS["ResourceType"]) - {"accounts"}


@pytest.mark.parametrize("resource_type", RESOURCE_TYPES)
def test_the_fields_that_readiness_depends_on_are_published(resource_type: str) -> None:
    schema = schema_of(resource_type)
    fields = set(states.ResourceState.__struct_fields__) - {"preview", "count"}
    if resource_type == "traits":
        fields -= {"status_error", "status_changed_at", "last_read_input_at"}
        fields -= {"last_updated_config_at", "last_updated_output_at"}

    assert {schema[name] for name in fields - {"status"}} == {"string"}
    assert schema["status"] == "ResourceStatus"


def test_the_fields_of_the_graph_are_published() -> None:
    used = {f"{side}_{name}" for side in ("upstream", "downstream") for name in ("type", *graph.FIELDS)}
    assert used <= {name.rstrip("?") for name in FACTS["schemas"]["GraphEdge"]}


def test_the_fields_that_lineage_reads_are_published() -> None:
    assert schema_of("datasets")["detected_columns"] == "Array<DatasetColumn>"
    assert {"name", "data_type"} <= FACTS["schemas"]["DatasetColumn"].keys()
    assert "upload_directory" in FACTS["schemas"]["DatasetOptionsHostedCsv"]
    for options in ("DatasetOptionsSnowflake", "TargetOptionsSnowflake"):
        assert {"table_name", "schema?"} <= FACTS["schemas"][options].keys()


def test_statuses_and_events_are_published() -> None:
    assert set(ENUMS["ResourceStatus"]) == states.KNOWN_STATUSES
    assert set(webhooks.EVENTS) == set(ENUMS["WebhookEventType"])


# The sandbox


class Client:
    """The sample account of a sandbox, and a resource of each type of which only the name is given."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        for resource_type, id_ in IDS.items():
            new = {"id": id_} if id_.startswith("add") else {}
            sandbox.add_resource(resource_type, name="added", **new)
        self.headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        self.session = requests.Session()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        return self.session.request(method, self.sandbox.url + path, headers=headers, timeout=10, **options)

    def run(self, operation: str) -> requests.Response:
        """Send a request that succeeds."""
        method, _, path = operation.partition(" ")
        options: dict[str, Any] = {}
        first = path.split("/")[1]
        if first == "uploads":
            path = path.replace("{}/{}", "web_orders/monday.csv")
            options = {"data": b"id\n1\n", "headers": {"Content-Type": "application/octet-stream"}}
            self.call("POST", "/uploads/web_orders/monday.csv", **options)
        elif first == "webhook_endpoints":
            created = self.call("POST", "/webhook_endpoints", json=WEBHOOK).json()
            path = path.replace("{}", created["id"])
            if method == "PATCH":
                headers = {"Content-Type": MERGE_PATCH}
                options = {"data": json.dumps({"status": "disabled"}), "headers": headers}
            elif method == "POST":
                options = {"json": WEBHOOK}
        else:
            path = path.replace("{}", IDS.get(first, ""))
        return self.call(method, path, **options)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    client = Client(sandbox)
    sandbox.advance(600)
    yield client
    client.session.close()


def test_the_sandbox_has_the_published_operations(sandbox: Sandbox) -> None:
    routes = create_app(sandbox)._app.routes  # type: ignore[attr-defined]
    found = {
        f"{method} {re.sub('{[^}]*}', '{}', route.path.removeprefix('/v1'))}"
        for route in routes
        for method in route.methods
        if route.path.startswith("/v1/")
    }

    assert found == OPERATIONS.keys()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_sandbox_answers_as_published(client: Client, operation: str) -> None:
    returns = OPERATIONS[operation].get("returns")

    response = client.run(operation)

    assert response.status_code == OPERATIONS[operation]["status"], response.text
    content_type = response.headers.get("Content-Type", "").partition(";")[0]
    if returns is None:
        assert (response.content, content_type) == (b"", "")
    elif returns in ("string", "Blob"):
        assert content_type == {"string": "text/csv", "Blob": "application/octet-stream"}[returns]
        assert response.content
    else:
        assert content_type == "application/json"
        assert list(differences(response.json(), returns)) == []
        # What is empty agrees with everything.
        assert response.json()


@pytest.mark.parametrize("seconds", [0, 0.006, 0.05])
def test_the_sandbox_answers_as_published_during_builds(sandbox: Sandbox, seconds: float) -> None:
    client = Client(sandbox)
    sandbox.advance(seconds)

    for path in (*IDS, "graph", f"datasets/{ORDERS}/logs/ingress"):
        operation = f"GET /{path.replace(ORDERS, '{}')}"
        found = client.call("GET", f"/{path}").json()
        assert list(differences(found, OPERATIONS[operation]["returns"])) == []


def test_the_sample_account_fills_enrichment_and_not_the_deprecated_count(client: Client) -> None:
    datasets = client.call("GET", "/datasets").json()

    assert not [each["name"] for each in datasets if "matched_count" in each]
    assert {each["name"] for each in datasets if not each["enrichment"]} == {"returns"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/datasets/orders", {}, 400),
        ("GET", "/datasets", {"Authorization": "Basic dXNlcjpwYXNz"}, 400),
        ("GET", "/datasets", {"Authorization": ""}, 401),
        ("GET", "/datasets", {"Authorization": "Bearer another"}, 401),
        ("GET", "/datasets", {"Origin": "https://elsewhere.example"}, 403),
        ("GET", f"/datasets/{UNKNOWN}", {}, 404),
        ("POST", f"/datasets/{LEGACY_ORDERS}/force_update", {}, 409),
        ("POST", "/uploads/a/b.xlsx", {}, 400),
        ("POST", "/webhook_endpoints", {}, 400),
    ],
)
def test_the_sandbox_fails_as_published(
    client: Client, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    response = client.call(method, path, headers=headers)

    assert response.status_code == status
    assert status in FACTS["error_statuses"]
    assert response.headers["Content-Type"] == "application/json"
    assert list(differences(response.json(), "Error")) == []
