"""FaradayHook: what it sends, what it gives back, and what it says when something is wrong."""

from __future__ import annotations

import base64
import gzip
import html
import json
import logging
import pickle
import socket
import ssl
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
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
from faults import DATASETS, ERROR_ID, ID, PATH, TRANSIENT, WRONG_SHAPES, error_body
from raw_server import RawServer, answer, drip, reset, stall

KEY = "k3y-of-the-account"

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


@pytest.mark.parametrize("status", [301, 304, 400, 401, 403, 404, 405, 409, 410, 422, 451, 501])
def test_answers_that_asking_again_cannot_mend_are_not_asked_for_again(
    connect: SetConnection, status: int
) -> None:
    with RawServer([answer(status, error_body("X", "no"))]) as server:
        with pytest.raises(FaradayApiError) as caught:
            connect(server.url).list_connection_datasets(ID)
        assert caught.value.status_code == status
        assert len(server.received) == 1


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html><h1>Bad gateway</h1></html>", "text/html"),
        (b"upstream failed", "text/plain"),
        (b"", "text/plain"),
        (b"\xff\xfe\x00", "application/octet-stream"),
        (b'["a list"]', "application/json"),
        (b'{"error": 5, "note": null, "id": [], "validationErrors": "x"}', "application/json"),
        (b"[" * 100_000, "application/json"),
    ],
)
def test_error_bodies_of_any_kind_become_an_error(
    connect: SetConnection, body: bytes, content_type: str
) -> None:
    with RawServer([answer(403, body, headers={"Content-Type": content_type})]) as server:
        with pytest.raises(FaradayApiError, match="Faraday answered 403 Forbidden to GET") as caught:
            connect(server.url).list_connection_datasets(ID)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("status", [200, 401, 500])
def test_the_key_is_in_no_error_though_a_body_echoes_it(
    connect: SetConnection, status: int, no_waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    escaped = "".join(f"\\u{ord(c):04x}" for c in KEY)
    note = f'"note": "your key {KEY} is bad", "id": "{KEY}", "error": "{escaped}"'
    body = f'{{{note}, "validationErrors": [{{"path": "{KEY}", "message": "{escaped}"}}]}}'.encode()
    with caplog.at_level(logging.DEBUG), RawServer([answer(status, body)]) as server:
        with pytest.raises(FaradayApiError) as caught:
            connect(server.url, max_attempts=2).list_connection_datasets(ID)
    told = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value)) + caplog.text
    assert KEY not in told
    assert escaped not in told or status == 200
    assert "***" in told


def test_no_exception_in_the_chain_holds_the_request_with_its_headers(
    connect: SetConnection, no_waits: list[float]
) -> None:
    with RawServer([reset]) as server, pytest.raises(FaradayConnectionError) as caught:
        connect(server.url).list_connection_datasets(ID)
    error: BaseException | None = caught.value
    while error is not None:
        assert not hasattr(error, "request")
        error = error.__cause__ or error.__context__


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


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_transient_fault_is_retried_and_healed(
    connect: SetConnection, fault: str, no_waits: list[float]
) -> None:
    with RawServer([TRANSIENT[fault], TRANSIENT[fault], answer(body=DATASETS)]) as server:
        assert connect(server.url, timeout=0.3).list_connection_datasets(ID) == DATASETS
        assert len(server.received) == 3
    assert len(no_waits) == 2
    assert 0.5 <= no_waits[0] <= 1.0
    assert 1.0 <= no_waits[1] <= 1.5


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_lasting_fault_ends_after_max_attempts_in_an_error_that_counts_them(
    connect: SetConnection, fault: str, no_waits: list[float]
) -> None:
    with RawServer([TRANSIENT[fault]]) as server:
        with pytest.raises(FaradayApiError, match=r"\(Tried 3 times\.\)$"):
            connect(server.url, timeout=0.3, max_attempts=3).list_connection_datasets(ID)
        assert len(server.received) == 3


def test_a_refused_connection_is_retried_and_names_the_server(
    connect: SetConnection, no_waits: list[float]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FaradayConnectionError, match=f"came from http://127.0.0.1:{port}: .*Tried 5 times"):
        connect(f"http://127.0.0.1:{port}").list_connection_datasets(ID)
    assert len(no_waits) == 4


def test_a_body_that_trickles_in_for_ever_is_given_up(
    connect: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_faraday.api.config.BODY_TIMEOUTS", 2)
    started = time.monotonic()
    with RawServer([drip(b"[" + b" " * 500 + b"]", 0.05)]) as server:
        with pytest.raises(FaradayConnectionError, match="took longer than"):
            connect(server.url, timeout=0.3, max_attempts=1).list_connection_datasets(ID)
    assert time.monotonic() - started < 5


def test_a_body_without_end_is_given_up(connect: SetConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_faraday.api.responses.MAX_BODY_BYTES", 1_000_000)
    bomb = answer(body=gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"})
    with (
        RawServer([bomb]) as server,
        pytest.raises(FaradayConnectionError, match="larger than 1,000,000 bytes"),
    ):
        connect(server.url, max_attempts=1).list_connection_datasets(ID)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(connect: SetConnection, no_waits: list[float], form: str) -> None:
    # The server's clock is an hour ahead: a date counts from the answer's own Date.
    now = datetime.now(UTC) + timedelta(hours=1)
    value = "20" if form == "seconds" else format_datetime(now + timedelta(seconds=20), usegmt=True)
    headers = {"Retry-After": value, "Date": format_datetime(now, usegmt=True)}
    with RawServer(
        [answer(429, error_body("X", "slow down"), headers=headers), answer(body=DATASETS)]
    ) as server:
        assert connect(server.url).list_connection_datasets(ID) == DATASETS
    assert no_waits == [20.0]


@pytest.mark.parametrize("value", ["soon", "-5", "", "0", "1e9", "²", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_retry_after_that_says_nothing_leaves_the_usual_wait(
    connect: SetConnection, no_waits: list[float], value: str
) -> None:
    busy = answer(503, error_body("X", "busy"), headers={"Retry-After": value.encode().decode("latin-1")})
    with RawServer([busy, answer(body=DATASETS)]) as server:
        assert connect(server.url).list_connection_datasets(ID) == DATASETS
    assert len(no_waits) == 1
    assert no_waits[0] <= 1.0


@pytest.mark.parametrize("value", ["86400", "9" * 400, "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_day_long_retry_after_ends_the_call_and_says_so(
    connect: SetConnection, no_waits: list[float], value: str
) -> None:
    with RawServer([answer(429, error_body("X", "slow down"), headers={"Retry-After": value})]) as server:
        with pytest.raises(FaradayApiError, match=r"It asks to wait \d+ seconds before the next request"):
            connect(server.url).list_connection_datasets(ID)
        assert len(server.received) == 1
    assert no_waits == []


@pytest.mark.parametrize("fault", ["reset", "closed", "500", "503", "stalled head"])
def test_a_post_that_may_have_been_taken_is_not_sent_again(
    connect: SetConnection, fault: str, no_waits: list[float]
) -> None:
    with RawServer([TRANSIENT[fault]]) as server:
        with pytest.raises(FaradayApiError):
            connect(server.url, timeout=0.3).force_update_dataset(ID)
        assert len(server.received) == 1


def test_a_post_that_cannot_have_been_taken_is_sent_again(
    connect: SetConnection, no_waits: list[float]
) -> None:
    with RawServer([TRANSIENT["429"], answer(204)]) as server:
        connect(server.url).force_update_dataset(ID)
        assert len(server.received) == 2
    with pytest.raises(FaradayConnectionError, match="Tried 5 times"):
        connect("http://127.0.0.1:9").force_update_dataset(ID)


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
    with RawServer([TRANSIENT["closed"]]) as proxy:
        hook = connect("http://faraday.test", proxy=f"http://127.0.0.1:{proxy.port}", allow_http=True)
        with pytest.raises(FaradayConnectionError):
            hook.force_update_dataset(ID)
        assert len(proxy.received) == 1


# Answers of the wrong shape


@pytest.mark.parametrize("shape", WRONG_SHAPES)
def test_json_of_another_shape_is_an_error_that_shows_it(connect: SetConnection, shape: str) -> None:
    with RawServer([answer(body=WRONG_SHAPES[shape])]) as server:
        with pytest.raises(
            FaradayResponseError, match=r"cannot be read, .*: \d+ bytes of application/json, '"
        ):
            connect(server.url).list_connection_datasets(ID)
        assert len(server.received) == 1


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


def test_next_links_in_a_circle_are_an_error(connect: SetConnection) -> None:
    pages = [page("a", f'</v1{PATH}?offset=1>; rel="next"'), page("b", f'</v1{PATH}>; rel="next"')]
    with (
        RawServer(pages) as server,
        pytest.raises(FaradayResponseError, match="leads back to a page already read"),
    ):
        connect(server.url).list_connection_datasets(ID)


def test_next_links_without_end_are_an_error(connect: SetConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_faraday.api.responses.MAX_REQUESTS", 20)
    with RawServer(lambda r: page("a", f'<{r.target}x?>; rel="next"')) as server:
        with pytest.raises(FaradayResponseError, match="does not end, after 20 requests"):
            connect(server.url).list_connection_datasets(ID)
        assert len(server.received) == 20


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:{port}/v1/x",
        "https://127.0.0.1:{port}/v1/x",
        "//evil.example/x",
        "http://[bad/",
        "ftp:x",
    ],
)
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


def test_redirects_in_a_circle_are_an_error(connect: SetConnection) -> None:
    with RawServer([answer(302, headers={"Location": f"/v1{PATH}"})]) as server:
        with pytest.raises(FaradayResponseError, match="leads back"):
            connect(server.url).list_connection_datasets(ID)
        assert len(server.received) == 1


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
