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


def ref(name: str, section: str = "schemas") -> dict[str, str]:
    return {"$ref": f"#/components/{section}/{name}"}


def response(schema: dict[str, Any], content_type: str = "application/json") -> dict[str, Any]:
    return {"content": {content_type: {"schema": schema}}}


STRING = {"type": "string"}
# The schema and the type of each field. Those with a question mark may be missing or null.
FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "id": (ref("Id"), "string"),
    "status": (ref("Status"), "Status"),
    "options": ({"allOf": [ref("Options")]}, "Options"),
    "row_count": ({"type": "integer"}, "number"),
    "archived_at?": ({"type": ["string", "null"]}, "string"),
    "error?": ({"type": "string", "nullable": True}, "string"),
    "value?": ({"oneOf": [STRING, {"type": "number"}]}, "number | string"),
    "privacy?": ({"type": "string", "enum": ["delete"]}, "DatasetPrivacyEnum"),
    "columns?": ({"type": "array", "items": {"type": "array", "items": STRING}}, "Array<Array<string>>"),
    "names?": ({"type": "object", "additionalProperties": STRING}, "{ [key: string]: string; }"),
}
MERGE_PATCH = "application/merge-patch+json"
DOCUMENT: dict[str, Any] = {
    "paths": {
        "/v1/datasets": {
            "parameters": [ref("ids", "parameters")],
            "get": {"responses": {"200": ref("Datasets", "responses"), "401": {}, "default": {}}},
        },
        "/v1/datasets/{dataset_id}": {
            "patch": {
                "requestBody": {"content": {MERGE_PATCH: {}}},
                "responses": {"200": response(ref("Dataset"))},
            },
        },
        "/v1/uploads/{directory}/{filename}": {
            "get": {
                "responses": {"200": response(STRING | {"format": "binary"}, "application/octet-stream")}
            },
        },
    },
    "components": {
        "parameters": {"ids": {"name": "ids", "in": "query"}},
        "responses": {"Datasets": response({"type": "array", "items": ref("Dataset")})},
        "schemas": {
            "Id": {"type": "string", "format": "uuid"},
            "Status": {"type": "string", "enum": ["ready", "error"]},
            "Dataset": {
                "allOf": [{"required": ["id", "status", "options", "row_count", "archived_at", "error"]}],
                "properties": {name.rstrip("?"): schema for name, (schema, _) in FIELDS.items()},
            },
            "Options": {
                "oneOf": [ref("Csv")],
                "discriminator": {"propertyName": "type", "mapping": {"csv": ref("Csv")["$ref"]}},
            },
            "Csv": {"properties": {"type": STRING}},
        },
    },
}
FACTS: dict[str, Any] = {
    "error_statuses": [401],
    "operations": {
        "GET /datasets": {"query": ["ids"], "returns": "Array<Dataset>", "status": 200},
        "PATCH /datasets/{}": {"content_types": [MERGE_PATCH], "returns": "Dataset", "status": 200},
        "GET /uploads/{}/{}": {"returns": "Blob", "status": 200},
    },
    "schemas": {"Dataset": {name: type_ for name, (_, type_) in FIELDS.items()}, "Csv": {"type?": "string"}},
    "enums": {"Status": ["ready", "error"], "DatasetPrivacyEnum": ["delete"]},
    "unions": {"Options": {"field": "type", "variants": {"csv": "Csv"}}},
}


def changed(change: Callable[[Any], object]) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


def schemas(document: Any) -> Any:
    return document["components"]["schemas"]


def fields(document: Any) -> Any:
    return schemas(document)["Dataset"]["properties"]


def test_a_document_that_agrees_has_the_facts() -> None:
    assert published_api.compare(FACTS, DOCUMENT) == ([], [])


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda d: d["paths"].pop("/v1/datasets"), "operations GET /datasets status: 200, now missing"),
        (
            lambda d: d["components"]["parameters"]["ids"].update(name="id"),
            "operations GET /datasets query ids",
        ),
        (lambda d: d["paths"]["/v1/datasets"]["get"]["responses"].pop("401"), "error_statuses 401"),
        (lambda d: fields(d).pop("names"), "schemas Dataset names?: { [key: string]: string; }, now missing"),
        (
            lambda d: fields(d)["row_count"].update(type="string"),
            "schemas Dataset row_count: number, now",
        ),
        (lambda d: schemas(d)["Status"].update(enum=["ready", "error", "pending"]), "enums Status pending"),
        (
            lambda d: schemas(d)["Options"]["discriminator"].update(propertyName="kind"),
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
    assert "GET /uploads/{}/{} status" in capsys.readouterr().out
