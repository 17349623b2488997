"""AiohttpClient: one TCP connection, certificates, proxies. Its faults are in test_faults.py."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_faraday.api import endpoints
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.api.responses import Remembering, Response, decode_resources
from airflow_provider_faraday.client import aiohttp_client
from airflow_provider_faraday.client.aiohttp_client import AiohttpClient
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayConfigurationError,
    FaradayResponseError,
    FaradayTransportError,
)
from raw_server import RawServer, answer, drip
from support.clients import DATASETS, ID, KEY, PATH, always

pytestmark = pytest.mark.usefixtures("no_backoff")

ENDPOINT = endpoints.resources_of(RESOURCE_TYPES["connections"], ID, RESOURCE_TYPES["datasets"])


def fetch(url: str, *, times: int = 1, decode: Callable[..., Any] = decode_resources, **fields: Any) -> Any:
    """List a connection's datasets with one client, and return the last result."""
    config = ClientConfig(conn_id="faraday_default", api_key=KEY, base_url=url, **fields)

    async def run() -> Any:
        client = AiohttpClient(always(config))
        try:
            for _ in range(times):
                items = (await client.fetch(ENDPOINT, decode, seconds=60.0)).value
            return items
        finally:
            await client.close()

    return asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize(
    "change",
    [
        lambda items: items,
        lambda items: items[:-1],
        lambda items: [*items, {"id": "new"}],
        lambda items: [*items[:-1], {"id": "other"}],
    ],
)
def test_a_changed_body_of_many_chunks_is_decoded_again(change: Callable[[list[Any]], list[Any]]) -> None:
    items = [{"id": f"{number}", "pad": "x" * 1000} for number in range(1000)]
    calls: list[int] = []

    def decode(response: Response) -> list[dict[str, Any]]:
        calls.append(len(response.body))
        return decode_resources(response)

    with RawServer([answer(body=items), answer(body=items), answer(body=change(items))]) as server:
        assert fetch(server.url, times=3, decode=Remembering(decode)) == change(items)
    assert len(calls) == (1 if change(items) == items else 2)


def test_a_response_that_is_too_large_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp_client, "MAX_BODY_BYTES", 50)
    with (
        RawServer([answer(body=DATASETS)]) as server,
        pytest.raises(FaradayResponseError, match="larger than 50 bytes"),
    ):
        fetch(server.url)
    # Sent once: it would be as large the next time.
    assert len(server.received) == 1


def test_uses_the_proxy_of_the_airflow_connection_or_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with RawServer([answer(body=DATASETS)]) as proxy, RawServer([answer(body=DATASETS)]) as server:
        url = f"http://127.0.0.1:{proxy.port}"
        assert fetch("http://faraday.test/v1", proxy=url) == DATASETS
        monkeypatch.setenv("http_proxy", url)
        assert fetch("http://faraday.test/v1") == DATASETS
        assert proxy.targets == [f"http://faraday.test/v1{PATH}"] * 2
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert fetch(server.url) == DATASETS
        assert len(server.received) == 1


def test_a_proxy_of_the_environment_needs_no_scheme_and_its_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with RawServer([answer(407, b"no", headers={"Proxy-Authenticate": "Basic"})]) as proxy:
        monkeypatch.setenv("https_proxy", f"user:hidden-pw@127.0.0.1:{proxy.port}")
        with pytest.raises(FaradayApiError) as caught:
            fetch("https://faraday.test/v1", max_attempts=1)
        assert len(proxy.received) == 1
        assert "hidden-pw" not in str(caught.value)


def test_a_netrc_file_does_not_replace_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer([answer(body=DATASETS)]) as server:
        fetch(server.url)
        assert server.received[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_host_name_that_is_too_long_is_one_of_our_errors() -> None:
    with pytest.raises((FaradayConfigurationError, FaradayTransportError)):
        fetch(f"http://{'a' * 70}.test/v1", max_attempts=1)


def keyed(request: Any) -> Any:
    good = request.headers["authorization"] == "Bearer new-key"
    return answer(body=DATASETS) if good else answer(401)


@pytest.mark.parametrize(("newer", "sent"), [("new-key", 2), ("old-key", 1), ("other-key", 2)])
def test_a_401_is_raised_unless_a_newer_key_is_accepted(newer: str, sent: int) -> None:
    async def run(url: str) -> Any:
        old, new = (ClientConfig(conn_id="x", api_key=key, base_url=url) for key in ("old-key", newer))
        client = AiohttpClient(lambda rejected: asyncio.sleep(0, new if rejected == old else old))
        try:
            return (await client.fetch(ENDPOINT, decode_resources, seconds=60.0)).value
        finally:
            await client.close()

    with RawServer(keyed) as server:
        if newer == "new-key":
            assert asyncio.run(run(server.url)) == DATASETS
        else:
            with pytest.raises(FaradayAuthenticationError):
                asyncio.run(run(server.url))
        assert len(server.received) == sent


def test_a_request_in_progress_keeps_its_key_when_the_key_changes() -> None:
    arrived, slow = threading.Event(), threading.Event()

    def step(request: Any) -> Any:
        if request.headers["authorization"] == "Bearer old-key":
            arrived.set()
            slow.wait(60)
        return answer(body=DATASETS)

    async def run(url: str) -> None:
        configs = [ClientConfig(conn_id="x", api_key=key, base_url=url) for key in ("old-key", "new-key")]
        client = AiohttpClient(lambda rejected: asyncio.sleep(0, configs[0]))
        old = asyncio.create_task(client.fetch(ENDPOINT, decode_resources, seconds=60.0))
        await asyncio.to_thread(arrived.wait, 10)
        configs.pop(0)
        assert (await client.fetch(ENDPOINT, decode_resources, seconds=60.0)).value == DATASETS
        slow.set()
        assert (await old).value == DATASETS
        await client.close()

    with RawServer(step) as server:
        asyncio.run(asyncio.wait_for(run(server.url), 60))
        sent = [each.headers["authorization"] for each in server.received]
        assert sent == ["Bearer old-key", "Bearer new-key"]


def test_a_request_takes_no_longer_than_it_may() -> None:
    async def run() -> None:
        config = ClientConfig(conn_id="x", api_key=KEY, base_url=server.url, read_seconds=0.5)
        client = AiohttpClient(always(config))
        try:
            await client.fetch(ENDPOINT, decode_resources, seconds=0.5)
        finally:
            await client.close()

    with RawServer([drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" ")]) as server:
        with pytest.raises(FaradayTransportError, match="timed out"):
            asyncio.run(asyncio.wait_for(run(), 60))
        # It has worked as long as it may.
        assert len(server.received) == 1


def test_names_a_ca_bundle_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(FaradayTransportError, match=r"No such file .*/no/such/bundle\.pem"):
        fetch("https://127.0.0.1:9/v1", max_attempts=1)
