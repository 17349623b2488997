"""FaradayHook: what it sends, what it returns, and what its errors say."""

from __future__ import annotations

import json
import pickle
import socket
import ssl
import traceback
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
import requests_mock

from airflow_provider_faraday import __version__
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayConfigurationError,
    FaradayInputError,
    FaradayNotFoundError,
    FaradayResponseError,
    FaradayTransportError,
)
from airflow_provider_faraday.hooks.faraday import FaradayHook
from faults import DATASETS, ERROR_ID, ID, KEY, PATH, error_body
from raw_server import RawServer, after_body, answer, raw, reset, stall

pytestmark = pytest.mark.usefixtures("no_backoff")

SetConnection = Callable[..., FaradayHook]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """Return a hook whose Airflow connection has a host and extras."""

    def set_connection(host: str | None = None, *, password: str = KEY, **extra: Any) -> FaradayHook:
        fields = {"conn_type": "faraday", "password": password, "host": host, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_FARADAY_DEFAULT", json.dumps(fields))
        return FaradayHook()

    return set_connection


@pytest.fixture
def mocked() -> Iterator[requests_mock.Mocker]:
    with requests_mock.Mocker() as mocker:
        yield mocker


# Requests and results


def test_lists_the_datasets_of_a_connection_with_all_fields(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    mocked.get(f"https://api.faraday.ai/v1{PATH}", json=DATASETS)
    assert connect().list_connection_datasets(ID) == DATASETS
    (request,) = mocked.request_history
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["User-Agent"].startswith(f"airflow-provider-faraday/{__version__} apache-airflow/")


def test_gets_the_datasets_of_a_scope_and_a_single_dataset(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    mocked.get(f"https://api.faraday.ai/v1/scopes/{ID}/datasets", json=DATASETS)
    mocked.get(f"https://api.faraday.ai/v1/datasets/{ID}", json=DATASETS[0])
    hook = connect()
    assert hook.list_scope_datasets(ID) == DATASETS
    assert hook.get_dataset(ID) == DATASETS[0]


def test_lists_the_targets_of_a_connection_and_of_a_scope(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    target = {"id": ID, "name": "CSV", "options": {"type": "hosted_csv"}}
    mocked.get(f"https://api.faraday.ai/v1/connections/{ID}/targets", json=[target])
    mocked.get(f"https://api.faraday.ai/v1/scopes/{ID}/targets", json=[target, target])
    hook = connect()
    assert hook.list_connection_targets(ID) == [target]
    assert hook.list_scope_targets(ID) == [target, target]


def test_gets_the_graph_as_faraday_sent_it(connect: SetConnection, mocked: requests_mock.Mocker) -> None:
    edges = [{"upstream_id": ID, "upstream_type": "datasets", "downstream_id": ID, "brand_new": [1]}]
    mocked.get("https://api.faraday.ai/v1/graph", json=edges)
    assert connect().get_graph() == edges


@pytest.mark.parametrize("body", [{"edges": []}, ["a"], "a"])
def test_a_graph_in_an_unexpected_format_is_an_error(
    connect: SetConnection, mocked: requests_mock.Mocker, body: Any
) -> None:
    mocked.get("https://api.faraday.ai/v1/graph", json=body)
    with pytest.raises(FaradayResponseError, match="unexpected format"):
        connect().get_graph()


def test_lists_all_datasets_or_some_by_id_in_batches(
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
def test_a_force_update_without_a_valid_date_returns_none(
    connect: SetConnection, mocked: requests_mock.Mocker, date: str
) -> None:
    mocked.post(requests_mock.ANY, status_code=204, headers={"Date": date})
    assert connect().force_update_dataset(ID) is None


def test_a_force_update_returns_when_faraday_accepted_it(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    mocked.post(
        f"https://api.faraday.ai/v1/datasets/{ID}/force_update",
        status_code=204,
        headers={"Date": "Sun, 06 Nov 1994 08:49:37 GMT"},
    )
    accepted_at = connect().force_update_dataset(ID)
    assert accepted_at == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
    assert mocked.call_count == 1


def test_rejects_an_invalid_id_before_sending_anything(
    connect: SetConnection, mocked: requests_mock.Mocker
) -> None:
    with pytest.raises(FaradayInputError, match="connection_id must be the UUID"):
        connect().list_connection_datasets(ID[:-1])
    assert mocked.call_count == 0


def test_reuses_one_tcp_connection(connect: SetConnection) -> None:
    with RawServer([answer(body=DATASETS)]) as server:
        hook = connect(server.url)
        for _ in range(3):
            hook.list_connection_datasets(ID)
        assert len(server.received) == 3
        assert server.connections == 1


# get_conn


def test_get_conn_sends_the_key_to_faraday_only(connect: SetConnection) -> None:
    with RawServer([answer(body=[])]) as server, RawServer([answer(body=[])]) as elsewhere:
        session = connect(server.url).get_conn()
        assert isinstance(session, requests.Session)
        session.get(f"{server.url}/graph")
        session.get(f"{elsewhere.url}/graph")
        assert server.received[0].headers["authorization"] == f"Bearer {KEY}"
        assert "authorization" not in elsewhere.received[0].headers
        assert KEY not in repr(session.headers) + repr(session.auth)


def test_get_conn_drops_the_key_on_a_redirect_to_another_origin(connect: SetConnection) -> None:
    with RawServer([answer(body=[])]) as elsewhere:
        moved = answer(302, headers={"Location": f"{elsewhere.url}/stolen"})
        with RawServer([moved]) as server:
            connect(server.url).get_conn().get(f"{server.url}/graph")
            assert "authorization" in server.received[0].headers
            assert elsewhere.targets == ["/v1/stolen"]
            assert "authorization" not in elsewhere.received[0].headers


def test_get_conn_uses_the_timeout_of_the_airflow_connection(connect: SetConnection) -> None:
    with RawServer([stall(5)]) as server, pytest.raises(requests.ReadTimeout):
        connect(server.url, timeout=0.2).get_conn().get(f"{server.url}/graph")


def test_the_proxy_and_verify_of_the_airflow_connection_override_the_environment(
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


# request


def test_request_returns_the_response_of_any_endpoint(connect: SetConnection) -> None:
    with RawServer([answer(body=[{"id": ID}])]) as server:
        response = connect(server.url).request("get", "scopes", params={"limit": 5, "q": ["a b", "ö"]})
        assert isinstance(response, requests.Response)
        assert response.json() == [{"id": ID}]
        assert response.text == json.dumps([{"id": ID}])
        assert server.received[0].method == "GET"
        assert server.targets == ["/v1/scopes?limit=5&q=a+b&q=%C3%B6"]
        assert server.received[0].headers["authorization"] == f"Bearer {KEY}"


def test_request_sends_a_json_payload(connect: SetConnection, mocked: requests_mock.Mocker) -> None:
    mocked.patch("https://api.faraday.ai/v1/datasets/x", status_code=204)
    assert connect().request("PATCH", "/datasets/x", json={"name": "orders"}).status_code == 204
    assert mocked.last_request is not None
    assert mocked.last_request.json() == {"name": "orders"}


@pytest.mark.parametrize(
    ("method", "arguments", "content_type", "body"),
    [
        ("POST", {"json": {}}, "application/json", b"{}"),
        ("PATCH", {"json": {}}, "application/merge-patch+json", b"{}"),
        ("PATCH", {"data": "ö"}, "application/merge-patch+json", "ö".encode()),
        ("PATCH", {"json": {}, "headers": {"content-type": "a/b"}}, "a/b", b"{}"),
        ("POST", {"data": b"x", "headers": {"Content-Type": "a/b"}}, "a/b", b"x"),
    ],
)
def test_request_sends_a_payload_with_its_content_type(
    connect: SetConnection, method: str, arguments: Any, content_type: str, body: bytes
) -> None:
    bodies: list[bytes] = []
    steps = [after_body(answer(429), into=bodies), after_body(answer(body={}), into=bodies)]
    with RawServer(steps) as server:
        connect(server.url).request(method, "/datasets/x", **arguments)
    assert bodies == [body, body]
    assert [each.headers["content-type"] for each in server.received] == [content_type] * 2
    assert server.received[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "arguments",
    [
        {"headers": {"X": "a\nHost: evil.example"}},
        {"headers": {"X": 5}},
    ],
)
def test_request_rejects_invalid_headers(connect: SetConnection, arguments: Any) -> None:
    with RawServer([answer(body=[])]) as server:
        with pytest.raises(FaradayInputError, match="cannot be sent"):
            connect(server.url).request("POST", "/scopes", **arguments)
        assert not server.received


def test_request_list_follows_pages(connect: SetConnection) -> None:
    link = {"Link": '</v1/logs?limit=1&offset=1>; rel="next", </v1/logs>; rel="first"'}
    pages = [answer(body=[{"a": 1}], headers=link), answer(503), answer(body=[{"a": 2}])]
    with RawServer(pages) as server:
        assert connect(server.url).request_list("logs", params={"limit": 1}) == [{"a": 1}, {"a": 2}]
        assert server.targets == ["/v1/logs?limit=1", *["/v1/logs?limit=1&offset=1"] * 2]


def test_request_list_sends_the_key_to_faraday_only(connect: SetConnection) -> None:
    link = {"Link": '<https://evil.example/logs>; rel="next"'}
    with RawServer([answer(body=[], headers=link)]) as server:
        with pytest.raises(FaradayResponseError, match=r"evil\.example"):
            connect(server.url).request_list("/logs")
        with pytest.raises(FaradayInputError, match="path"):
            connect(server.url).request_list("https://evil.example/logs")


@pytest.mark.parametrize(
    "use",
    [
        lambda hook: hook.find_id("connections", "Warehouse"),
        lambda hook: hook.get_resource("connections", ID),
        lambda hook: hook.request_list("/webhook_endpoints"),
    ],
)
def test_errors_do_not_quote_bodies_that_may_hold_secrets(connect: SetConnection, use: Any) -> None:
    with RawServer([answer(body=b'[{"options": {"password": "letmein"}, "secret": "letmein"}')]) as server:
        with pytest.raises(FaradayResponseError) as caught:
            use(connect(server.url))
    assert "letmein" not in str(caught.value)


def test_request_retries_a_get(connect: SetConnection) -> None:
    steps = [answer(503), reset, answer(body=[])]
    with RawServer(steps) as server:
        assert connect(server.url).request("GET", "/scopes", params={"c": "d"}).json() == []
        assert server.targets == ["/v1/scopes?c=d"] * 3


@pytest.mark.parametrize(("step", "requests_sent"), [(reset, 1), (answer(503), 1), (answer(429), 5)])
def test_request_resends_a_post_only_if_faraday_cannot_have_processed_it(
    connect: SetConnection, step: Any, requests_sent: int
) -> None:
    with RawServer([step]) as server, pytest.raises(FaradayApiError):
        connect(server.url).request("POST", "/streams", json={})
    assert len(server.received) == requests_sent


def test_request_raises_typed_errors(connect: SetConnection) -> None:
    with RawServer([answer(404, error_body("NOT_FOUND", "No such thing."))]) as server:
        with pytest.raises(FaradayNotFoundError, match=rf"(?s)No such thing.*GET /scopes/1, .*{ERROR_ID}"):
            connect(server.url).request("GET", "/scopes/1")


def test_request_uses_a_replaced_key_after_a_401(connect: SetConnection) -> None:
    def step(request: Any) -> Any:
        return answer(200 if request.headers["authorization"] == "Bearer new-key" else 401, b"[]")

    with RawServer(step) as server:
        hook = connect(server.url, password="old-key")
        with pytest.raises(FaradayAuthenticationError):
            hook.request("GET", "/scopes")
        connect(server.url, password="new-key")
        assert hook.request("GET", "/scopes").json() == []


@pytest.mark.parametrize(
    "path", ["http://evil.example/", "https://api.faraday.ai/v1/scopes", "//evil.example/x", "/\n", None, 5]
)
def test_request_rejects_anything_but_a_path(connect: SetConnection, path: Any) -> None:
    with pytest.raises(FaradayInputError, match="path must be a path below the base URL"):
        connect().request("GET", path)


@pytest.mark.parametrize("arguments", [{"json": {1, 2}}, {"json": float("nan")}, {"params": 5}])
def test_request_rejects_arguments_that_cannot_be_encoded(connect: SetConnection, arguments: Any) -> None:
    with pytest.raises(FaradayInputError, match="POST /scopes cannot be sent"):
        connect().request("POST", "/scopes", **arguments)


@pytest.mark.parametrize("method", ["", "GET /x", None])
def test_request_rejects_an_invalid_method(connect: SetConnection, method: Any) -> None:
    with pytest.raises(FaradayInputError, match="method must be an HTTP method"):
        connect().request(method, "/scopes")


@pytest.mark.parametrize(
    "path",
    ["/../../secret", "/%2e%2e/secret", "/./scopes", "/scopes#fragment", "//evil.example", "/a//b", "/\n", 5],
)
def test_request_rejects_a_path_that_leaves_the_base_url(connect: SetConnection, path: Any) -> None:
    with RawServer([answer(body=[])]) as server:
        with pytest.raises(FaradayInputError, match="path must be a path below the base URL"):
            connect(server.url).request("GET", path)
        assert not server.received


def test_request_sends_the_key_to_faraday_whatever_the_path(connect: SetConnection) -> None:
    with RawServer([answer(body=[])]) as server:
        connect(server.url).request("GET", "/@evil.example\\x:y?a=//b")
        assert len(server.received) == 1


# Errors


def test_an_error_says_what_happened_then_what_to_do(connect: SetConnection) -> None:
    body = error_body("EXPIRED_API_KEY", "The supplied API key has expired.")
    with RawServer([answer(401, body)]) as server, pytest.raises(FaradayAuthenticationError) as caught:
        connect(server.url).list_connection_datasets(ID)
    error = caught.value
    assert str(error) == (
        "Faraday returned 401 EXPIRED_API_KEY: The supplied API key has expired.\n"
        "Set a new key as the password of the Airflow connection 'faraday_default'. "
        f"(GET {PATH}, Faraday error id {ERROR_ID})"
    )
    assert (error.status_code, error.error_code, error.error_id) == (401, "EXPIRED_API_KEY", ERROR_ID)
    assert (error.note, error.method, error.path) == ("The supplied API key has expired.", "GET", PATH)


def test_an_error_includes_validation_errors(connect: SetConnection) -> None:
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
@pytest.mark.parametrize("pad", ["", "\n" * 4071, " " * 65_520])
def test_errors_do_not_show_the_key(connect: SetConnection, status: int, pad: str) -> None:
    step = answer(status, f"{pad}{KEY}".encode(), headers={"Content-Type": f"text/{KEY}"})
    with RawServer([step]) as server, pytest.raises(FaradayApiError) as caught:
        connect(server.url, max_attempts=1).list_connection_datasets(ID)
    assert KEY[:8] not in str(caught.value)


def test_an_error_has_no_double_period(connect: SetConnection) -> None:
    with RawServer([answer(400, error_body("X", "Upload it again.. "))]) as server:
        with pytest.raises(FaradayApiError, match="Upload it again\\.\n"):
            connect(server.url).list_connection_datasets(ID)


@pytest.mark.parametrize("step", [reset, answer(503, b"no"), answer(404, b"no"), answer(body=b"<html>")])
def test_a_traceback_shows_no_frames_of_libraries(connect: SetConnection, step: Any) -> None:
    with RawServer([step]) as server, pytest.raises(FaradayApiError) as caught:
        connect(server.url).list_connection_datasets(ID)
    shown = "".join(traceback.format_exception(caught.value))
    assert "requests_client.py" in shown
    for library in ("tenacity", "site-packages", "concurrent/futures", "http/client.py", "During handling"):
        assert library not in shown


def test_an_error_can_be_stored_and_has_two_lines_whatever_came_back(connect: SetConnection) -> None:
    step = answer(400, {"error": "X\n\x1b[31m", "note": "a\nb\ud800"}, headers={"Content-Type": "t/\xe9"})
    with RawServer([step]) as server, pytest.raises(FaradayApiError) as caught:
        connect(server.url).list_connection_datasets(ID)
    lines = str(caught.value).split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    str(caught.value).encode()


# Retries


def test_retries_a_get_after_a_503(connect: SetConnection) -> None:
    with RawServer([answer(503), reset, answer(body=DATASETS)]) as server:
        assert connect(server.url).list_connection_datasets(ID) == DATASETS
        assert len(server.received) == 3


def test_retries_a_refused_connection_and_names_the_server(
    connect: SetConnection,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FaradayTransportError, match=f"(?s)127.0.0.1:{port}: Connection refused.*5 attempts"):
        connect(f"http://127.0.0.1:{port}").list_connection_datasets(ID)


def test_does_not_resend_a_post_after_a_tls_error_in_the_response(
    connect: SetConnection, self_signed: ssl.SSLContext
) -> None:
    def garbage(connection: ssl.SSLSocket, request: Any) -> None:
        with socket.socket(fileno=connection.detach()) as plain:
            plain.sendall(b"HTTP/1.1 500 no TLS at all\r\n\r\n" * 20)

    with RawServer([garbage], tls=self_signed) as server:
        with pytest.raises(FaradayTransportError):
            connect(server.url, verify=False).force_update_dataset(ID)
        assert len(server.received) == 1


def test_does_not_resend_a_post_that_a_proxy_received(connect: SetConnection) -> None:
    with RawServer([raw(b"")]) as proxy:
        hook = connect("http://faraday.test", proxy=f"http://127.0.0.1:{proxy.port}", allow_http=True)
        with pytest.raises(FaradayTransportError):
            hook.force_update_dataset(ID)
        assert len(proxy.received) == 1


# Unexpected responses


def test_a_dataset_that_is_not_an_object_is_an_error(connect: SetConnection) -> None:
    with RawServer([answer(body=DATASETS)]) as server, pytest.raises(FaradayResponseError):
        connect(server.url).get_dataset(ID)


def test_an_error_quotes_a_long_response_in_part(connect: SetConnection) -> None:
    with (
        RawServer([answer(body={"x": "y" * 100_000})]) as server,
        pytest.raises(FaradayResponseError) as caught,
    ):
        connect(server.url).list_connection_datasets(ID)
    assert len(str(caught.value)) < 700


# Pages and redirects


def page(name: str, next_link: str | None = None) -> Any:
    return answer(body=[{"id": name}], headers={"Link": next_link} if next_link else None)


def test_follows_next_links_to_the_end(connect: SetConnection) -> None:
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


def test_a_next_link_in_the_response_of_a_post_is_ignored(connect: SetConnection) -> None:
    link = {"Link": f'</v1{PATH}?offset=1>; rel="next"'}
    with RawServer([answer(200, b"{}", headers=link)]) as server:
        connect(server.url).force_update_dataset(ID)
        assert len(server.received) == 1


@pytest.mark.parametrize("target", ["http://localhost:{port}/v1/x", "https://127.0.0.1:{port}/v1/x"])
def test_does_not_follow_links_to_another_origin(connect: SetConnection, target: str) -> None:
    with RawServer([answer(body=[])]) as elsewhere:
        url = target.format(port=elsewhere.port)
        with RawServer([page("a", f'<{url}>; rel="next"')]) as server:
            with pytest.raises(FaradayResponseError, match="It was not requested"):
                connect(server.url).list_connection_datasets(ID)
            assert len(server.received) == 1
        assert elsewhere.received == []


# A rotated key, and the Test button


def test_uses_a_replaced_key_after_a_401(connect: SetConnection) -> None:
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


def test_follows_an_airflow_connection_that_was_moved_after_a_401(connect: SetConnection) -> None:
    with RawServer([answer(401)]) as old, RawServer([answer(body=DATASETS)]) as new:
        hook = connect(old.url)
        session = hook.get_conn()
        connect(new.url)
        assert hook.list_connection_datasets(ID) == DATASETS
        assert len(old.received) == len(new.received) == 1
        assert hook.get_conn() is not session


def test_raises_the_401_if_the_airflow_connection_cannot_be_looked_up(
    connect: SetConnection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(conn_id: str) -> Any:
        raise RuntimeError("the token s3cret was rejected")

    with RawServer([answer(401)]) as server:
        hook = connect(server.url)
        hook.get_conn()
        monkeypatch.setattr(hook, "get_connection", unavailable)
        with pytest.raises(FaradayAuthenticationError) as caught:
            hook.list_connection_datasets(ID)
        assert len(server.received) == 1
    assert "'faraday_default' could not be looked up: RuntimeError" in caplog.text
    assert "s3cret" not in caplog.text + "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "verify", ["-----BEGIN CERTIFICATE-----\nMIIs3cret" * 100, "/no/s3cret\0", "s3cret" * 100]
)
def test_verify_that_is_no_path_is_a_configuration_error(connect: SetConnection, verify: str) -> None:
    with pytest.raises(FaradayConfigurationError, match="extra 'verify' is not valid") as caught:
        connect("https://faraday.test", verify=verify).list_connection_datasets(ID)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_the_connection_test_accepts_a_valid_key(connect: SetConnection) -> None:
    with RawServer([answer(body={"id": ID, "name": "Acme", "api_key": "another-secret"})]) as server:
        ok, message = connect(server.url).test_connection()
        assert server.targets == ["/v1/accounts/current"]
    assert (ok, message) == (True, "Faraday accepts the API key.")


def test_the_connection_test_distinguishes_an_invalid_key_from_an_unreachable_host(
    connect: SetConnection,
) -> None:
    with RawServer([answer(401, error_body("MALFORMED_API_KEY", "The key is malformed."))]) as server:
        ok, message = connect(server.url).test_connection()
    assert not ok
    assert "401 MALFORMED_API_KEY" in message
    ok, message = connect("http://127.0.0.1:9").test_connection()
    assert not ok
    assert "Could not connect" in message
    ok, message = connect("http://plain.example").test_connection()
    assert not ok
    assert "plain http" in message


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"", b"[]", b'"x"', b"{}"])
def test_the_connection_test_requires_an_account(connect: SetConnection, body: bytes) -> None:
    with RawServer([answer(200, body)]) as server:
        ok, message = connect(server.url).test_connection()
    assert not ok
    assert "Faraday returned 200, but the response" in message


@pytest.mark.usefixtures("airflow_home")
def test_the_connection_test_reports_a_missing_airflow_connection() -> None:
    ok, message = FaradayHook("no_such_connection").test_connection()
    assert not ok
    assert "no_such_connection" in message


@pytest.mark.parametrize("status", [200, 500])
def test_the_connection_test_does_not_show_the_account(connect: SetConnection, status: int) -> None:
    with RawServer([answer(status, {"id": ID, "api_key": "another-secret"})]) as server:
        _, message = connect(server.url).test_connection()
    assert "another-secret" not in message


def test_an_untrusted_certificate_is_an_error_with_a_remedy(
    connect: SetConnection, self_signed: ssl.SSLContext
) -> None:
    with RawServer([answer(body=DATASETS)], tls=self_signed) as server:
        with pytest.raises(FaradayTransportError, match=r"(?s)certificate verify failed.*'verify'") as caught:
            connect(server.url).list_connection_datasets(ID)
        assert caught.value.request_sent is False
        assert connect(server.url, verify=False).list_connection_datasets(ID) == DATASETS


def test_an_invalid_proxy_is_a_configuration_error(connect: SetConnection) -> None:
    with pytest.raises(FaradayConfigurationError, match="proxy") as caught:
        connect("https://faraday.test", proxy="http://user:hidden@[::1").list_connection_datasets(ID)
    assert "hidden" not in str(caught.value)
