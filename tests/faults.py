"""What can go wrong on the wire, and what a task sees of it: the table of test_faults.py."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayNotFoundError,
    FaradayResponseError,
    FaradayTransportError,
)
from raw_server import Script, Step, after_body, answer, drip, raw, reset, stall

KEY = "k3y-of-the-account"
ID = "5e0dfa56-2d52-4c06-a870-bc79c71e86a3"
PATH = f"/connections/{ID}/datasets"
DATASETS = [
    {"id": ID, "name": "orders", "status": "ready", "sample": {"a": 1}, "brand_new_field": [None, 1.5]}
]
ERROR_ID = "082f1c5e-0000-4000-8000-000000000000"
GOOD = answer(body=DATASETS)
# Far more than what sockets buffer.
UPLOAD = bytes(32_000_000)


@dataclass(frozen=True)
class Fault:
    """Something that can happen on the wire, and its outcome.

    :param wire: what happens.
    :param script: what the server does; None if there is no server.
    :param sees: class of the error; None if the task gets the data.
    :param says: part of the error's text, with ``…`` for what varies.
    :param retried: whether the request is retried up to the limit. Then one good response heals it.
    :param requests: how many requests arrive if it is not retried.
    :param pause: seconds before a retry, if the response decides that.
    :param triggerer: the fields that differ in the triggerer.
    :param call: ``GET`` lists datasets, ``POST`` forces an update, ``download`` and ``upload`` move a file.
    :param timeout: seconds without data before a request times out.
    :param tls: which side speaks TLS, with which certificate: see ``test_faults.py``.
    :param ends_in_worker: whether a worker's request ends on its own, rather than with ``execution_timeout``.
    :param resent_by_aiohttp: whether aiohttp itself sends each request once more.
    """

    wire: str
    script: Script | None
    sees: type[FaradayApiError] | None = None
    says: str = ""
    retried: bool = False
    requests: int = 1
    pause: float | None = None
    triggerer: dict[str, Any] = field(default_factory=dict)
    call: str = "GET"
    timeout: float = 5.0
    tls: str = ""
    ends_in_worker: bool = True
    resent_by_aiohttp: bool = False

    @property
    def is_transfer(self) -> bool:
        """Whether it concerns a file: those are moved in workers only."""
        return self.call in ("download", "upload")

    @property
    def gets_data(self) -> bool:
        """Whether a good response has the datasets, or a file with them."""
        return self.call in ("GET", "download")


def error_body(code: str, note: str, **more: Any) -> dict[str, Any]:
    return {"error": code, "id": ERROR_ID, "note": note} | more


def download(fault: Fault) -> Fault:
    """The same for the download of a file."""
    return replace(fault, call="download")


def upload(wire: str, step: Step, *arguments: Any, up_to: int | None = None, **more: Any) -> Fault:
    """What happens after the file, or a part of it, was received."""
    return Fault(wire, [after_body(step, up_to=up_to)], *arguments, call="upload", **more)


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", "Connection: close", *lines, "", "")).encode()


def dataset(**fields: Any) -> bytes:
    return json.dumps([{"id": ID, "status": "ready"} | fields]).encode()


def lost(wire: str, script: Script | None, says: str = "No complete response", **more: Any) -> Fault:
    """No complete response: retried."""
    return Fault(wire, script, FaradayTransportError, says, retried=True, **more)


def unreadable(wire: str, body: bytes, says: str = "is not valid JSON", **more: Any) -> Fault:
    """A body that is not JSON: retried."""
    return Fault(wire, [answer(body=body)], FaradayResponseError, says, retried=True, **more)


def odd(wire: str, body: Any, says: str = "has an unexpected format", **more: Any) -> Fault:
    """JSON in an unexpected format: not retried."""
    return Fault(wire, [answer(body=body)], FaradayResponseError, says, **more)


def refused(code: int, error: str, note: str, says: str, sees: Any = FaradayApiError, **more: Any) -> Fault:
    return Fault(f"{code} `{error}`", [answer(code, error_body(error, note))], sees, says, **more)


def busy(wire: str, status: int, retry_after: str, **more: Any) -> Fault:
    headers = {"Retry-After": retry_after, "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    step = answer(status, error_body("X", "slow down"), headers=headers)
    return Fault(wire, [step], FaradayApiError, **more)


def page(name: str, next_link: str) -> Step:
    return answer(body=[{"id": name}], headers={"Link": next_link})


def moved(location: str, status: int = 302) -> Step:
    return answer(status, headers={"Location": location})


def elsewhere(wire: str, step: Step, says: str = "It was not requested", **more: Any) -> Fault:
    return Fault(wire, [step], FaradayResponseError, says, **more)


_JSON = json.dumps(DATASETS).encode()
_CHUNKED = "Transfer-Encoding: chunked"
_PLAIN = {"Content-Type": "text/html"}
_GZIP = {"Content-Encoding": "gzip"}
_RESENT = {"resent_by_aiohttp": True}
_LOST = {"sees": FaradayTransportError, "says": "No complete response", "retried": True}

FAULTS: dict[str, list[Fault]] = {
    "No response": [
        lost("The connection is refused", None, "Could not connect"),
        lost("The connection is reset", [reset], triggerer=_RESENT),
        lost("The connection is closed without a byte", [raw(b"")], triggerer=_RESENT),
        lost("Silence", [stall(5)], timeout=1.0),
        lost("Another protocol", [raw(b"SSH-2.0-OpenSSH_9.2\r\n")]),
        lost("A body without headers", [raw(_JSON)]),
    ],
    "Incomplete responses": [
        Fault(
            "The connection is closed in the middle of the headers",
            [raw(b"HTTP/1.1 200 OK\r\nContent-Le")],
            FaradayResponseError,
            "an empty body",
            retried=True,
            triggerer=_LOST | _RESENT,
        ),
        lost("The headers stall", [stall(5, b"HTTP/1.1 200 OK\r\n")], timeout=1.0),
        lost("The connection is closed in the middle of the body", [answer(body=_JSON[:50], length=5000)]),
        lost("The body stalls", [stall(5, head("Content-Length: 50") + b"[")], timeout=1.0),
        lost("A chunked body breaks off in a chunk", [raw(head(_CHUNKED) + b"5000\r\n" + _JSON)]),
        lost(
            "A chunked body breaks off before its last chunk",
            [raw(head(_CHUNKED) + b"%x\r\n%b\r\n" % (len(_JSON), _JSON))],
        ),
        lost("A chunk has an invalid size", [raw(head(_CHUNKED) + b"zz\r\n[]")]),
        lost("`Content-Length` is larger than the body", [answer(body=DATASETS, length=5000)]),
        Fault(
            "`Content-Length` is smaller than the body",
            [answer(body=DATASETS, length=20)],
            FaradayResponseError,
            "is not valid JSON",
            retried=True,
            triggerer={"sees": FaradayTransportError, "says": "No complete response"},
        ),
        Fault(
            "`Content-Length` is not a number; the body is complete",
            [raw(head("Content-Length: many") + _JSON)],
            triggerer=_LOST,
        ),
        lost(
            "Two different `Content-Length`s",
            [raw(head("Content-Length: 137", "Content-Length: 9") + _JSON)],
        ),
        Fault(
            "No `Content-Length`; the body ends when the server closes the connection", [raw(head() + _JSON)]
        ),
    ],
    "Responses that never end": [
        Fault(
            "A body trickles in byte by byte",
            [drip(head("Content-Length: 100000"), b" ")],
            FaradayTransportError,
            "timed out",
            ends_in_worker=False,
        ),
    ],
    "Headers": [
        Fault("A header in Latin-1", [raw(head("X: y").replace(b"y", b"\xe9\xff") + _JSON)]),
        Fault("A header over two lines", [raw(head("X: y\r\n z") + _JSON)]),
        Fault("Lines that end with a bare line feed", [raw(head().replace(b"\r\n", b"\n") + _JSON)]),
        lost("A header of 70,000 bytes", [raw(head("X: " + "x" * 70_000) + _JSON)]),
        lost("A status that is not a number", [raw(head(status="OK") + _JSON)]),
        lost("Status 1000", [raw(head(status="1000 X") + _JSON)]),
        lost("Status 99", [raw(head(status="99 X") + _JSON)]),
        Fault("HTTP/1.0", [raw(head().replace(b"1.1", b"1.0") + _JSON)]),
        Fault(
            "A cookie",
            [answer(body=DATASETS, headers={"Set-Cookie": "session=1"})],
        ),
    ],
    "Bodies of a 200": [
        unreadable("Empty", b""),
        unreadable("HTML", b"<html><h1>Down for maintenance</h1></html>", "<h1>Down for maintenance"),
        unreadable("Plain text", b"upstream failed", "upstream failed"),
        unreadable("Truncated JSON", _JSON[:50]),
        unreadable("Two JSON values", b"[] []"),
        unreadable("UTF-16", _JSON.decode().encode("utf-16")),
        unreadable("Latin-1", '[{"id": "é"}]'.encode("latin-1"), "can't decode byte 0xe9"),
        Fault("UTF-8 with a byte order mark", [answer(body=b"\xef\xbb\xbf" + _JSON)]),
        Fault(
            "A wrong `Content-Type`",
            [answer(body=DATASETS, headers={"Content-Type": "text/html; charset=klingon"})],
        ),
        Fault("gzip", [answer(body=gzip.compress(_JSON), headers=_GZIP)]),
        lost("Invalid gzip", [answer(body=b"no gzip", headers=_GZIP)]),
        Fault(
            "Truncated gzip",
            [answer(body=gzip.compress(b"[" + b" " * 100_000 + b"]")[:60], headers=_GZIP)],
            FaradayResponseError,
            "is not valid JSON",
            retried=True,
        ),
        lost(
            "gzip with a wrong checksum", [answer(body=gzip.compress(_JSON)[:-8] + bytes(8), headers=_GZIP)]
        ),
        lost("Invalid deflate", [answer(body=b"no", headers={"Content-Encoding": "deflate"})]),
        unreadable("`NaN`", dataset(row_count=float("nan"))),
        unreadable("Nested 100,000 deep", b'[{"id": "a", "options": ' + b"[" * 100_000),
        unreadable("Half of a surrogate pair", b'[{"id": "a", "name": "\\ud800"}]'),
        Fault("A number of 400 digits", [answer(body=dataset(row_count=10**399))]),
        Fault(
            "A duplicate key: the last one counts",
            [answer(body=b'[{"id": "x", "id": "%b"}]' % ID.encode())],
        ),
        Fault("The same dataset twice", [answer(body=DATASETS * 2)]),
        Fault("Unknown fields, and no known one but `id`", [answer(body=[{"id": ID, "new": [{}]}])]),
        odd("An object", {"datasets": []}),
        odd("`null`", None),
        odd("JSON lines", b'{"id": "a"}\n{"id": "b"}'),
        odd("A number out of range, `1e999`", dataset(row_count=1).replace(b": 1}", b": 1e999}")),
        odd("A number", 5),
        odd("A string", "datasets"),
        odd("A list of strings", ["a"]),
        odd("A list of lists", [[]]),
        odd("A list with `null`", [{"id": "a"}, None]),
        odd("A dataset without `id`", [{"name": "x"}]),
        odd("An `id` that is `null`", [{"id": None}]),
        odd("An `id` that is a number", [{"id": 7}]),
        odd("An `id` that is empty", [{"id": ""}]),
        Fault(
            "A `status` that is not a string",
            [answer(body=[{"id": ID, "status": 5}])],
            triggerer={"sees": FaradayResponseError, "says": "`$[0].status`"},
        ),
    ],
    "Errors that Faraday documents": [
        refused(400, "BAD_REQUEST", "Bad.", "Check the arguments of the task"),
        Fault(
            "400 `VALIDATION_FAILED`",
            [
                answer(
                    400,
                    error_body(
                        "VALIDATION_FAILED",
                        "Invalid.",
                        validationErrors=[
                            {"path": "ids", "message": "too many", "suggestion": "ask for fewer"}
                        ],
                    ),
                )
            ],
            FaradayApiError,
            "ids too many ask for fewer.",
        ),
        refused(400, "MAX_RESOURCES_REACHED", "Full.", "400 MAX_RESOURCES_REACHED"),
        *(
            refused(
                401,
                code,
                "No.",
                "Set a new key as the password of the Airflow connection",
                FaradayAuthenticationError,
            )
            for code in (
                "MALFORMED_API_KEY",
                "MISSING_API_KEY",
                "EXPIRED_API_KEY",
                "INVALID_AUTHORIZATION",
            )
        ),
        refused(403, "FORBIDDEN", "No.", "is for the right account"),
        refused(
            404,
            "NOT_FOUND",
            "No such.",
            "Check the id, and that the Airflow connection",
            FaradayNotFoundError,
        ),
        refused(409, "CONFLICT", "Busy.", "409 CONFLICT"),
        refused(500, "INTERNAL_SERVER_ERROR", "Oops.", f"Faraday error id {ERROR_ID}", retried=True),
    ],
    "Other errors": [
        Fault(
            "403 with HTML",
            [answer(403, b"<h1>No</h1>", headers=_PLAIN)],
            FaradayApiError,
            "of text/html, '<h1>No",
        ),
        Fault("403 with plain text", [answer(403, b"denied")], FaradayApiError, "'denied'"),
        Fault("403 with an empty body", [answer(403)], FaradayApiError, "403 Forbidden: an empty body"),
        Fault(
            "403 with bytes that are not UTF-8",
            [answer(403, b"\xff\xfe\x00")],
            FaradayApiError,
            "403 Forbidden",
        ),
        Fault("403 with a JSON list", [answer(403, ["x"])], FaradayApiError, "403 Forbidden"),
        Fault(
            "403 with JSON nested 100,000 deep",
            [answer(403, b"[" * 100_000)],
            FaradayApiError,
            "403 Forbidden",
        ),
        Fault(
            "403 with fields of the wrong types",
            [answer(403, {"error": 5, "id": [], "note": None, "validationErrors": "x"})],
            FaradayApiError,
            "403 Forbidden",
        ),
        Fault(
            "400 with `validationErrors` in an unexpected format",
            [answer(400, error_body("X", "Bad.", validationErrors=[5, {"path": {}, "message": "m"}, None]))],
            FaradayApiError,
            "400 X: Bad. m.",
        ),
        Fault("401 with an empty body", [answer(401)], FaradayAuthenticationError, "Set a new key"),
        Fault(
            "404 with HTML", [answer(404, b"<h1>Where?</h1>", headers=_PLAIN)], FaradayNotFoundError, "Where?"
        ),
        *(
            Fault(f"{status}", [answer(status, b"no")], FaradayApiError, f"Faraday returned {status}")
            for status in (405, 407, 410, 422, 451, 501, 505, 600, 999)
        ),
        *(
            Fault(
                f"{status}",
                [answer(status, b"no")],
                FaradayApiError,
                f"Faraday returned {status}",
                retried=True,
            )
            for status in (408, 429, 500, 502, 503, 504, 507, 520, 524, 529)
        ),
        Fault("101 Switching Protocols", [answer(101)], FaradayApiError, "Faraday returned 101"),
        Fault("304 Not Modified", [answer(304)], FaradayApiError, "Faraday returned 304"),
        Fault("203 and 206, with the datasets", [answer(206, DATASETS)]),
        Fault(
            "204 for a list",
            [raw(head(status="204 No Content"))],
            FaradayResponseError,
            "an empty body",
            retried=True,
        ),
    ],
    "`Retry-After`": [
        busy("429, `Retry-After: 20`", 429, "20", says="Retry after 20 seconds", retried=True, pause=20),
        busy("503, `Retry-After: 120`", 503, "120", says="Retry after 120 seconds", retried=True, pause=120),
        busy(
            "429, `Retry-After: 121`: longer than the limit",
            429,
            "121",
            says="Retry after 121 seconds",
        ),
        busy("503, a number of 400 digits", 503, "9" * 400, says="Retry after 999999999999 seconds"),
        *(
            busy(f"503, `Retry-After: {value}`", 503, value, says="slow down", retried=True)
            for value in ("0", "-5", "soon", "1.5", "²", "Wed, 21 Oct 2015 07:28:20 GMT")
        ),
    ],
    "Redirects and next pages": [
        Fault("A redirect", [moved(f"/v2{PATH}", 308)], FaradayApiError, "Faraday returned 308"),
        Fault("A redirect without `Location`", [answer(302)], FaradayApiError, "Faraday returned 302 Found"),
        Fault(
            "300 Multiple Choices",
            [answer(300, headers={"Location": "/x"})],
            FaradayApiError,
            "Faraday returned 300",
        ),
        Fault(
            "A next page on the same origin",
            [page("a", f"</v1{PATH}?offset=1>; rel=next"), GOOD],
            requests=2,
        ),
        Fault(
            "Next pages without end",
            lambda r: page("a", f"<{r.target}x?>; rel=next"),
            FaradayResponseError,
            "do not end",
            requests=20,
        ),
        elsewhere("A next page on another origin", page("a", "<//evil.example/x>; rel=next")),
        elsewhere("A next page of another scheme", page("a", "<ftp:x>; rel=next")),
        elsewhere("A next page with an invalid URL", page("a", "<http://[bad/>; rel=next")),
        Fault(
            "An invalid `Link` to no next page",
            [answer(body=DATASETS, headers={"Link": "<; rel=prev, ,>;;"})],
        ),
    ],
    "TLS": [
        lost("A certificate of an unknown authority", [GOOD], "certificate verify failed", tls="self-signed"),
        lost("A certificate for another host", [GOOD], "IP address mismatch", tls="another host"),
        lost(
            "Plain HTTP on an HTTPS port",
            [raw(b"HTTP/1.1 400 Bad Request\r\n\r\nplain")],
            triggerer={"says": "Could not connect"},
            tls="client alone",
        ),
        lost("TLS on an HTTP port", [GOOD], tls="server alone"),
    ],
    "A `POST` (`force_update_dataset`) is retried only if Faraday cannot have processed it": [
        Fault("204", [raw(head(status="204 No Content"))], call="POST"),
        Fault("200 with any body", [answer(200, b"<ok>")], call="POST"),
        lost("The connection is refused", None, "Could not connect", call="POST"),
        Fault("429", [answer(429, b"later")], FaradayApiError, "429", retried=True, call="POST"),
        Fault("The connection is reset", [reset], FaradayTransportError, "No complete response", call="POST"),
        Fault(
            "The connection is closed without a byte",
            [raw(b"")],
            FaradayTransportError,
            "No complete response",
            call="POST",
        ),
        Fault(
            "The headers stall",
            [stall(5)],
            FaradayTransportError,
            "No complete response",
            call="POST",
            timeout=1.0,
        ),
        Fault("500", [answer(500, b"no")], FaradayApiError, "500", call="POST"),
        Fault("503", [answer(503, b"no")], FaradayApiError, "503", call="POST"),
        Fault("A redirect", [moved("/v2", 307)], FaradayApiError, "Faraday returned 307", call="POST"),
    ],
    "The download of a file": [
        download(lost("The connection is reset", [reset])),
        download(
            lost("The connection is closed in the middle of the file", [answer(body=_JSON, length=5000)])
        ),
        download(
            lost(
                "A chunked file breaks off before its last chunk",
                [raw(head(_CHUNKED) + b"%x\r\n%b\r\n" % (len(_JSON), _JSON))],
            )
        ),
        download(lost("The file stalls", [stall(5, head("Content-Length: 50") + b"[")], timeout=1.0)),
        download(
            lost(
                "The file trickles in byte by byte",
                [drip(head("Content-Length: 100000"), b" ")],
                ends_in_worker=False,
            )
        ),
        download(
            Fault("No `Content-Length`; the file ends with the connection", [raw(head() + _JSON)]),
        ),
        download(
            Fault(
                "A `Content-Encoding`: the file is not decompressed", [answer(body=DATASETS, headers=_GZIP)]
            )
        ),
        download(
            Fault(
                "A web page",
                [answer(body=b"<h1>Sign in</h1>", headers=_PLAIN)],
                FaradayResponseError,
                "web page",
                retried=True,
            )
        ),
        download(Fault("204", [raw(head(status="204 No Content"))], FaradayApiError, "204 No Content")),
        download(Fault("206, with a part of the file", [answer(206, DATASETS)], FaradayApiError, "206")),
        download(refused(404, "NOT_FOUND", "No such.", "Check the id", FaradayNotFoundError)),
        download(Fault("503", [answer(503, b"no")], FaradayApiError, "503", retried=True)),
        download(Fault("A redirect to the same origin", [moved("/v1/files/1"), GOOD], requests=2)),
        download(lost("A redirect to an invalid URL", [moved("http://[bad/")])),
    ],
    "The upload of a file is retried after any transient failure, unless Faraday's list has the file": [
        upload("200", answer(200)),
        upload("The connection is reset after the file", reset, **_LOST),
        upload("The connection is reset in the middle of the file", reset, up_to=1_000_000, **_LOST),
        upload(
            "The server closes the connection in the middle of the file", raw(b""), up_to=1_000_000, **_LOST
        ),
        upload("The server stops receiving", stall(5), up_to=1_000_000, timeout=1.0, **_LOST),
        upload("The response stalls", stall(5), timeout=1.0, **_LOST),
        upload("429", answer(429, b"later"), FaradayApiError, "429", retried=True),
        upload("500", answer(500, b"no"), FaradayApiError, "500", retried=True),
        upload("400", answer(400, error_body("BAD_REQUEST", "Bad.")), FaradayApiError, "400 BAD_REQUEST"),
        upload("413", answer(413, b"too large"), FaradayApiError, "413"),
        upload("A redirect", moved("/v2", 307), FaradayApiError, "Faraday returned 307"),
    ],
    "A server that echoes the key": [
        Fault(
            "In a body that is not JSON",
            [answer(body=f"your key is {KEY}".encode())],
            FaradayResponseError,
            "your key is ***",
            retried=True,
        ),
        Fault(
            "In an error's `error`, `id`, `note` and `validationErrors`",
            [
                answer(
                    400,
                    {
                        "error": KEY,
                        "id": KEY,
                        "note": KEY,
                        "validationErrors": [{"path": KEY, "message": KEY, KEY: KEY}],
                    },
                )
            ],
            FaradayApiError,
            "400 ***",
        ),
        Fault(
            "In the `Content-Type`",
            [answer(403, b"no", headers={"Content-Type": KEY})],
            FaradayApiError,
            "of ***",
        ),
        elsewhere(
            "In a `Link`", page("a", f"<http://evil.example/?{KEY}>; rel=next"), "http://evil.example/?***"
        ),
        Fault(
            "In a `Retry-After`", [answer(400, b"no", headers={"Retry-After": KEY})], FaradayApiError, "400"
        ),
        lost("In a status line", [raw(f"HTTP/1.1 {KEY}\r\n\r\n".encode())], "***"),
        lost("In place of a response", [raw(f"{KEY}\r\n\r\n".encode())], "***"),
        lost("In the size of a chunk", [raw(head(_CHUNKED) + f"{KEY}\r\n\r\n".encode())]),
        Fault(
            "In a `Content-Length`; the body is complete",
            [raw(head(f"Content-Length: {KEY}") + _JSON)],
            triggerer=_LOST,
        ),
        lost("In an encoding", [raw(head("Content-Encoding: gzip", f"X: {KEY}") + KEY.encode())]),
    ],
}
"""All of them, by what they are about."""
