"""Measure the size of 100 datasets in XCom, with all fields, the default fields and six fields."""

from __future__ import annotations

import json
import logging

from airflow.sdk.serde import serialize
from server import datasets

from airflow_provider_faraday.api.resources import RESOURCE_TYPES, select_fields

FIELDS = ("id", "name", "status", "row_count", "last_updated_output_at", "options")


def main() -> None:
    """Print one JSON object with the sizes in bytes."""
    whole = datasets(100, ready=True)

    def selected(fields: tuple[str, ...] | None) -> list[dict[str, object]]:
        return select_fields(RESOURCE_TYPES["datasets"], whole, fields, logging.getLogger(__name__))

    def size(values: list[dict[str, object]]) -> int:
        return len(json.dumps(serialize(values)))

    result = {
        "kind": "xcom",
        "datasets": len(whole),
        "as_faraday_sends_them": size(whole),
        "without_sample": size(selected(None)),
        "six_fields": size(selected(FIELDS)),
        "fields": FIELDS,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
