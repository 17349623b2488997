"""Measure the import of operators and sensors in forked processes that have loaded Airflow's SDK."""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from typing import Any

from forked import forked

HTTP_LIBRARIES = ("requests", "urllib3", "aiohttp", "yarl", "httpx", "fastapi")
MODULES = {
    "import": (
        "airflow_provider_faraday.operators.datasets",
        "airflow_provider_faraday.operators.resources",
        "airflow_provider_faraday.sensors.datasets",
        "airflow_provider_faraday.sensors.resources",
    ),
    "import of airbyte": (
        "airflow.providers.airbyte.operators.airbyte",
        "airflow.providers.airbyte.sensors.airbyte",
    ),
}


def measure(modules: tuple[str, ...]) -> dict[str, float]:
    """Import modules. Return the milliseconds and the number of HTTP libraries that this loads."""
    already = set(sys.modules)
    began = time.perf_counter()
    for module in modules:
        importlib.import_module(module)
    milliseconds = 1000 * (time.perf_counter() - began)
    return {"ms": milliseconds, "http_libraries": len((sys.modules.keys() - already) & {*HTTP_LIBRARIES})}


def main(quick: bool) -> None:
    """Print one JSON object per import."""
    # Every DAG file with a task loads these, whatever its provider.
    from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, task  # noqa: F401

    gc.freeze()
    for modules in MODULES.values():
        forked(measure, modules)  # fills the disk cache
    for _ in range(3 if quick else 15):
        for name, modules in MODULES.items():
            result: dict[str, Any] = {"case": name, **forked(measure, modules)}
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
