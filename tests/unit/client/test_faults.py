"""The fault table over real sockets, with both clients: how each fault ends, and after how many requests."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import ssl
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_faraday.api import endpoints, responses, retries, states
from airflow_provider_faraday.api.endpoints import Endpoint
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.client.aiohttp_client import AiohttpClient
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.client.requests_client import RequestsClient
from airflow_provider_faraday.exceptions import FaradayApiError
from faults import FAULTS, GOOD, ID, KEY, UPLOAD, Fault
from raw_server import RawServer, after_body, answer
from support.clients import always

DATASETS = RESOURCE_TYPES["datasets"]
ATTEMPTS = 2
TOTAL_SECONDS = 3.0
# Far more than any of them takes: the tests show that a request ends, not when.
SECONDS = 60

ENDPOINTS = {
    "GET": endpoints.resources_of(RESOURCE_TYPES["connections"], ID, DATASETS),
    "POST": endpoints.force_update(DATASETS, ID),
}

Arguments = dict[str, Any]


def in_worker(config: ClientConfig, call: str) -> list[str]:
    client = RequestsClient(lambda: config)
    try:
        if call == "upload":
            opened = lambda: nullcontext([UPLOAD])  # noqa: E731
            client.upload(endpoints.upload("any", "any.csv"), len(UPLOAD), opened, lambda: False)
            return []
        if call == "download":
            saved = client.download(endpoints.download_target(ID), lambda chunks, total: b"".join(chunks))
            return [item["id"] for item in json.loads(saved)]
        endpoint = ENDPOINTS[call]
        fetched = client.fetch(endpoint, decoder(endpoint, responses.decode_resources))
        return [item["id"] for item in fetched.value]
    finally:
        client.close()


def in_triggerer(config: ClientConfig, call: str) -> list[str]:
    endpoint = ENDPOINTS[call]

    async def run() -> list[str]:
        client = AiohttpClient(always(config))
        try:
            decode = decoder(endpoint, states.decode_states(DATASETS))
            fetched = await client.fetch(endpoint, decode, seconds=TOTAL_SECONDS)
            return [item.id for item in fetched.value]
        finally:
            await client.close()

    return asyncio.run(run())


def decoder(endpoint: Endpoint, of_a_list: Any) -> Any:
    return (lambda response: []) if endpoint.method == "POST" else of_a_list


def rows(only_retried: bool = False) -> list[Any]:
    """Return each fault for each client."""
    return [
        pytest.param(fetch, fault, id=f"{where}-{topic.split('(')[0]}-{fault.wire}")
        for topic, faults in FAULTS.items()
        for row in faults
        for where, fetch, fault in (
            ("worker", in_worker, row),
            ("triggerer", in_triggerer, replace(row, **row.triggerer)),
        )
        if (not fault.is_transfer if where == "triggerer" else fault.ends_in_worker)
        and (not only_retried or (fault.retried and fault.script and not fault.tls))
    ]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Shorten what would take long, and return the seconds waited between attempts."""
    computed: list[float] = []
    waits: list[float] = []
    real_policy = retries.policy

    def policy(*arguments: Any, **named: Any) -> dict[str, Any]:
        real = real_policy(*arguments, **named)

        def wait(state: Any) -> float:
            # tenacity also computes a wait after the last attempt.
            computed.append(real["wait"](state))
            return 0.0

        def before_sleep(state: Any) -> None:
            waits.append(computed[-1])

        return real | {"wait": wait, "before_sleep": before_sleep}

    monkeypatch.setattr(retries, "policy", policy)
    monkeypatch.setattr(retries, "BACKOFF", lambda state: 0.01)
    monkeypatch.setattr(responses, "MAX_PAGES", 20)
    return waits


@pytest.fixture
def speaking(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Return a context manager of a fault's server and the client's settings for it."""

    @contextmanager
    def start(fault: Fault, script: Any) -> Iterator[tuple[RawServer, Arguments]]:
        context: ssl.SSLContext | None = None
        settings: Arguments = {}
        if fault.tls == "another host":
            context = request.getfixturevalue("for_another_host")
            settings["verify"] = str(tmp_path / "server.pem")
        elif fault.tls in ("self-signed", "server alone"):
            context = request.getfixturevalue("self_signed")
        with RawServer(script or [GOOD], tls=context) as server:
            settings["base_url"] = {
                "client alone": server.url.replace("http:", "https:"),
                "server alone": server.url.replace("https:", "http:"),
            }.get(fault.tls, server.url)
            if script is None:
                with socket.create_server(("127.0.0.1", 0)) as listener:
                    port = listener.getsockname()[1]
                settings["base_url"] = f"http://127.0.0.1:{port}"
            yield server, settings

    return start


def ask(fetch: Any, fault: Fault, settings: Arguments) -> list[str]:
    config = ClientConfig(
        conn_id="faraday_default",
        api_key=KEY,
        connect_seconds=fault.timeout,
        read_seconds=fault.timeout,
        max_attempts=ATTEMPTS,
        **settings,
    )
    started = time.monotonic()
    try:
        return fetch(config, fault.call)
    finally:
        assert time.monotonic() - started < SECONDS
        assert KEY not in repr(config)


@pytest.mark.parametrize(("fetch", "fault"), rows())
def test_a_fault_ends_as_documented_and_does_not_leak_the_key(
    fetch: Any, fault: Fault, speaking: Any, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), speaking(fault, fault.script) as (server, settings):
        if fault.sees is None:
            found = ask(fetch, fault, settings)
            assert set(found) <= {ID, "a"}
            assert (ID in found) is fault.gets_data
        else:
            with pytest.raises(FaradayApiError) as caught:
                ask(fetch, fault, settings)
            error = caught.value
            assert type(error) is fault.sees
            assert re.search(re.escape(fault.says).replace("…", ".*"), str(error))
            assert error.attempts == (ATTEMPTS if fault.retried else 1)
            shown = "".join([*traceback.format_exception(error), repr(error), repr(vars(error))])
            assert KEY not in shown
            holder: BaseException | None = error
            while holder is not None:
                assert not hasattr(holder, "request")
                assert not hasattr(holder, "request_info")
                holder = holder.__cause__ or holder.__context__
        arrived = ATTEMPTS * (1 + fault.resent_by_aiohttp) if fault.retried else fault.requests
        assert len(server.received) == (arrived if reaches_the_server(fault) else 0)
    assert waits == ([fault.pause or 0.01] * (ATTEMPTS - 1) if fault.retried else [])
    assert KEY not in caplog.text


def reaches_the_server(fault: Fault) -> bool:
    return fault.script is not None and fault.tls in ("", "client alone")


@pytest.mark.parametrize(("fetch", "fault"), rows(only_retried=True))
def test_recovers_after_one_good_response(
    fetch: Any, fault: Fault, speaking: Any, waits: list[float]
) -> None:
    (bad,) = fault.script
    good = GOOD if fault.gets_data else after_body(answer(204))
    with speaking(fault, [bad, good]) as (server, settings):
        assert ask(fetch, fault, settings) == ([ID] if fault.gets_data else [])
        assert len(server.received) == 2
    assert waits == ([] if fault.resent_by_aiohttp else [fault.pause or 0.01])
