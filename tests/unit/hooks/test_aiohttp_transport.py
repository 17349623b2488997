"""AiohttpTransport: one connection, certificates, proxies; its faults are in test_faults.py."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_faraday.api import calls
from airflow_provider_faraday.api.config import ClientConfig
from airflow_provider_faraday.api.responses import dataset_list, dataset_states
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayConfigurationError,
    FaradayConnectionError,
)
from airflow_provider_faraday.hooks.aiohttp_transport import AiohttpTransport
from faults import DATASETS, ID, KEY, PATH
from raw_server import RawServer, answer


def fetch(url: str, *, times: int = 1, decode: Callable[..., Any] = dataset_list, **fields: Any) -> Any:
    """List a connection's datasets, some times over one transport, and give what came last."""
    if "timeout" in fields:
        fields["connect_seconds"] = fields["read_seconds"] = fields.pop("timeout")
    config = ClientConfig(conn_id="faraday_default", api_key=KEY, base_url=url, **fields)

    async def run() -> Any:
        transport = AiohttpTransport(config, keep_alive=60)
        try:
            for _ in range(times):
                items = await transport.fetch(calls.connection_datasets(ID), decode)
            return items
        finally:
            await transport.close()

    return asyncio.run(asyncio.wait_for(run(), 20))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_faraday.api.retries._backoff", lambda state: 0.01)


def test_datasets_come_back_over_one_tcp_connection_with_the_key() -> None:
    with RawServer([answer(body=DATASETS)]) as server:
        assert fetch(server.url, times=3) == DATASETS
        assert server.connections == 1
        assert {r.headers["authorization"] for r in server.received} == {f"Bearer {KEY}"}
        assert server.received[0].headers["user-agent"].startswith("airflow-provider-faraday/")


def test_the_few_fields_of_readiness_can_be_decoded_alone() -> None:
    with RawServer([answer(body=DATASETS)]) as server:
        (state,) = fetch(server.url, decode=dataset_states)
        assert (state.id, state.name, state.status) == (ID, "orders", "ready")


def test_a_next_link_in_a_second_or_a_wide_header_is_followed() -> None:
    two = f'</v1{PATH}>; rel="first"\r\nLink: </v1{PATH}?offset=1>; rel="next"'
    wide = f'</v1{PATH}?pad={"x" * 9000}>; rel="last", </v1{PATH}?offset=1>; rel="next"'
    for link in (two, wide):
        with RawServer(
            [answer(body=[{"id": "a"}], headers={"Link": link}), answer(body=[{"id": "b"}])]
        ) as server:
            assert fetch(server.url) == [{"id": "a"}, {"id": "b"}]


def test_a_redirect_on_the_same_origin_is_followed_with_the_key() -> None:
    with RawServer([answer(307, headers={"Location": f"/v2{PATH}"}), answer(body=DATASETS)]) as server:
        assert fetch(server.url) == DATASETS
        assert [r.headers["authorization"] for r in server.received] == [f"Bearer {KEY}"] * 2


def test_certificates_are_checked_unless_told_otherwise(self_signed: ssl.SSLContext, tmp_path: Path) -> None:
    with RawServer([answer(body=DATASETS)], tls=self_signed) as server:
        with pytest.raises(FaradayConnectionError, match=r"certificate verify failed.*'verify'") as caught:
            fetch(server.url, max_attempts=1)
        assert caught.value.request_sent is False
        assert fetch(server.url, verify=False) == DATASETS
        assert fetch(server.url, verify=str(tmp_path / "server.pem")) == DATASETS


@pytest.mark.parametrize("how", ["extra", "environment"])
def test_a_proxy_is_used(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer([answer(body=DATASETS)]) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        if how == "environment":
            monkeypatch.setenv("http_proxy", url)
        assert fetch("http://faraday.test/v1", proxy=url if how == "extra" else None) == DATASETS
        assert proxy.targets == [f"http://faraday.test/v1{PATH}"]
    if how == "environment":
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with RawServer([answer(body=DATASETS)]) as server:
            assert fetch(server.url) == DATASETS


def test_a_proxy_of_the_environment_may_lack_a_scheme_and_its_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with RawServer([answer(407, b"no", headers={"Proxy-Authenticate": "Basic"})]) as proxy:
        monkeypatch.setenv("https_proxy", f"user:hidden-pw@127.0.0.1:{proxy.port}")
        with pytest.raises(FaradayApiError) as caught:
            fetch("https://faraday.test/v1", max_attempts=1)
        assert len(proxy.received) == 1
        assert "hidden-pw" not in str(caught.value)


def test_a_netrc_file_never_replaces_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer([answer(body=DATASETS)]) as server:
        fetch(server.url)
        assert server.received[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_host_that_is_no_host_is_a_configuration_error() -> None:
    with pytest.raises((FaradayConfigurationError, FaradayConnectionError)):
        fetch(f"http://{'a' * 70}.test/v1", max_attempts=1)
