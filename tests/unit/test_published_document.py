"""`make api`: an OpenAPI document, reduced to the facts that this package relies on."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import published_api

pytestmark = pytest.mark.once

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/v1/datasets": {
            "parameters": [{"$ref": "#/components/parameters/ids"}],
            "get": {
                "parameters": [{"name": "Accept", "in": "header"}],
                "responses": {
                    "200": {"$ref": "#/components/responses/Datasets"},
                    "401": {"description": "no key"},
                    "default": {"description": "another error"},
                },
            },
        },
        "/v1/datasets/{dataset_id}": {
            "patch": {
                "requestBody": {
                    "content": {"application/merge-patch+json": {}, "application/json+merge-patch": {}}
                },
                "responses": {
                    "200": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Dataset"}}}
                    }
                },
            },
        },
        "/v1/uploads/{directory}/{filename}": {
            "get": {
                "responses": {
                    "200": {
                        "content": {
                            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
                        }
                    }
                }
            },
            "delete": {"responses": {"204": {"description": "removed"}}},
        },
        "/v1/secrets": {"get": {"responses": {"418": {}}}},
    },
    "components": {
        "parameters": {"ids": {"name": "ids", "in": "query"}},
        "responses": {
            "Datasets": {
                "content": {
                    "application/json": {
                        "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Dataset"}}
                    }
                }
            }
        },
        "schemas": {
            "Id": {"type": "string", "format": "uuid"},
            "Status": {"type": "string", "enum": ["ready", "error"]},
            "Resource": {
                "type": "object",
                "required": ["id", "status", "archived_at"],
                "properties": {
                    "id": {"$ref": "#/components/schemas/Id"},
                    "status": {"$ref": "#/components/schemas/Status"},
                    "archived_at": {"type": ["string", "null"]},
                },
            },
            "Dataset": {
                "allOf": [
                    {"$ref": "#/components/schemas/Resource"},
                    {
                        "required": ["options", "error", "limit", "row_count"],
                        "properties": {
                            "options": {"allOf": [{"$ref": "#/components/schemas/Options"}]},
                            "error": {"type": "string", "nullable": True},
                            "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                            "row_count": {"type": "integer"},
                            "preview": {"type": "boolean"},
                            "value": {"oneOf": [{"type": "string"}, {"type": "number"}]},
                            "privacy": {"type": "string", "enum": ["delete", "suppress"]},
                            "counts": {"type": "object", "properties": {"all": {"type": "number"}}},
                            "columns": {
                                "type": "array",
                                "items": {"type": "array", "items": {"type": "string"}},
                            },
                            "names": {"type": "object", "additionalProperties": {"type": "string"}},
                            "anything": {},
                        },
                    },
                ]
            },
            "Options": {
                "oneOf": [{"$ref": "#/components/schemas/Csv"}],
                "discriminator": {"propertyName": "type", "mapping": {"csv": "#/components/schemas/Csv"}},
            },
            "Csv": {"properties": {"type": {"type": "string"}}},
            "Unused": {"properties": {"odd": {"$ref": "#/components/schemas/Nowhere"}}},
        },
    },
}
FACTS: dict[str, Any] = {
    "error_statuses": [401],
    "operations": {
        "GET /datasets": {"query": ["ids"], "returns": "Array<Dataset>", "status": 200},
        "PATCH /datasets/{}": {
            "content_types": ["application/merge-patch+json", "application/json+merge-patch"],
            "returns": "Dataset",
            "status": 200,
        },
        "GET /uploads/{}/{}": {"returns": "Blob", "status": 200},
        "DELETE /uploads/{}/{}": {"status": 204},
    },
    "schemas": {
        "Dataset": {
            "id": "string",
            "status": "Status",
            "archived_at?": "string",
            "options": "Options",
            "error?": "string",
            "limit?": "number",
            "row_count": "number",
            "preview?": "boolean",
            "value?": "number | string",
            "privacy?": "DatasetPrivacyEnum",
            "counts?": "DatasetCounts",
            "columns?": "Array<Array<string>>",
            "names?": "{ [key: string]: string; }",
            "anything?": "object",
        },
        "DatasetCounts": {"all?": "number"},
        "Csv": {"type?": "string"},
    },
    "enums": {"Status": ["ready", "error"], "DatasetPrivacyEnum": ["delete", "suppress"]},
    "unions": {"Options": {"field": "type", "variants": {"csv": "Csv"}}},
}
SCHEMAS = DOCUMENT["components"]["schemas"]


def test_a_document_that_agrees_has_the_facts() -> None:
    assert published_api.compare(FACTS, DOCUMENT) == ([], [])


def changed(change: Callable[[Any], object]) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


def fields(document: Any) -> Any:
    return document["components"]["schemas"]["Dataset"]["allOf"][1]["properties"]


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda d: d["paths"].pop("/v1/datasets"), "operations GET /datasets status: 200, now missing"),
        (
            lambda d: d["components"]["parameters"]["ids"].update(name="id"),
            "operations GET /datasets query ids",
        ),
        (
            lambda d: d["paths"]["/v1/datasets/{dataset_id}"]["patch"].update(requestBody={}),
            "operations PATCH /datasets/{} content_types application/merge-patch+json",
        ),
        (lambda d: d["paths"]["/v1/datasets"]["get"]["responses"].pop("401"), "error_statuses 401"),
        (lambda d: fields(d).pop("preview"), "schemas Dataset preview?: boolean, now missing"),
        (
            lambda d: fields(d)["row_count"].update(type="string"),
            "schemas Dataset row_count: number, now string",
        ),
        (
            lambda d: d["components"]["schemas"]["Status"].update(enum=["ready", "error", "pending"]),
            "enums Status pending",
        ),
        (
            lambda d: d["components"]["schemas"]["Options"]["discriminator"].update(propertyName="kind"),
            "unions Options field: type, now kind",
        ),
    ],
)
def test_what_is_relied_on_and_changed_differs(change: Callable[[Any], object], fact: str) -> None:
    differs, _ = published_api.compare(FACTS, changed(change))

    assert [line for line in differs if line.startswith(fact)], differs


def test_the_exit_status_says_whether_something_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document, facts = tmp_path / "api.json", tmp_path / "facts.json"
    facts.write_text(json.dumps(FACTS))
    monkeypatch.setattr(published_api, "EXPECTED", facts)

    # New fields are shown, but do not count.
    document.write_text(json.dumps(changed(lambda d: fields(d).update(color={"type": "string"}))))
    assert published_api.main(str(document)) == 0
    assert "color" in capsys.readouterr().out
    document.write_text(json.dumps(changed(lambda d: d["paths"].clear())))
    assert published_api.main(str(document)) == 1
    assert "DELETE /uploads/{}/{} status" in capsys.readouterr().out
