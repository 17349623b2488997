"""FaradayHook and its Airflow connection: get_conn, a rotated key, proxies, and the Test button."""

from __future__ import annotations

import re
import socket
import ssl
import traceback
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_faraday.exceptions import FaradayAuthenticationError, FaradayTransportError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from raw_server import RawServer, answer, stall
from support.clients import DATASETS, ID, KEY, PATH, error_body

pytestmark = pytest.mark.usefixtures("no_backoff")

SetConnection = Callable[..., FaradayHook]


def test_get_conn_sends_the_key_to_faraday_only(connect: SetConnection) -> None:
    with RawServer([answer(body=[])]) as elsewhere:
        moved = answer(302, headers={"Location": f"{elsewhere.url}/stolen"})
        with RawServer([moved]) as server:
            session = connect(server.url).get_conn()
            assert isinstance(session, requests.Session)
            session.get(f"{server.url}/graph")
            session.get(f"{elsewhere.url}/graph")
            assert server.received[0].headers["authorization"] == f"Bearer {KEY}"
            assert elsewhere.targets == ["/v1/stolen", "/v1/graph"]
            assert not any("authorization" in each.headers for each in elsewhere.received)
            assert KEY not in repr(session.headers) + repr(session.auth)


def test_get_conn_uses_the_timeout_of_the_airflow_connection(connect: SetConnection) -> None:
    with RawServer([stall(30)]) as server, pytest.raises(requests.ReadTimeout):
        connect(server.url, timeout=0.2).get_conn().get(f"{server.url}/graph")


def test_the_proxy_and_verify_of_the_airflow_connection_override_the_environment(
    connect: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer([answer(body=DATASETS)]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
        url = f"http://127.0.0.1:{proxy.port}"
        hook = connect("http://faraday.test", proxy=url, allow_http=True, verify=False)
        assert hook.list_connection_datasets(ID) == DATASETS
        assert proxy.targets == [f"http://faraday.test/v1{PATH}"]
        settings = hook.get_conn().merge_environment_settings("https://faraday.test", {}, None, None, None)
        assert settings["verify"] is False


def test_a_post_is_not_resent_after_a_tls_error_in_the_response(
    connect: SetConnection, self_signed: ssl.SSLContext
) -> None:
    def garbage(connection: ssl.SSLSocket, request: Any) -> None:
        with socket.socket(fileno=connection.detach()) as plain:
            plain.sendall(b"HTTP/1.1 500 no TLS at all\r\n\r\n" * 20)

    with RawServer([garbage], tls=self_signed) as server:
        with pytest.raises(FaradayTransportError):
            connect(server.url, verify=False).force_update_dataset(ID)
        assert len(server.received) == 1


def test_an_airflow_connection_that_was_moved_is_followed_after_a_401(connect: SetConnection) -> None:
    with RawServer([answer(401)]) as old, RawServer([answer(body=DATASETS)]) as new:
        hook = connect(old.url)
        session = hook.get_conn()
        with pytest.raises(FaradayAuthenticationError):
            hook.list_connection_datasets(ID)
        assert len(old.received) == 1, "a rejected key was sent again"
        connect(new.url)
        assert hook.list_connection_datasets(ID) == DATASETS
        assert (len(old.received), len(new.received)) == (2, 1)
        assert hook.get_conn() is not session


def test_a_401_is_raised_if_the_airflow_connection_cannot_be_looked_up(
    connect: SetConnection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer([answer(401)]) as server:
        hook = connect(server.url)
        hook.get_conn()
        monkeypatch.setattr(hook, "get_connection", Mock(side_effect=RuntimeError("s3cret was rejected")))
        with pytest.raises(FaradayAuthenticationError) as caught:
            hook.list_connection_datasets(ID)
        assert len(server.received) == 1
    assert "'faraday_default' could not be looked up: RuntimeError" in caplog.text
    assert "s3cret" not in caplog.text + "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("status", "body", "accepted", "says"),
    [
        (200, {"id": ID, "name": "Acme", "api_key": "another-secret"}, True, "Faraday accepts the API key."),
        (200, {"api_key": "another-secret"}, False, "Faraday returned 200, but the response"),
        (200, b"<html>log in</html>", False, "Faraday returned 200, but the response"),
        (401, error_body("MALFORMED_API_KEY", "The key is malformed."), False, "401 MALFORMED_API_KEY"),
        (500, {"id": ID, "api_key": "another-secret"}, False, "500"),
    ],
)
def test_the_connection_test_requires_an_account_and_does_not_show_it(
    connect: SetConnection, status: int, body: Any, accepted: bool, says: str
) -> None:
    with RawServer([answer(status, body)]) as server:
        ok, message = connect(server.url).test_connection()
    assert ok is accepted
    assert says in message
    assert not re.search("another-secret|Acme", message)
    assert server.targets[0] == "/v1/accounts/current"


def test_the_connection_test_reports_an_invalid_or_missing_airflow_connection(
    connect: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok, message = connect("http://plain.example").test_connection()
    assert not ok
    assert "plain http" in message
    missing = AirflowNotFoundException("The conn_id `faraday_default` isn't defined")
    monkeypatch.setattr(FaradayHook, "get_connection", Mock(side_effect=missing))
    ok, message = FaradayHook().test_connection()
    assert not ok
    assert "`faraday_default` isn't defined" in message
