"""Measure what a task costs a worker, and Faraday, when it resumes after the event of its trigger."""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from importlib import import_module
from typing import Any

from forked import forked
from server import Counter, list_id
from sizes import FIELDS
from subjects import SUBJECTS, connections

MODULES = ("waiting.events", "waiting.wait", "client.requests_client")


def _resume(size: int, fields: tuple[str, ...] | None) -> dict[str, float]:
    """Resume a sensor, and return the milliseconds of CPU time of each part."""
    from airflow.sdk.serde import serialize

    from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

    sensor = DatasetsReadySensor(
        task_id="wait",
        connection_id=list_id(size),
        fields=fields,
        faraday_conn_id="bench_faraday",
        deferrable=True,
    )
    wait = SUBJECTS["faraday"].trigger(0, size, 60.0).serialize()[1]
    event = {"status": "ready", "criteria": wait["criteria"], "deadline": wait["deadline"]}
    began = time.process_time()
    for module in MODULES:
        import_module(f"airflow_provider_faraday.{module}")
    loaded = time.process_time()
    returned = sensor.execute_complete({}, event=event, wait=wait)
    resumed = time.process_time()
    xcom_bytes = len(json.dumps(serialize(returned)))
    serialized = time.process_time()
    return {
        "import_ms": 1000 * (loaded - began),
        "resume_ms": 1000 * (resumed - loaded),
        "xcom_ms": 1000 * (serialized - resumed),
        "xcom_bytes": xcom_bytes,
    }


def main(quick: bool) -> None:
    """Print one JSON object per case, with medians over forked processes, as Airflow forks them for tasks."""
    _, tls_port, control_port = json.loads(os.environ["BENCH_PORTS"])
    os.environ |= connections(tls_port, tls=True)
    # What the process of a task has loaded before it resumes the operator.
    import_module("airflow.sdk.execution_time.supervisor")
    import_module("airflow.sdk.execution_time.task_runner")
    import_module("airflow.sdk.serde")
    import_module("airflow_provider_faraday.sensors.datasets")
    gc.freeze()
    counter, children = Counter(control_port), 3 if quick else 15
    for size, fields in ((5, None), (100, None), (100, FIELDS), (1_000, None), (1_000, FIELDS)):
        counter.ask([SUBJECTS["faraday"].path(0, size)])
        forked(_resume, size, fields)  # the server prepares its response
        before = counter.ask()
        taken = [forked(_resume, size, fields) for _ in range(children)]
        after = counter.ask()
        result: dict[str, Any] = {"kind": "resumed_task", "size": size, "fields": fields and len(fields)}
        result |= {key: statistics.median(one[key] for one in taken) for key in taken[0]}
        for key in ("requests", "bytes_sent"):
            result[key] = (after[key] - before[key]) / children
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
