"""Measures what 100 datasets take in XCom, whole and with six fields."""

from __future__ import annotations

import json

from airflow.sdk.serde import serialize
from server import datasets

from airflow_provider_faraday.api.datasets import trimmed

FIELDS = ("id", "name", "status", "row_count", "last_updated_output_at", "options")


def main() -> None:
    """Print one JSON object with the sizes in bytes."""
    whole = datasets(100, ready=True)

    def size(values: list[dict[str, object]]) -> int:
        return len(json.dumps(serialize(values)))

    said = {
        "kind": "xcom",
        "datasets": len(whole),
        "as_faraday_sends_them": size(whole),
        "without_sample": size([trimmed(dataset, None) for dataset in whole]),
        "six_fields": size([trimmed(dataset, FIELDS) for dataset in whole]),
        "fields": FIELDS,
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
