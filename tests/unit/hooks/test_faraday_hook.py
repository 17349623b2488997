"""FaradayHook: what it sends, what it gives back, and what it says when something is wrong."""

from __future__ import annotations

import base64
import html
import json
import pickle
import socket
import ssl
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
import requests
import requests_mock

from airflow_provider_faraday import __version__
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayConfigurationError,
    FaradayConnectionError,
    FaradayInputError,
    FaradayNotFoundError,
    FaradayResponseError,
)
from airflow_provider_faraday.hooks.faraday import FaradayHook
from faults import DATASETS, ERROR_ID, ID, KEY, PATH, error_body
from raw_server import RawServer, answer, raw, reset, stall

SetConnection = Callable[..., FaradayHook]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """Give a hook whose Airflow connection has this host and these extras."""

    def set_connection(host: str | None = None, *, password: str = KEY, **extra: Any) -> FaradayHook:
        fields = {"conn_type": "faraday", "password": password, "host": host, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(fields))
        return FaradayHook()

    return set_connection


@pytest.fixture
def mocked() -> Iterator[requests_mock.Mocker]:
    with requests_mock.Mocker() as mocker:
        yield mocker


# What it asks for and gives back


def test_a_connections_datasets_come_back_with_every_field(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    mocked.get(f"https://api.faraday.ai/v1{PATH}", json=DATASETS)
    assert connect().list_connection_datasets(ID) == DATASETS
    (request,) = mocked.request_history
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["User-Agent"].startswith(f"airflow-provider-faraday/{__version__} apache-airflow/")


def test_a_scopes_datasets_and_one_dataset_come_from_their_endpoints(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    mocked.get(f"https://api.faraday.ai/v1/scopes/{ID}/datasets", json=DATASETS)
    mocked.get(f"https://api.faraday.ai/v1/datasets/{ID}", json=DATASETS[0])
    hook = connect()
    assert hook.list_scope_datasets(ID) == DATASETS
    assert hook.get_dataset(ID) == DATASETS[0]


def test_datasets_are_listed_whole_or_by_id_in_batches(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    mocked.get("https://api.faraday.ai/v1/datasets", json=DATASETS)
    hook = connect()
    assert hook.list_datasets() == DATASETS
    assert hook.list_datasets(ids=[]) == []
    assert mocked.call_count == 1
    assert hook.list_datasets(ids=[str(uuid.UUID(int=n)) for n in range(101)]) == DATASETS * 2
    assert [len(request.qs.get("ids", [])) for request in mocked.request_history] == [0, 100, 1]


@pytest.mark.parametrize("date", ["", "soon", "Fri, 31 Dec 9999 23:59:59 -1200"])
def test_a_date_that_cannot_be_read_is_none(
    connect: SetConnection, mocked: requests_mock.Mocker, date: str
) -> None:
    mocked.post(requests_mock.ANY, status_code=204, headers={"Date": date})
    assert connect().force_update_dataset(ID) is None


def test_a_force_update_is_posted(connect: SetConnection, mocked: requests_mock.Mocker) -> None:
    mocked.post(
        f"https://api.faraday.ai/v1/datasets/{ID}/force_update",
        status_code=204,
        headers={"Date": "Sun, 06 Nov 1994 08:49:37 GMT"},
    )
    taken_at = connect().force_update_dataset(ID)
    assert taken_at == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
    assert mocked.call_count == 1


def test_a_wrong_id_is_refused_before_anything_is_sent(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    with pytest.raises(FaradayInputError, match="connection_id must be the UUID"):
        connect().list_connection_datasets("../accounts/current")
    assert mocked.call_count == 0


def test_one_session_serves_all_calls_over_one_tcp_connection(connect: SetConnection) -> None:
    with RawServer([answer(body=DATASETS)]) as server:
        hook = connect(server.url)
        for _ in range(3):
            hook.list_connection_datasets(ID)
        assert len(server.received) == 3
        assert server.connections == 1


# get_conn


def test_get_conn_authenticates_requests_to_faraday_and_to_nobody_else(connect: SetConnection) -> None:
    with RawServer([answer(body=[])]) as server, RawServer([answer(body=[])]) as elsewhere:
        session = connect(server.url).get_conn()
        assert isinstance(session, requests.Session)
        session.get(f"{server.url}/graph")
        session.get(f"{elsewhere.url}/graph")
        assert server.received[0].headers["authorization"] == f"Bearer {KEY}"
        assert "authorization" not in elsewhere.received[0].headers
        assert KEY not in repr(session.headers) + repr(session.auth)


def test_get_conn_loses_the_key_on_a_redirect_to_another_origin(connect: SetConnection) -> None:
    with RawServer([answer(body=[])]) as elsewhere:
        moved = answer(302, headers={"Location": f"{elsewhere.url}/stolen"})
        with RawServer([moved]) as server:
            connect(server.url).get_conn().get(f"{server.url}/graph")
            assert "authorization" in server.received[0].headers
            assert elsewhere.targets == ["/v1/stolen"]
            assert "authorization" not in elsewhere.received[0].headers


def test_get_conn_has_the_connections_timeout(connect: SetConnection) -> None:
    with RawServer([stall(5)]) as server, pytest.raises(requests.ReadTimeout):
        connect(server.url, timeout=0.2).get_conn().get(f"{server.url}/graph")


def test_the_connections_own_proxy_and_certificates_win_over_the_environment(
    connect: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer([answer(body=DATASETS)]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
        hook = connect(
            "http://faraday.test", proxy=f"http://127.0.0.1:{proxy.port}", allow_http=True, verify=False
        )
        assert hook.list_connection_datasets(ID) == DATASETS
        assert proxy.targets == [f"http://faraday.test/v1{PATH}"]
        settings = hook.get_conn().merge_environment_settings("https://faraday.test", {}, None, None, None)
        assert settings["verify"] is False


# Errors


def test_an_error_reads_as_a_sentence_and_carries_its_parts(connect: SetConnection) -> None:
    body = error_body("EXPIRED_API_KEY", "The supplied API key has expired.")
    with RawServer([answer(401, body)]) as server, pytest.raises(FaradayAuthenticationError) as caught:
        connect(server.url).list_connection_datasets(ID)
    error = caught.value
    assert str(error) == (
        f"Faraday answered 401 EXPIRED_API_KEY to GET {PATH}: The supplied API key has expired. "
        "Put a new key in the password of Airflow connection 'faraday_default' "
        f"(Faraday error id {ERROR_ID})."
    )
    assert (error.status_code, error.error_code, error.error_id) == (401, "EXPIRED_API_KEY", ERROR_ID)
    assert (error.note, error.method, error.path) == ("The supplied API key has expired.", "GET", PATH)


def test_validation_errors_are_carried_and_said(connect: SetConnection) -> None:
    invalid = [
        {"path": "ids", "message": "too many", "suggestion": "ask for fewer", "context": {"errorType": "x"}}
    ]
    body = error_body("VALIDATION_FAILED", "Bad input", validationErrors=invalid)
    with RawServer([answer(400, body)]) as server, pytest.raises(FaradayApiError) as caught:
        connect(server.url).list_connection_datasets(ID)
    assert caught.value.validation_errors == invalid
    assert "ids too many ask for fewer." in str(caught.value)


def test_an_error_survives_pickling(connect: SetConnection) -> None:
    with RawServer([answer(404, error_body("NOT_FOUND", "No such thing"))]) as server:
        with pytest.raises(FaradayNotFoundError) as caught:
            connect(server.url).list_connection_datasets(ID)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.error_id == ERROR_ID


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize(
    "form",
    [
        lambda key: key,
        lambda key: json.dumps(key),
        lambda key: "".join(f"\\u{ord(c):04X}" for c in key),
        lambda key: quote(key),
        lambda key: quote(key, safe="").lower(),
        html.escape,
        lambda key: base64.b64encode(key.encode()).decode(),
        lambda key: "\n" * 4071 + key,
        lambda key: " " * 65_520 + key,
    ],
)
def test_no_form_of_the_key_is_shown(connect: SetConnection, status: int, form: Any) -> None:
    key = 'a"b\\c/d+e=f&g<h-0123456789'
    step = answer(status, form(key).encode(), headers={"Content-Type": f"text/{key}"})
    with RawServer([step]) as server, pytest.raises(FaradayApiError) as caught:
        connect(server.url, password=key, max_attempts=1).list_connection_datasets(ID)
    told = str(caught.value)
    for part in (key[:12], "h-0123456", base64.b64encode(key.encode()).decode()[:12], "%2fd%2be", "%2Be"):
        assert part not in told


def test_an_error_is_one_line_that_can_be_stored_whatever_came_back(connect: SetConnection) -> None:
    step = answer(400, {"error": "X\n\x1b[31m", "note": "a\nb\ud800"}, headers={"Content-Type": "t/\xe9"})
    with RawServer([step]) as server, pytest.raises(FaradayApiError) as caught:
        connect(server.url).list_connection_datasets(ID)
    assert str(caught.value).isprintable()
    str(caught.value).encode()


# Retries


def test_the_pause_before_each_attempt_grows(connect: SetConnection, no_waits: list[float]) -> None:
    with RawServer([reset, reset, answer(body=DATASETS)]) as server:
        assert connect(server.url).list_connection_datasets(ID) == DATASETS
    assert len(no_waits) == 2
    assert 0.5 <= no_waits[0] <= 1.0
    assert 1.0 <= no_waits[1] <= 1.5


def test_a_refused_connection_is_retried_and_names_the_server(
    connect: SetConnection, no_waits: list[float]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FaradayConnectionError, match=f"came from http://127.0.0.1:{port}: .*Tried 5 times"):
        connect(f"http://127.0.0.1:{port}").list_connection_datasets(ID)
    assert len(no_waits) == 4


def test_a_post_whose_answer_is_no_tls_is_not_sent_again(
    connect: SetConnection, no_waits: list[float], self_signed: ssl.SSLContext
) -> None:
    def garbage(connection: ssl.SSLSocket, request: Any) -> None:
        with socket.socket(fileno=connection.detach()) as plain:
            plain.sendall(b"HTTP/1.1 500 no TLS at all\r\n\r\n" * 20)

    with RawServer([garbage], tls=self_signed) as server:
        with pytest.raises(FaradayConnectionError):
            connect(server.url, verify=False).force_update_dataset(ID)
        assert len(server.received) == 1


def test_a_post_that_a_proxy_took_is_not_sent_again(connect: SetConnection, no_waits: list[float]) -> None:
    with RawServer([raw(b"")]) as proxy:
        hook = connect("http://faraday.test", proxy=f"http://127.0.0.1:{proxy.port}", allow_http=True)
        with pytest.raises(FaradayConnectionError):
            hook.force_update_dataset(ID)
        assert len(proxy.received) == 1


# Answers of the wrong shape


def test_a_dataset_that_is_no_object_is_an_error(connect: SetConnection) -> None:
    with RawServer([answer(body=DATASETS)]) as server, pytest.raises(FaradayResponseError):
        connect(server.url).get_dataset(ID)


def test_a_long_wrong_answer_is_shown_shortened(connect: SetConnection) -> None:
    with (
        RawServer([answer(body={"x": "y" * 100_000})]) as server,
        pytest.raises(FaradayResponseError) as caught,
    ):
        connect(server.url).list_connection_datasets(ID)
    assert len(str(caught.value)) < 700


# Pages and redirects


def page(name: str, next_link: str | None = None) -> Any:
    return answer(body=[{"id": name}], headers={"Link": next_link} if next_link else None)


def test_next_links_are_followed_to_the_end(connect: SetConnection) -> None:
    pages = [
        page("a", f'</v1{PATH}?offset=1>; rel="next", <https://docs.example/>; rel="help"'),
        page("b", f"<{PATH.rsplit('/', 1)[1]}?offset=2>; rel=Next"),
        page(
            "c",
            f'<https://docs.example/>; title="a; rel=prev <b>"; rel="help", </v1{PATH}?q=a,b>; rel="x next"',
        ),
        page("d", '<https://elsewhere.example/>; rel="prev"'),
    ]
    with RawServer(pages) as server:
        datasets = connect(server.url).list_connection_datasets(ID)
        assert [dataset["id"] for dataset in datasets] == ["a", "b", "c", "d"]
        assert server.targets[1:] == [f"/v1{PATH}?{query}" for query in ("offset=1", "offset=2", "q=a,b")]


@pytest.mark.parametrize("target", ["http://localhost:{port}/v1/x", "https://127.0.0.1:{port}/v1/x"])
@pytest.mark.parametrize("how", ["next", "redirect"])
def test_another_origin_is_refused_and_never_asked(connect: SetConnection, target: str, how: str) -> None:
    with RawServer([answer(body=[])]) as elsewhere:
        url = target.format(port=elsewhere.port)
        step = page("a", f'<{url}>; rel="next"') if how == "next" else answer(307, headers={"Location": url})
        with RawServer([step]) as server:
            with pytest.raises(FaradayResponseError, match="not followed, so that the key stays"):
                connect(server.url).list_connection_datasets(ID)
            assert len(server.received) == 1
        assert elsewhere.received == []


def test_a_redirect_on_the_same_origin_is_followed_with_the_key(connect: SetConnection) -> None:
    with RawServer([answer(308, headers={"Location": f"/v2{PATH}"}), answer(body=DATASETS)]) as server:
        assert connect(server.url).list_connection_datasets(ID) == DATASETS
        assert [r.headers["authorization"] for r in server.received] == [f"Bearer {KEY}"] * 2


# A key that is replaced, and the Test button


def test_a_replaced_key_is_taken_up_after_a_401(connect: SetConnection) -> None:
    def step(request: Any) -> Any:
        good = request.headers["authorization"] == "Bearer new-key"
        return answer(body=DATASETS) if good else answer(401, error_body("EXPIRED_API_KEY", "Expired"))

    with RawServer(step) as server:
        hook = connect(server.url, password="old-key")
        with pytest.raises(FaradayAuthenticationError):
            hook.list_connection_datasets(ID)
        assert len(server.received) == 1
        connect(server.url, password="new-key")
        assert hook.list_connection_datasets(ID) == DATASETS
        assert len(server.received) == 3


def test_the_connection_test_tells_a_good_key(connect: SetConnection) -> None:
    with RawServer([answer(body={"id": ID, "name": "Acme", "api_key": "another-secret"})]) as server:
        ok, message = connect(server.url).test_connection()
        assert server.targets == ["/v1/accounts/current"]
    assert (ok, message) == (True, "Faraday accepts the key.")


def test_the_connection_test_tells_a_wrong_key_from_an_unreachable_host(
    connect: SetConnection, no_waits: list[float]
) -> None:
    with RawServer([answer(401, error_body("MALFORMED_API_KEY", "The key is malformed."))]) as server:
        ok, message = connect(server.url).test_connection()
    assert not ok
    assert "401 MALFORMED_API_KEY" in message
    ok, message = connect("http://127.0.0.1:9").test_connection()
    assert not ok
    assert "No whole answer" in message
    ok, message = connect("http://plain.example").test_connection()
    assert not ok
    assert "plain http" in message


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"", b"[]", b'"x"', b"{}"])
def test_the_connection_test_takes_only_an_account_for_an_answer(
    connect: SetConnection, body: bytes, no_waits: list[float]
) -> None:
    with RawServer([answer(200, body)]) as server:
        ok, message = connect(server.url).test_connection()
    assert not ok
    assert "cannot be read" in message


@pytest.mark.usefixtures("airflow_home")
def test_the_connection_test_says_that_there_is_no_such_connection() -> None:
    ok, message = FaradayHook("no_such_connection").test_connection()
    assert not ok
    assert "no_such_connection" in message


@pytest.mark.parametrize("status", [200, 500])
def test_the_connection_test_never_shows_the_account(
    connect: SetConnection, status: int, no_waits: list[float]
) -> None:
    with RawServer([answer(status, {"id": ID, "api_key": "another-secret"})]) as server:
        _, message = connect(server.url).test_connection()
    assert "another-secret" not in message


def test_a_certificate_that_nobody_vouches_for_is_an_error_with_advice(
    connect: SetConnection, no_waits: list[float], self_signed: ssl.SSLContext
) -> None:
    with RawServer([answer(body=DATASETS)], tls=self_signed) as server:
        with pytest.raises(FaradayConnectionError, match=r"CERTIFICATE_VERIFY_FAILED.*'verify'") as caught:
            connect(server.url).list_connection_datasets(ID)
        assert caught.value.request_sent is False
        assert connect(server.url, verify=False).list_connection_datasets(ID) == DATASETS


def test_a_proxy_that_requests_cannot_use_is_a_configuration_error(connect: SetConnection) -> None:
    with pytest.raises(FaradayConfigurationError, match="proxy") as caught:
        connect("https://faraday.test", proxy="http://user:hidden@[::1").list_connection_datasets(ID)
    assert "hidden" not in str(caught.value)
