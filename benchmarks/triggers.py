"""The measured triggers. Each function takes the number of the trigger and its interval."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from typing import Any

from server import EPOCH, GRAPH_TARGETS, list_id, target_id, upstream_ids

HOUR = 3600.0


def dbt_job(number: int, interval: float) -> Any:
    """Wait for a job of dbt Cloud."""
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    return DbtCloudRunJobTrigger(
        conn_id="bench_dbt",
        run_id=number,
        account_id=1,
        end_time=time.time() + HOUR,
        poll_interval=interval,
    )


def one_list(number: int, interval: float) -> Any:
    """Wait for the one list of 100 that all wait for, and that changes with every response."""
    return _ours(interval, {}, "datasets", connection_id=list_id(100, changing=True))


def own_list(number: int, interval: float) -> Any:
    """Wait for a list of 5 that nobody else waits for, and that does not change."""
    return _ours(interval, {}, "datasets", connection_id=list_id(5, number, changing=False))


def large_list(number: int, interval: float) -> Any:
    """Wait for a list of 1,000 that does not change."""
    return _ours(interval, {}, "datasets", connection_id=list_id(1_000, changing=False))


def unlike(number: int, interval: float) -> Any:
    """Wait for one list of 100 that does not change, with an ``updated_after`` of its own."""
    criteria = {"updated_after": _own_time(EPOCH, number)}
    return _ours(interval, criteria, "datasets", connection_id=list_id(100, changing=False))


def unlike_changing(number: int, interval: float) -> Any:
    """Wait for one list of 100 that changes with every response, with an ``updated_after`` of its own."""
    criteria = {"updated_after": _own_time(EPOCH, number)}
    return _ours(interval, criteria, "datasets", connection_id=list_id(100, changing=True))


def target(number: int, interval: float) -> Any:
    """Wait for a target and everything upstream, with an ``updated_after`` of its own."""
    return _target(number, interval, _own_time(EPOCH - timedelta(hours=2), number))


def target_after_times(number: int, interval: float) -> Any:
    """Wait for a target and everything upstream, each built after its time in a dict of 400."""
    ids = [*map(target_id, range(GRAPH_TARGETS)), *upstream_ids()]
    elsewhere = [f"e0000000-0000-4000-8000-{each:012d}" for each in range(400 - len(ids))]
    time = _own_time(EPOCH - timedelta(hours=2), number)
    return _target(number, interval, dict.fromkeys([*ids, *elsewhere], time))


def _target(number: int, interval: float, updated_after: Any) -> Any:
    ids = [target_id(number % GRAPH_TARGETS)]
    criteria = {"updated_after": updated_after}
    return _ours(interval, criteria, "targets", resource_ids=ids, include_upstream=True)


def _own_time(after: datetime, number: int) -> str:
    return (after + timedelta(seconds=50, microseconds=number)).isoformat()


def _ours(interval: float, criteria: dict[str, Any], resource_type: str, **source: Any) -> Any:
    from airflow_provider_faraday.triggers.resources import ResourcesReadyTrigger

    return ResourcesReadyTrigger(
        faraday_conn_id="bench_faraday",
        source={"resource_type": resource_type, **source},
        criteria=criteria,
        poke_interval=interval,
        deadline=time.time() + HOUR,
    )


def connections(port: int) -> dict[str, str]:
    """Return environment variables with Airflow connections to the local server."""
    address = f"127.0.0.1:{port}"
    faraday = {"conn_type": "faraday", "host": f"http://{address}", "password": "key"}
    dbt = {"conn_type": "dbt_cloud", "host": address, "login": "1", "password": "key"}
    return {"AIRFLOW_CONN_BENCH_FARADAY": json.dumps(faraday), "AIRFLOW_CONN_BENCH_DBT": json.dumps(dbt)}


def make_dbt_use_plain_http() -> None:
    """Replace HTTPS, the only protocol of dbt Cloud's hook."""
    from airflow.providers.dbt.cloud.hooks.dbt import DbtCloudHook

    original = DbtCloudHook.get_request_url_params

    def plain(*args: Any, **kwargs: Any) -> tuple[str, dict[str, Any]]:
        url, params = original(*args, **kwargs)
        return url.replace("https://", "http://", 1), params

    DbtCloudHook.get_request_url_params = staticmethod(plain)
