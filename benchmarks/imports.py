"""Measure importing a provider's operators and sensors in forked processes that have loaded airflow.sdk."""

from __future__ import annotations

import gc
import importlib
import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
from forked import forked
from subjects import SUBJECTS

HTTP_LIBRARIES = ("requests", "urllib3", "aiohttp", "yarl", "httpx", "fastapi")


def _import(modules: list[str]) -> dict[str, Any]:
    process = psutil.Process()
    before = set(sys.modules)
    memory = process.memory_full_info()
    at = time.perf_counter()
    for module in modules:
        importlib.import_module(module)
    seconds = time.perf_counter() - at
    after = process.memory_full_info()
    loaded = set(sys.modules) - before
    return {
        "ms": 1000 * seconds,
        "modules": len(loaded),
        "rss_mb": (after.rss - memory.rss) / 1e6,
        "uss_mb": (after.uss - memory.uss) / 1e6,
        "http_libraries": [name for name in HTTP_LIBRARIES if name in loaded],
    }


def _later_parse(modules: list[str]) -> dict[str, Any]:
    """Import as in later parses of a DAG file, where ``airflow.`` modules were imported before the fork."""
    for module in modules:
        if module.startswith("airflow."):
            importlib.import_module(module)
    result: dict[str, Any] = forked(_import, modules)
    return result


def measured(rounds: int) -> Iterator[dict[str, Any]]:
    """Import every subject in this many processes, in turn, and return the medians."""
    # Every DAG file with a task loads these, whatever its provider.
    from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, task  # noqa: F401

    already = [name for name in HTTP_LIBRARIES if name in sys.modules]
    gc.freeze()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SUBJECTS}
    later: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    for number in range(rounds + 1):
        for name, subject in SUBJECTS.items():
            run = forked(_import, list(subject.modules))
            again = forked(_later_parse, list(subject.modules))
            if number:  # the first round fills the disk cache
                runs[name].append(run)
                later[name].append(again["ms"])
    for name, taken in runs.items():
        medians = {
            key: statistics.median(run[key] for run in taken) for key in ("ms", "modules", "rss_mb", "uss_mb")
        }
        yield {
            "subject": name,
            "children": rounds,
            **medians,
            "ms_fastest": min(run["ms"] for run in taken),
            "later_parse_ms": statistics.median(later[name]),
            "http_libraries": taken[0]["http_libraries"],
            "http_libraries_of_airflow_sdk": already,
        }


if __name__ == "__main__":
    for result in measured(5 if "--quick" in sys.argv[1:] else 21):
        print(json.dumps({"kind": "import", **result}), flush=True)
