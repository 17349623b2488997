"""AiohttpTransport: in the triggerer, every fault ends as it does on a worker."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import threading
import time
import traceback
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
    FaradayNotFoundError,
    FaradayResponseError,
)
from airflow_provider_faraday.hooks.aiohttp_transport import AiohttpTransport
from faults import DATASETS, ID, PATH, TRANSIENT, WRONG_SHAPES, error_body
from raw_server import RawServer, answer, drip

KEY = "k3y-of-the-account"


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


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_transient_fault_is_retried_and_healed(fault: str) -> None:
    with RawServer([TRANSIENT[fault], answer(body=DATASETS)]) as server:
        assert fetch(server.url, timeout=0.3) == DATASETS
        assert len(server.received) == 2


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_lasting_fault_ends_after_max_attempts_in_an_error_that_counts_them(fault: str) -> None:
    with RawServer([TRANSIENT[fault]]) as server:
        with pytest.raises(FaradayApiError, match=r"\(Tried 2 times\.\)$"):
            fetch(server.url, timeout=0.3, max_attempts=2)
        assert len(server.received) == 2


@pytest.mark.parametrize("decode", [dataset_list, dataset_states])
@pytest.mark.parametrize("shape", WRONG_SHAPES)
def test_json_of_another_shape_is_an_error_that_shows_it(shape: str, decode: Any) -> None:
    with RawServer([answer(body=WRONG_SHAPES[shape])]) as server:
        with pytest.raises(
            FaradayResponseError, match=r"cannot be read, .*: \d+ bytes of application/json, '"
        ):
            fetch(server.url, decode=decode)
        assert len(server.received) == 1


def test_an_error_reads_as_it_does_on_a_worker() -> None:
    with RawServer([answer(404, error_body("NOT_FOUND", "No such connection."))]) as server:
        with pytest.raises(FaradayNotFoundError, match=f"404 NOT_FOUND to GET {PATH}: No such connection"):
            fetch(server.url)


def test_a_refused_connection_names_the_server_and_was_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FaradayConnectionError, match=f"came from http://127.0.0.1:{port}") as caught:
        fetch(f"http://127.0.0.1:{port}", max_attempts=1)
    assert caught.value.request_sent is False


def test_the_key_is_in_no_error_and_no_exception_holds_the_request() -> None:
    with RawServer([answer(200, f"echo {KEY}".encode())]) as server:
        with pytest.raises(FaradayResponseError) as caught:
            fetch(server.url, max_attempts=1)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    error: BaseException | None = caught.value
    while error is not None:
        assert not hasattr(error, "request_info")
        error = error.__cause__ or error.__context__


def test_a_body_that_trickles_in_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_faraday.api.config.BODY_TIMEOUTS", 2)
    started = time.monotonic()
    with RawServer([drip(b"[" + b" " * 500 + b"]", 0.05)]) as server:
        with pytest.raises(FaradayConnectionError, match="took longer than"):
            fetch(server.url, timeout=0.3, max_attempts=1)
    assert time.monotonic() - started < 5


def test_a_body_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_faraday.api.responses.MAX_BODY_BYTES", 1_000_000)
    bomb = answer(body=gzip.compress(b" " * 20_000_000), headers={"Content-Encoding": "gzip"})
    with (
        RawServer([bomb]) as server,
        pytest.raises(FaradayConnectionError, match="larger than 1,000,000 bytes"),
    ):
        fetch(server.url, max_attempts=1)


def test_a_day_long_retry_after_ends_the_call() -> None:
    with RawServer([answer(429, error_body("X", "slow down"), headers={"Retry-After": "86400"})]) as server:
        with pytest.raises(FaradayApiError, match="It asks to wait 86400 seconds"):
            fetch(server.url)
        assert len(server.received) == 1


def test_next_links_are_followed_and_other_origins_refused() -> None:
    first = answer(body=[{"id": "a"}], headers={"Link": f'</v1{PATH}?offset=1>; rel="next"'})
    with RawServer([first, answer(body=[{"id": "b"}])]) as server:
        assert fetch(server.url) == [{"id": "a"}, {"id": "b"}]
    for step in (
        answer(body=[], headers={"Link": '<http://localhost:9/x>; rel="next"'}),
        answer(302, headers={"Location": "http://localhost:9/x"}),
        answer(302, headers={"Location": "http://[bad/"}),
    ):
        with RawServer([step]) as server, pytest.raises(FaradayResponseError, match="not followed"):
            fetch(server.url)


def test_a_next_link_in_a_second_or_a_wide_header_is_followed() -> None:
    two = f'</v1{PATH}>; rel="first"\r\nLink: </v1{PATH}?offset=1>; rel="next"'
    wide = f'</v1{PATH}?pad={"x" * 9000}>; rel="last", </v1{PATH}?offset=1>; rel="next"'
    for link in (two, wide):
        with RawServer(
            [answer(body=[{"id": "a"}], headers={"Link": link}), answer(body=[{"id": "b"}])]
        ) as server:
            assert fetch(server.url) == [{"id": "a"}, {"id": "b"}]


def test_a_head_that_trickles_in_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_faraday.api.config.BODY_TIMEOUTS", 2)

    def step(connection: socket.socket, request: Any) -> None:
        for _ in range(100):
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
            threading.Event().wait(0.1)

    started = time.monotonic()
    with RawServer([step]) as server, pytest.raises(FaradayConnectionError, match="took longer than"):
        fetch(server.url, timeout=0.3, max_attempts=1)
    assert time.monotonic() - started < 5


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
