"""AiohttpClient: one TCP connection, certificates, proxies. Its faults are in test_faults.py."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import nullcontext
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from airflow.models import Connection
from cryptography import x509
from tenacity import wait_none

from airflow_provider_faraday.api import endpoints, retries
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.api.responses import Remembering, Response, decode_resources
from airflow_provider_faraday.client.aiohttp_client import AiohttpClient
from airflow_provider_faraday.client.config import ClientConfig, client_config
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayConfigurationError,
    FaradayTransportError,
)
from raw_server import RawServer, answer, drip
from support.certificates import certified
from support.clients import DATASETS, ID, KEY, PATH, always

ENDPOINT = endpoints.resources_of(RESOURCE_TYPES["connections"], ID, RESOURCE_TYPES["datasets"])


def fetch(url: str, *, times: int = 1, decode: Callable[..., Any] = decode_resources, **fields: Any) -> Any:
    """List a connection's datasets with one client, and return the last result."""
    config = ClientConfig(conn_id="faraday_default", api_key=KEY, base_url=url, **fields)

    async def run() -> Any:
        client = AiohttpClient(always(config))
        try:
            for _ in range(times):
                items = (await client.fetch(ENDPOINT, decode)).value
            return items
        finally:
            await client.close()

    return asyncio.run(asyncio.wait_for(run(), 60))


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "BACKOFF", wait_none())


def test_sends_the_key_and_reuses_the_tcp_connection() -> None:
    with RawServer([answer(body=DATASETS)]) as server:
        assert fetch(server.url, times=3) == DATASETS
        assert server.connections == 1
        assert {r.headers["authorization"] for r in server.received} == {f"Bearer {KEY}"}
        assert server.received[0].headers["user-agent"].startswith("airflow-provider-faraday/")


@pytest.mark.parametrize(
    "change",
    [
        lambda items: items,
        lambda items: items[:-1],
        lambda items: [*items, {"id": "new"}],
        lambda items: [*items[:-1], {"id": "other"}],
        lambda items: [],
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


def test_follows_a_next_link_in_a_second_or_a_long_header() -> None:
    two = f'</v1{PATH}>; rel="first"\r\nLink: </v1{PATH}?offset=1>; rel="next"'
    wide = f'</v1{PATH}?pad={"x" * 9000}>; rel="last", </v1{PATH}?offset=1>; rel="next"'
    for link in (two, wide):
        with RawServer(
            [answer(body=[{"id": "a"}], headers={"Link": link}), answer(body=[{"id": "b"}])]
        ) as server:
            assert fetch(server.url) == [{"id": "a"}, {"id": "b"}]


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


def test_reads_a_ca_bundle_again_after_it_has_changed(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    first, second = tmp_path / "first", tmp_path / "second"
    contexts = []
    for folder in (first, second):
        folder.mkdir()
        contexts.append(certified(folder, x509.IPAddress(ip_address("127.0.0.1"))))

    async def look_up(rejected: ClientConfig | None) -> ClientConfig:
        extra = json.dumps({"verify": str(bundle), "max_attempts": 2})
        return client_config(Connection("x", "faraday", password=KEY, host=url, extra=extra))

    async def run(old: RawServer) -> None:
        bundle.write_bytes((first / "server.pem").read_bytes())
        client = AiohttpClient(look_up)
        try:
            assert (await client.fetch(ENDPOINT, decode_resources)).value == DATASETS
            # The server gets a certificate of another authority, and the bundle follows.
            old.__exit__(None, None, None)
            with RawServer([answer(body=DATASETS)], tls=contexts[1], port=old.port):
                with pytest.raises(FaradayTransportError, match="certificate verify failed"):
                    await client.fetch(ENDPOINT, decode_resources)
                bundle.write_bytes((second / "server.pem").read_bytes())
                assert (await client.fetch(ENDPOINT, decode_resources)).value == DATASETS
        finally:
            await client.close()

    once = answer(body=DATASETS, headers={"Connection": "close"})
    with RawServer([once], tls=contexts[0]) as old:
        url = old.url
        asyncio.run(asyncio.wait_for(run(old), 60))


def keyed(request: Any) -> Any:
    good = request.headers["authorization"] == "Bearer new-key"
    return answer(body=DATASETS) if good else answer(401)


class Configurations:
    """The ``look_up`` of a client: a configuration, and another one after a 401."""

    def __init__(self, url: str, *keys: str) -> None:
        self.all = [ClientConfig(conn_id="faraday_default", api_key=key, base_url=url) for key in keys]
        self.rejected: list[ClientConfig] = []

    async def __call__(self, rejected: ClientConfig | None) -> ClientConfig:
        if rejected:
            self.rejected.append(rejected)
            assert rejected is self.all.pop(0)
        return self.all[0]


@pytest.mark.parametrize(("newer", "sent"), [("new-key", 3), ("old-key", 1), ("other-key", 2)])
def test_a_401_is_raised_unless_a_newer_key_is_accepted(newer: str, sent: int) -> None:
    async def run(look_up: Configurations) -> None:
        client = AiohttpClient(look_up)
        try:
            for _ in range(2):
                assert (await client.fetch(ENDPOINT, decode_resources)).value == DATASETS
        finally:
            await client.close()

    with RawServer(keyed) as server:
        look_up = Configurations(server.url, "old-key", newer)
        with nullcontext() if newer == "new-key" else pytest.raises(FaradayAuthenticationError):
            asyncio.run(run(look_up))
        assert len(server.received) == sent
        assert [each.api_key for each in look_up.rejected] == ["old-key"]


def test_closes_the_old_tcp_connection_when_its_last_request_has_ended() -> None:
    arrived, slow = threading.Event(), threading.Event()

    def step(request: Any) -> Any:
        if request.headers["authorization"] == "Bearer old-key":
            arrived.set()
            slow.wait(10)
        return answer(body=DATASETS)

    async def run(url: str) -> None:
        configs = [ClientConfig(conn_id="x", api_key=key, base_url=url) for key in ("old-key", "new-key")]
        client = AiohttpClient(lambda rejected: asyncio.sleep(0, configs[0]))
        old = asyncio.create_task(client.fetch(ENDPOINT, decode_resources))
        await asyncio.to_thread(arrived.wait, 10)
        session = client._session
        assert session is not None
        configs.pop(0)
        assert (await client.fetch(ENDPOINT, decode_resources)).value == DATASETS
        assert not session._session.closed
        slow.set()
        assert (await old).value == DATASETS
        assert session._session.closed
        await client.close()

    with RawServer(step) as server:
        asyncio.run(asyncio.wait_for(run(server.url), 60))
        assert server.connections == 2


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
    with pytest.raises(FaradayTransportError, match=r"/no/such/bundle\.pem: No such file"):
        fetch("https://127.0.0.1:9/v1", max_attempts=1)
