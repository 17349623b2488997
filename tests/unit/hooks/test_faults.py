"""The fault table over real sockets, on both transports: how each fault ends, and in how many requests."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fault_page
from airflow_provider_faraday.api import calls, responses, retries
from airflow_provider_faraday.api.config import ClientConfig
from airflow_provider_faraday.exceptions import FaradayApiError, error_event
from airflow_provider_faraday.hooks.aiohttp_transport import AiohttpTransport
from airflow_provider_faraday.hooks.requests_transport import RequestsTransport
from faults import FAULTS, GOOD, ID, KEY, Fault
from raw_server import RawServer, answer

ATTEMPTS = 2
# Far above what any of them takes: that it ends is what is shown, not when.
SECONDS = 60

Arguments = dict[str, Any]


def on_a_worker(config: ClientConfig, call: calls.ApiCall) -> list[str]:
    transport = RequestsTransport(config)
    try:
        return [item["id"] for item in transport.fetch(call, decode(call, responses.dataset_list))]
    finally:
        transport.close()


def in_the_triggerer(config: ClientConfig, call: calls.ApiCall) -> list[str]:
    async def run() -> list[str]:
        transport = AiohttpTransport(config, keep_alive=60)
        try:
            return [item.id for item in await transport.fetch(call, decode(call, responses.dataset_states))]
        finally:
            await transport.close()

    return asyncio.run(run())


def decode(call: calls.ApiCall, a_list: Any) -> Any:
    return (lambda answer: []) if call.method == "POST" else a_list


def rows(only_again: bool = False) -> list[Any]:
    """Give each fault for each transport, with what is otherwise in the triggerer in its place."""
    return [
        pytest.param(fetch, fault, id=f"{where}-{topic.split('(')[0]}-{fault.wire}")
        for topic, faults in FAULTS.items()
        for row in faults
        for where, fetch, fault in (
            ("worker", on_a_worker, row),
            ("triggerer", in_the_triggerer, replace(row, **row.triggerer)),
        )
        if not only_again or (fault.again and fault.script and not fault.tls)
    ]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make what would take long short, and give the seconds that are waited between attempts."""
    waits: list[float] = []
    asked: list[float] = []
    real_policy = retries.policy

    def policy(max_attempts: int) -> dict[str, Any]:
        real = real_policy(max_attempts)

        def wait(state: Any) -> float:
            asked.append(real["wait"](state))
            return 0.0

        def before_sleep(state: Any) -> None:
            real["before_sleep"](state)
            waits.append(asked[-1])

        return real | {"wait": wait, "before_sleep": before_sleep}

    monkeypatch.setattr(retries, "policy", policy)
    monkeypatch.setattr(retries, "_backoff", lambda state: 0.01)
    monkeypatch.setattr("airflow_provider_faraday.api.config.BODY_TIMEOUTS", 2)
    monkeypatch.setattr("airflow_provider_faraday.hooks.requests_transport.BODY_TIMEOUTS", 2)
    monkeypatch.setattr("airflow_provider_faraday.api.responses.MAX_BODY_BYTES", 1_000_000)
    monkeypatch.setattr("airflow_provider_faraday.api.responses.MAX_REQUESTS", 20)
    return waits


@pytest.fixture
def speaking(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Give the context manager of a fault's server, and of the client's settings for it."""

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
        connect_seconds=fault.silence,
        read_seconds=fault.silence,
        max_attempts=ATTEMPTS,
        **settings,
    )
    call = calls.force_update(ID) if fault.call == "POST" else calls.connection_datasets(ID)
    started = time.monotonic()
    try:
        return fetch(config, call)
    finally:
        assert time.monotonic() - started < SECONDS
        assert KEY not in repr(config)


@pytest.mark.parametrize(("fetch", "fault"), rows())
def test_a_fault_ends_as_the_table_says_and_tells_no_key(
    fetch: Any, fault: Fault, speaking: Any, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), speaking(fault, fault.script) as (server, settings):
        if fault.sees is None:
            found = ask(fetch, fault, settings)
            assert set(found) <= {ID, "a"}
            assert (ID in found) is (fault.call == "GET")
        else:
            with pytest.raises(FaradayApiError) as caught:
                ask(fetch, fault, settings)
            error = caught.value
            assert type(error) is fault.sees
            assert re.search(re.escape(fault.told).replace("…", ".*"), str(error))
            assert error.attempts == (ATTEMPTS if fault.again else 1)
            told = [
                *traceback.format_exception(error),
                repr(error),
                repr(vars(error)),
                repr(error_event(error)),
            ]
            assert KEY not in "".join(told)
            holder: BaseException | None = error
            while holder is not None:
                assert not hasattr(holder, "request")
                assert not hasattr(holder, "request_info")
                holder = holder.__cause__ or holder.__context__
        arrived = ATTEMPTS if fault.again else fault.requests
        assert len(server.received) == (arrived if reaches_the_server(fault) else 0)
    assert waits == [] if not fault.again else all(wait == (fault.pause or 0.01) for wait in waits)
    assert KEY not in caplog.text


def reaches_the_server(fault: Fault) -> bool:
    return fault.script is not None and fault.tls in ("", "client alone")


@pytest.mark.parametrize(("fetch", "fault"), rows(only_again=True))
def test_what_is_tried_again_is_healed_by_one_good_answer(
    fetch: Any, fault: Fault, speaking: Any, waits: list[float]
) -> None:
    (bad,) = fault.script
    good = answer(204) if fault.call == "POST" else GOOD
    with speaking(fault, [bad, good]) as (server, settings):
        assert ask(fetch, fault, settings) == ([] if fault.call == "POST" else [ID])
        assert len(server.received) == 2
    assert waits == [fault.pause or 0.01]


def test_the_page_says_what_the_table_says() -> None:
    assert fault_page.PAGE.read_text(encoding="utf-8") == fault_page.text(), "run: make faults"
