"""What Faraday publishes of its API, from ``tests/faraday_api.json``, and a comparison of JSON with it.

In that file, a field that ends with ``?`` may be missing or null. All other fields are required. Where the
published types differ from the reference's example (data types of columns, identity providers), the file
follows the example.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

FACTS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "faraday_api.json").read_text())
OPERATIONS: dict[str, dict[str, Any]] = FACTS["operations"]
SCHEMAS: dict[str, dict[str, str]] = FACTS["schemas"]
ENUMS: dict[str, list[str]] = FACTS["enums"]
UNIONS: dict[str, dict[str, Any]] = FACTS["unions"]
PRIMITIVES = {"string": str, "number": (int, float), "boolean": bool, "object": dict}


def schema_of(resource_type: str) -> dict[str, str]:
    """Return the published fields of a resource type, without the mark of optional ones, and their types."""
    name = OPERATIONS[f"GET /{resource_type}/{{}}"]["returns"]
    return {field.rstrip("?"): type_ for field, type_ in SCHEMAS[name].items()}


def differences(value: object, expected: str, where: str = "") -> Iterator[str]:
    """Return how a JSON value differs from a published type: one sentence per difference."""
    where = where or expected
    if expected.startswith("Array<"):
        if not isinstance(value, list):
            yield f"{where} is not a list"
            return
        for item in value:
            yield from differences(item, expected[6:-1], f"{where}[]")
    elif expected in ENUMS:
        if value not in ENUMS[expected]:
            yield f"{where} is {value!r}"
    elif expected in UNIONS:
        variants = UNIONS[expected]["variants"]
        variant = value.get(UNIONS[expected]["field"]) if isinstance(value, dict) else None
        if variant not in variants:
            yield f"{where} is {value!r}"
        else:
            yield from differences(value, variants[variant], where)
    elif expected in SCHEMAS:
        yield from _differences_of_fields(value, SCHEMAS[expected], where)
    elif not any(_is_primitive(value, each) for each in expected.split(" | ")):
        yield f"{where} is {value!r}, not a {expected}"


def _differences_of_fields(value: object, fields: dict[str, str], where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is not an object"
        return
    required = {name for name in fields if not name.endswith("?")}
    types = {name.rstrip("?"): type_ for name, type_ in fields.items()}
    # Without published fields, any are allowed.
    if types:
        yield from (f"{where}.{name} is not published" for name in value.keys() - types.keys())
    for name, type_ in types.items():
        path = f"{where}.{name}"
        found = value.get(name)
        if found is None:
            if name in required:
                yield f"{path} is missing"
            continue
        yield from differences(found, type_, path)
        if name.endswith("_at") and not _is_time(found):
            yield f"{path} is {found!r}, which is not a time"


def _is_primitive(value: object, expected: str) -> bool:
    if isinstance(value, bool) and expected != "boolean":
        return False
    return expected in PRIMITIVES and isinstance(value, PRIMITIVES[expected])


def _is_time(value: object) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)", value):
        return False
    return datetime.fromisoformat(value).tzinfo is not None
