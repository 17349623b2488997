"""``make bench``: compare this package with its peers, and write benchmarks/results/."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from environment import certificate, environment, machine
from report import write
from server import Server

HERE = Path(__file__).parent
STAGES = ("sizes", "imports", "waiting", "triggerer", "resumed", "webhooks", "transfers")


def _stage(name: str, quick: bool) -> list[dict[str, Any]]:
    """Run one script against a new server, and return the JSON objects that it prints."""
    with tempfile.TemporaryDirectory(prefix="faraday-bench-") as directory:
        home = Path(directory)
        pem = certificate(home)
        with Server(pem) as server:
            ports = [server.http_port, server.tls_port, server.control_port]
            process = subprocess.Popen(
                [sys.executable, str(HERE / f"{name}.py"), *(["--quick"] if quick else [])],
                env=environment(home, ports, pem),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            results = []
            for line in process.stdout:
                results.append(json.loads(line))
                print(f"  {_short(results[-1])}", flush=True)
            if process.wait() != 0:
                raise SystemExit(f"benchmarks/{name}.py failed. See above.")
    return results


def _short(result: dict[str, Any]) -> str:
    shown = ("subject", "waiters", "lists", "size", "interval", "tls", "spread", "cpu_ms_per_interval")
    shown += (
        "direction",
        "mb_per_s",
        "peak_mb",
        "lag_ms_p99",
        "ms",
        "modules",
        "median_s",
        "run_median_s",
        "last_s",
        "lag_ms_max",
        "phase",
        "half_s",
        "fields",
        "import_ms",
        "resume_ms",
        "xcom_ms",
    )
    fields = (
        f"{key}={result[key]:.4g}" if isinstance(result[key], float) else f"{key}={result[key]}"
        for key in shown
        if key in result and result[key] is not False
    )
    return f"{result['kind']}: {' '.join(fields)}"


def main() -> None:
    """Run all stages, then write the results."""
    parser = argparse.ArgumentParser(description="Compare this package with its peers.")
    parser.add_argument("--quick", action="store_true", help="run a smoke test of about two minutes")
    parser.add_argument(
        "--only", choices=STAGES, action="append", help="run only this stage, and write no results"
    )
    options = parser.parse_args()
    begun = time.monotonic()
    results: list[dict[str, Any]] = []
    for name in options.only or STAGES:
        print(f"{name} ...", flush=True)
        results += _stage(name, options.quick)
    if options.only:
        return
    command = "make bench" + (" ARGS=--quick" if options.quick else "")
    about = {"command": command, "minutes": round((time.monotonic() - begun) / 60, 1), **machine()}
    directory = HERE / ("results-quick" if options.quick else "results")
    write(directory, about, results)
    print(f"Results written to benchmarks/{directory.name}/ after {about['minutes']} minutes.")


if __name__ == "__main__":
    main()
