"""``make bench``: measure the figures of docs/performance.md, some of them for other providers, too."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import report

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

import local_airflow

HERE = Path(__file__).parent
STAGES = ("imports", "webhooks", "transfers", "waiting")
VERSIONS = ("apache-airflow", "apache-airflow-providers-airbyte", "apache-airflow-providers-dbt-cloud")


def _stage(name: str, quick: bool) -> Iterator[dict[str, Any]]:
    """Run a script in an Airflow home of its own, and return the JSON objects that it prints."""
    with tempfile.TemporaryDirectory(prefix="faraday-bench-") as directory:
        home = Path(directory)
        env = local_airflow.environment(home, home / "dags")
        process = subprocess.Popen(
            [sys.executable, str(HERE / f"{name}.py"), *(["--quick"] if quick else [])],
            env=env | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            print(f"  {line.strip()}", flush=True)
            yield json.loads(line)
        if process.wait() != 0:
            raise SystemExit(f"benchmarks/{name}.py failed. See above.")


def _about(minutes: float) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "minutes": round(minutes, 1),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"Python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
    }


def main() -> None:
    """Run all stages and write the results."""
    parser = argparse.ArgumentParser(description="Measure the figures of docs/performance.md.")
    parser.add_argument("--quick", action="store_true", help="run a smoke test, and write no results")
    parser.add_argument("--only", choices=STAGES, help="run only this stage, and write no results")
    options = parser.parse_args()
    began = time.monotonic()
    measured: report.Measured = defaultdict(lambda: defaultdict(list))
    for name in [options.only] if options.only else STAGES:
        print(f"{name} ...", flush=True)
        for result in _stage(name, options.quick):
            case = result.pop("case")
            for figure, value in result.items():
                measured[case][figure].append(value)
    minutes = (time.monotonic() - began) / 60
    print(f"All measured in {minutes:.1f} minutes.")
    if not options.only:
        results = {"about": _about(minutes), "measured": report.needed(measured)}
        print(report.results_table(results["measured"]))
        if not options.quick:
            report.write(results)


if __name__ == "__main__":
    main()
