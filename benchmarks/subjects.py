"""This package and its peers, each with its trigger, its Airflow connection and its path on the server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from server import EPOCH, list_id, target_id

HOUR = 3600.0


@dataclass(frozen=True)
class Subject:
    """One provider.

    :param name: its name in the tables.
    :param distribution: its name on the package index.
    :param modules: the modules of its operators and sensors.
    :param trigger: creates the trigger of its deferred sensor or operator.
    :param path: returns the path that the trigger polls.
    :param kwargs: returns what its deferred task resumes with, apart from the event.
    :param plain_http: makes a provider that only supports HTTPS use plain HTTP.
    :param tls: makes the provider use TLS.
    """

    name: str
    distribution: str
    modules: tuple[str, ...]
    trigger: Callable[[int, int, float], Any]
    path: Callable[[int, int], str]
    kwargs: Callable[[Any], dict[str, Any]] = lambda trigger: {}
    plain_http: Callable[[int], None] = lambda port: None
    tls: Callable[[int], None] = lambda port: None


def _faraday(number: int, size: int, interval: float, *, changing: bool = True) -> Any:
    from airflow_provider_faraday.triggers.resources import ResourcesReadyTrigger

    return ResourcesReadyTrigger(
        faraday_conn_id="bench_faraday",
        source={"resource_type": "datasets", "connection_id": list_id(size, number, changing=changing)},
        criteria={},
        poke_interval=interval,
        deadline=time.time() + HOUR,
    )


def unlike(number: int, size: int, interval: float, *, changing: bool) -> Any:
    """Return a trigger that waits for the one list with an ``updated_after`` like no other's."""
    from airflow_provider_faraday.triggers.resources import ResourcesReadyTrigger

    after = EPOCH + timedelta(seconds=size // 2, microseconds=number)
    return ResourcesReadyTrigger(
        faraday_conn_id="bench_faraday",
        source={"resource_type": "datasets", "connection_id": list_id(size, changing=changing)},
        criteria={"updated_after": after.isoformat()},
        poke_interval=interval,
        deadline=time.time() + HOUR,
    )


def upstream(number: int, interval: float) -> Any:
    """Return a trigger that waits for a target and everything upstream, with criteria like no other's."""
    from airflow_provider_faraday.triggers.resources import ResourcesReadyTrigger

    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return ResourcesReadyTrigger(
        faraday_conn_id="bench_faraday",
        source={
            "resource_type": "targets",
            "resource_ids": [target_id(number % 20)],
            "include_upstream": True,
        },
        criteria={"updated_after": after.isoformat()},
        poke_interval=interval,
        deadline=time.time() + HOUR,
    )


def _dbt(number: int, size: int, interval: float) -> Any:
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    return DbtCloudRunJobTrigger(
        conn_id="bench_dbt",
        run_id=number,
        account_id=1,
        end_time=time.time() + HOUR,
        poll_interval=interval,
    )


def _dbt_plain(port: int) -> None:
    from airflow.providers.dbt.cloud.hooks.dbt import DbtCloudHook

    original = DbtCloudHook.get_request_url_params

    def plain(*args: Any, **kwargs: Any) -> tuple[str, dict[str, Any]]:
        url, params = original(*args, **kwargs)
        return url.replace("https://", "http://", 1), params

    DbtCloudHook.get_request_url_params = staticmethod(plain)


def _airbyte(number: int, size: int, interval: float) -> Any:
    from airflow.providers.airbyte.triggers.airbyte import AirbyteSyncTrigger

    return AirbyteSyncTrigger(
        conn_id="bench_airbyte", job_id=number, end_time=time.time() + HOUR, poll_interval=interval
    )


def _http(number: int, size: int, interval: float) -> Any:
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    return HttpSensorTrigger(
        http_conn_id="bench_http", endpoint=f"http/jobs/{number}", poke_interval=interval
    )


def _fivetran(number: int, size: int, interval: float) -> Any:
    from fivetran_provider_async.triggers import FivetranTrigger

    return FivetranTrigger(
        task_id="wait", connector_id=str(number), fivetran_conn_id="bench_fivetran", poke_interval=interval
    )


def _fivetran_at(protocol: str) -> Callable[[int], None]:
    def use(port: int) -> None:
        from fivetran_provider_async.hooks import FivetranHook

        FivetranHook.api_protocol = protocol
        FivetranHook.api_host = f"127.0.0.1:{port}"

    return use


OURS = Subject(
    "faraday",
    "airflow-provider-faraday",
    (
        "airflow_provider_faraday.operators.datasets",
        "airflow_provider_faraday.operators.resources",
        "airflow_provider_faraday.sensors.datasets",
        "airflow_provider_faraday.sensors.resources",
    ),
    _faraday,
    lambda number, size: f"/v1/connections/{list_id(size, number)}/datasets",
    kwargs=lambda trigger: {"wait": trigger.serialize()[1]},
)
UNCHANGED = replace(OURS, trigger=partial(_faraday, changing=False))
PEERS = (
    Subject(
        "dbt-cloud",
        "apache-airflow-providers-dbt-cloud",
        ("airflow.providers.dbt.cloud.operators.dbt", "airflow.providers.dbt.cloud.sensors.dbt"),
        _dbt,
        lambda number, size: f"/api/v2/accounts/1/runs/{number}/",
        plain_http=_dbt_plain,
    ),
    Subject(
        "http",
        "apache-airflow-providers-http",
        ("airflow.providers.http.operators.http", "airflow.providers.http.sensors.http"),
        _http,
        lambda number, size: f"/http/jobs/{number}",
    ),
    Subject(
        "fivetran-async",
        "airflow-provider-fivetran-async",
        ("fivetran_provider_async.operators", "fivetran_provider_async.sensors"),
        _fivetran,
        lambda number, size: f"/v1/connectors/{number}",
        plain_http=_fivetran_at("http"),
        tls=_fivetran_at("https"),
    ),
    Subject(
        "airbyte",
        "apache-airflow-providers-airbyte",
        ("airflow.providers.airbyte.operators.airbyte", "airflow.providers.airbyte.sensors.airbyte"),
        _airbyte,
        lambda number, size: f"/airbyte/jobs/{number}",
    ),
)
SUBJECTS = {subject.name: subject for subject in (OURS, *PEERS)}


def connections(port: int, *, tls: bool) -> dict[str, str]:
    """Return environment variables with the Airflow connections of all subjects to the local server."""
    scheme = "https" if tls else "http"
    netloc = f"127.0.0.1:{port}"
    of = {
        "faraday": {"conn_type": "faraday", "host": f"{scheme}://{netloc}", "password": "key"},
        "dbt": {"conn_type": "dbt_cloud", "host": netloc, "login": "1", "password": "key"},
        "http": {"conn_type": "http", "schema": scheme, "host": "127.0.0.1", "port": port},
        "fivetran": {"conn_type": "fivetran", "login": "key", "password": "secret"},
        "airbyte": {"conn_type": "airbyte", "host": f"{scheme}://{netloc}/airbyte"},
    }
    return {f"AIRFLOW_CONN_BENCH_{name.upper()}": json.dumps(fields) for name, fields in of.items()}
