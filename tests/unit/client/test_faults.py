"""What can go wrong on the wire: both clients raise the same error, after as many requests.

Responses that arrive complete are in ``api/test_responses.py``, those to transfers in ``transfers/``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_faraday.api import endpoints, responses, states
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.client.aiohttp_client import AiohttpClient
from airflow_provider_faraday.client.config import ClientConfig
from airflow_provider_faraday.client.requests_client import FaradaySession, RequestsClient
from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayResponseError,
    FaradayTransportError,
)
from raw_server import RawServer, Script, answer, raw, reset, stall
from support.clients import DATASETS, ID, KEY, PATH, always

pytestmark = pytest.mark.usefixtures("no_backoff")

KIND = RESOURCE_TYPES["datasets"]
GET = endpoints.resources_of(RESOURCE_TYPES["connections"], ID, KIND)
POST = endpoints.force_update(KIND, ID)
ATTEMPTS = 2
GOOD = answer(body=DATASETS)
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
BODY = json.dumps(DATASETS).encode()
ECHO = {"Content-Type": f"text/{KEY}"}


@dataclass(frozen=True)
class Fault:
    """Something that can happen on the wire, and its outcome.

    :param wire: what happens.
    :param script: what the server does.
    :param sees: class of the error; None if the task gets the data.
    :param says: part of the error's text.
    :param retried: whether the request is retried up to the limit.
    :param requests: how many requests arrive if it is not retried.
    :param method: ``GET`` lists datasets, ``POST`` forces an update.
    :param timeout: seconds without data before a request times out.
    """

    wire: str
    script: Script
    sees: type[FaradayApiError] | None
    says: str = ""
    retried: bool = False
    requests: int = 1
    method: str = "GET"
    timeout: float = 10.0


def lost(wire: str, *steps: Any, says: str = "No complete response", **more: Any) -> Fault:
    """No complete response: retried."""
    return Fault(wire, steps, FaradayTransportError, says, retried=True, **more)


def elsewhere(wire: str, link: str, says: str = "It was not requested") -> Fault:
    """A next page that is not requested."""
    step = answer(body=DATASETS, headers={"Link": f"<{link}>; rel=next"})
    return Fault(wire, [step], FaradayResponseError, says)


def following(wire: str, link: str) -> Fault:
    """A next page that is requested."""
    return Fault(wire, [answer(body=[], headers={"Link": link}), GOOD], None, requests=2)


FAULTS = [
    lost("the connection is reset", reset),
    lost("silence", stall(30), says="timed out", timeout=0.2),
    lost("the body stalls", stall(30, HEAD + b"Content-Length: 50\r\n\r\n["), says="timed out", timeout=0.2),
    lost("another protocol", raw(b"SSH-2.0-OpenSSH_9.2\r\n")),
    lost("an incomplete body", answer(body=BODY, length=5000)),
    lost("invalid gzip", answer(body=b"no gzip", headers={"Content-Encoding": "gzip"})),
    Fault("healed by one good response", [answer(503), GOOD], None, requests=2),
    Fault("HTML", [answer(body=b"<h1>")], FaradayResponseError, "is not valid JSON", retried=True),
    Fault("an object", [answer(body={})], FaradayResponseError, "has an unexpected format"),
    Fault("501", [answer(501, b"no")], FaradayApiError, "501 Not Implemented"),
    Fault("429", [answer(429)], FaradayApiError, "429 Too Many Requests", retried=True),
    Fault(
        "a long Retry-After", [answer(503, headers={"Retry-After": "121"})], FaradayApiError, "121 seconds"
    ),
    Fault("a redirect", [answer(308, headers={"Location": PATH})], FaradayApiError, "returned 308"),
    following("a next page after a second header", '</v1/x>; rel="first"\r\nLink: <?b=1>; rel="next"'),
    following("a next page in a long header", f'<?a={"x" * 9000}>; rel="last", <?b=1>; rel="next"'),
    elsewhere("a next page on another origin", "http://localhost:9/v1/x"),
    elsewhere("an invalid next page", "http://[bad/"),
    # A POST is retried only if Faraday cannot have processed it.
    Fault("204", [raw(b"HTTP/1.1 204 No Content\r\n\r\n")], None, method="POST"),
    Fault("429", [answer(429)], FaradayApiError, "429", retried=True, method="POST"),
    Fault("503", [answer(503)], FaradayApiError, "503", method="POST"),
    Fault("reset", [reset], FaradayTransportError, "No complete response", method="POST"),
    Fault("silence", [stall(30)], FaradayTransportError, "timed out", method="POST", timeout=0.2),
    Fault("redirect", [answer(307, headers={"Location": "/"})], FaradayApiError, "307", method="POST"),
    # A server that echoes the key. All others do so in the reason phrase and in a header.
    Fault(
        "key as body", [answer(body=KEY.encode(), headers=ECHO)], FaradayResponseError, "'***'", retried=True
    ),
    Fault("key in an error", [answer(400, dict.fromkeys(("error", KEY), KEY))], FaradayApiError, "400 ***"),
    Fault("key as a header", [raw(HEAD + f"{KEY}\r\n\r\n".encode() + b"no")], FaradayApiError, retried=True),
    elsewhere("key in a Link", f"http://evil.example/{KEY}", "http://evil.example/***"),
    lost("key as status", raw(f"HTTP/1.1 {KEY}\r\n\r\n".encode()), says="***"),
]


def in_worker(config: ClientConfig, method: str) -> list[str]:
    client = RequestsClient(lambda: config)
    try:
        if method == "POST":
            return client.fetch(POST, lambda response: []).value
        return [item["id"] for item in client.fetch(GET, responses.decode_resources).value]
    finally:
        client.session.close()


def in_triggerer(config: ClientConfig, method: str) -> list[str]:
    async def run() -> list[str]:
        client = AiohttpClient(always(config))
        decode = states.decode_states(KIND)
        try:
            if method == "POST":
                return (await client.fetch(POST, lambda response: [], seconds=60.0)).value
            return [state.id for state in (await client.fetch(GET, decode, seconds=60.0)).value]
        finally:
            await client.close()

    return asyncio.run(run())


def config_for(url: str, **fields: Any) -> ClientConfig:
    return ClientConfig(conn_id="faraday_default", api_key=KEY, base_url=url, max_attempts=ATTEMPTS, **fields)


CLIENTS = pytest.mark.parametrize("fetch", [in_worker, in_triggerer])


@CLIENTS
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.method} {fault.wire}")
def test_a_fault_ends_as_expected_and_does_not_leak_the_key(
    fetch: Any, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), RawServer(fault.script) as server:
        config = config_for(server.url, connect_seconds=fault.timeout, read_seconds=fault.timeout)
        if fault.sees is None:
            assert fetch(config, fault.method) == ([ID] if fault.method == "GET" else [])
        else:
            with pytest.raises(fault.sees) as caught:
                fetch(config, fault.method)
            assert fault.says in str(caught.value)
            assert caught.value.attempts == (ATTEMPTS if fault.retried else 1)
            check_shows_no_key(caught.value)
        # aiohttp itself may resend a GET.
        assert fault.retried or len(server.received) == fault.requests
        for each in server.received:
            assert each.headers["authorization"] == f"Bearer {KEY}"
            assert each.headers["user-agent"].startswith("airflow-provider-faraday/")
    assert KEY not in caplog.text + repr(config)


def check_shows_no_key(error: FaradayApiError) -> None:
    assert KEY not in "".join([*traceback.format_exception(error), repr(error), repr(vars(error))])
    holder: BaseException | None = error
    while holder is not None:
        # Exceptions of requests and aiohttp hold the request's headers.
        assert not {"request", "request_info"} & set(dir(holder))
        holder = holder.__cause__ or holder.__context__


@CLIENTS
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refused_connection_is_retried_with_any_method(fetch: Any, method: str) -> None:
    with pytest.raises(
        FaradayTransportError, match=r"connect to .*127\.0\.0\.1:9: Connection refused"
    ) as caught:
        fetch(config_for("http://127.0.0.1:9/v1"), method)
    assert caught.value.attempts == ATTEMPTS
    assert caught.value.request_sent is False


@CLIENTS
@pytest.mark.parametrize(
    ("fixture", "trusted", "says"),
    [
        ("self_signed", False, "certificate verify failed"),
        ("for_another_host", True, "IP address mismatch"),
    ],
)
def test_a_certificate_that_is_not_valid_is_an_error_with_a_remedy(
    fetch: Any, fixture: str, trusted: bool, says: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    context: ssl.SSLContext = request.getfixturevalue(fixture)
    verify = str(tmp_path / "server.pem") if trusted else None
    with RawServer([GOOD], tls=context) as server, pytest.raises(FaradayTransportError) as caught:
        fetch(config_for(server.url, verify=verify), "POST")
    assert says in str(caught.value)
    assert "'verify'" in str(caught.value)
    assert caught.value.request_sent is False
    assert server.received == []


@CLIENTS
@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_is_trusted_if_it_is_in_the_bundle_or_not_verified(
    fetch: Any, trusted: bool, self_signed: ssl.SSLContext, tmp_path: Path
) -> None:
    with RawServer([GOOD], tls=self_signed) as server:
        verify = str(tmp_path / "server.pem") if trusted else False
        assert fetch(config_for(server.url, verify=verify), "GET") == [ID]


@CLIENTS
@pytest.mark.parametrize("step", [reset, answer(503), answer(404), answer(body=b"<html>")])
def test_a_traceback_shows_no_frames_of_libraries(fetch: Any, step: Any) -> None:
    with RawServer([step]) as server, pytest.raises(FaradayApiError) as caught:
        fetch(config_for(server.url), "GET")
    shown = "".join(traceback.format_exception(caught.value))
    assert "_client.py" in shown
    for library in ("site-packages", "http/client.py", "During handling"):
        assert library not in shown


def test_a_closed_client_of_workers_has_closed_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[FaradaySession] = []
    monkeypatch.setattr(FaradaySession, "close", lambda session: closed.append(session))
    with RawServer([GOOD]) as server:
        assert in_worker(config_for(server.url), "GET") == [ID]
    assert len(closed) == 1
