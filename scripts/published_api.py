"""Compare tests/faraday_api.json with Faraday's current OpenAPI document: ``make api``.

Exits with status 1 if a used part of the API differs. New fields and parameters are only printed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

URL = "https://app.faraday.ai/api.json"
EXPECTED = Path(__file__).resolve().parent.parent / "tests" / "faraday_api.json"
_PLAIN = ("array", "boolean", "integer", "number", "string")

JSON = dict[str, Any]


class Published:
    """The facts of an OpenAPI document, in the format of tests/faraday_api.json.

    Types that are defined where they are used are named as in Faraday's published client.

    :param wanted: the facts whose operations and types are enough
    """

    def __init__(self, document: JSON, wanted: JSON) -> None:
        self._document = document
        self.facts: JSON = {"operations": {}, "schemas": {}, "enums": {}, "unions": {}, "error_statuses": []}
        for name, schema in document["components"]["schemas"].items():
            if any(name in wanted[section] for section in ("schemas", "enums", "unions")):
                self._define(name, schema)
        for path, item in document["paths"].items():
            for method in item.keys() & {"get", "post", "put", "patch", "delete"}:
                name = f"{method.upper()} {re.sub('{[^}]*}', '{}', path.removeprefix('/v1'))}"
                if name in wanted["operations"]:
                    self.facts["operations"][name] = self._operation(item[method], item.get("parameters", []))

    def _operation(self, operation: JSON, parameters: list[JSON]) -> JSON:
        parameters = [self._resolve(each) for each in (*parameters, *operation.get("parameters", ()))]
        accepted = self._resolve(operation.get("requestBody", {})).get("content", {})
        statuses = sorted(int(status) for status in operation["responses"] if status.isdigit())
        self.facts["error_statuses"] += [status for status in statuses if status >= 400]
        fact = {
            "query": [each["name"] for each in parameters if each["in"] == "query"],
            "content_types": list(accepted),
            "status": statuses[0],
        }
        content = self._resolve(operation["responses"][str(statuses[0])]).get("content", {})
        returns = [self._type(each["schema"], "") for each in content.values()]
        return {**fact, "returns": returns[0]} if returns else fact

    def _define(self, name: str, schema: JSON) -> None:
        if "enum" in schema:
            self.facts["enums"][name] = [value for value in schema["enum"] if value is not None]
        elif "discriminator" in schema:
            mapping = schema["discriminator"].get("mapping", {})
            variants = {value: ref.rpartition("/")[2] for value, ref in mapping.items()}
            self.facts["unions"][name] = {
                "field": schema["discriminator"]["propertyName"],
                "variants": variants,
            }
        else:
            parts = list(self._parts(schema))
            required = {field for part in parts for field in part.get("required", ())}
            fields = {field: each for part in parts for field, each in part.get("properties", {}).items()}
            self.facts["schemas"][name] = {
                field + "?" * (field not in required or self._is_nullable(each)): self._type(
                    each, name + field.title().replace("_", "")
                )
                for field, each in fields.items()
            }

    def _parts(self, schema: JSON) -> Iterator[JSON]:
        """Yield a schema, and all that it is combined of."""
        schema = self._resolve(schema)
        yield schema
        for part in schema.get("allOf", ()):
            yield from self._parts(part)

    def _type(self, schema: JSON, name: str) -> str:
        """Return the type of a value, whose name is used if it is defined here."""
        variants = schema.get("oneOf") or schema.get("anyOf") or schema.get("allOf")
        if isinstance(schema.get("type"), list):
            variants = [{**schema, "type": each} for each in schema["type"]]
        if variants:
            return " | ".join(sorted({self._type(each, name) for each in variants} - {"null"}))
        if "$ref" in schema:
            target, name = self._resolve(schema), schema["$ref"].rpartition("/")[2]
            is_alias = target.get("type") in _PLAIN and "enum" not in target
            return self._type(target, name) if is_alias else name
        if "enum" in schema or "properties" in schema:
            name += "Enum" * ("enum" in schema)
            self._define(name, schema)
            return name
        if schema.get("type") == "array":
            return f"Array<{self._type(schema['items'], name)}>"
        if isinstance(schema.get("additionalProperties"), dict):
            return f"{{ [key: string]: {self._type(schema['additionalProperties'], name)}; }}"
        if schema.get("format") == "binary":
            return "Blob"
        return {"integer": "number"}.get(schema.get("type", "object"), schema.get("type", "object"))

    def _is_nullable(self, schema: JSON) -> bool:
        schema = self._resolve(schema)
        variants = [schema, *schema.get("oneOf", ()), *schema.get("anyOf", ())]
        # Each type is a string, or a list of strings.
        types = [each.get("type", "") for each in variants]
        return bool(schema.get("nullable")) or "null" in types or any("null" in [*each] for each in types)

    def _resolve(self, node: JSON) -> JSON:
        while "$ref" in node:
            found: Any = self._document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node


def flat(facts: Any, *path: str) -> dict[tuple[str, ...], Any]:
    """Return each fact by its path. Each item of a list is a fact."""
    if isinstance(facts, list):
        facts = {str(each): "yes" for each in facts}
    if not isinstance(facts, dict):
        return {path: facts}
    return {where: fact for name, each in facts.items() for where, fact in flat(each, *path, name).items()}


def compare(expected: JSON, document: JSON) -> tuple[list[str], list[str]]:
    """Return how an OpenAPI document differs from the expected facts, and what is new in it."""
    published = Published(document, expected).facts
    before, after = flat({section: expected[section] for section in published}), flat(published)
    # The used operations and types.
    known = {path[:2] for path in before}
    differs, new = [], []
    for path in sorted(before.keys() | {path for path in after if path[:2] in known}):
        if before.get(path) != after.get(path):
            # A new value of an enumeration may be a new status.
            changes = differs if path in before or path[0] == "enums" else new
            changes.append(
                f"{' '.join(path)}: {before.get(path, 'missing')}, now {after.get(path, 'missing')}"
            )
    return differs, new


def main(source: str = URL) -> int:
    """Print the changes.

    :param source: the URL or the file of an OpenAPI document
    """
    if source.startswith("https://"):
        try:
            document = requests.get(source, timeout=60).json()
        except requests.RequestException as error:
            sys.exit(f"Could not download {source}: {error}")
    else:
        document = json.loads(Path(source).read_text(encoding="utf-8"))
    differs, new = compare(json.loads(EXPECTED.read_text(encoding="utf-8")), document)
    for title, lines in (("Changes that affect this package:", differs), ("New:", new)):
        print("\n".join([title, *(f"  {line}" for line in lines or ["nothing"])]))
    return bool(differs)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
