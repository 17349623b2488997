"""What a hostile world sends, and what a task sees of it: the data behind docs/faults.md."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_faraday.exceptions import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayConnectionError,
    FaradayNotFoundError,
    FaradayResponseError,
)
from raw_server import Script, Step, answer, drip, raw, reset, stall

KEY = "k3y-of-the-account"
ID = "5e0dfa56-2d52-4c06-a870-bc79c71e86a3"
PATH = f"/connections/{ID}/datasets"
DATASETS = [
    {"id": ID, "name": "orders", "status": "ready", "sample": {"a": 1}, "brand_new_field": [None, 1.5]}
]
ERROR_ID = "082f1c5e-0000-4000-8000-000000000000"
GOOD = answer(body=DATASETS)


@dataclass(frozen=True)
class Fault:
    """One thing that can happen on the wire, and what must come of it.

    :param wire: what happens, for people.
    :param script: what the server does; None where no server is there.
    :param sees: the class of the error; None where the task gets the data.
    :param told: a part of the error's text, ``…`` for what is new each time.
    :param again: whether it is tried again, as often as may be: then one good answer heals it.
    :param requests: how many arrive, where it is not tried again.
    :param pause: seconds that are waited before it is tried again, where the answer decides that.
    :param triggerer: what of this is otherwise in the triggerer.
    :param call: ``GET`` a list, or ``POST`` a force_update.
    :param silence: seconds of silence that are borne.
    :param tls: who speaks TLS, with which certificate: see ``test_faults.py``.
    """

    wire: str
    script: Script | None
    sees: type[FaradayApiError] | None = None
    told: str = ""
    again: bool = False
    requests: int = 1
    pause: float | None = None
    triggerer: dict[str, Any] = field(default_factory=dict)
    call: str = "GET"
    silence: float = 5.0
    tls: str = ""


def error_body(code: str, note: str, **more: Any) -> dict[str, Any]:
    return {"error": code, "id": ERROR_ID, "note": note} | more


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", "Connection: close", *lines, "", "")).encode()


def dataset(**fields: Any) -> bytes:
    return json.dumps([{"id": ID, "status": "ready"} | fields]).encode()


def lost(wire: str, script: Script | None, told: str = "No whole answer", **more: Any) -> Fault:
    """No whole answer: tried again."""
    return Fault(wire, script, FaradayConnectionError, told, again=True, **more)


def late(wire: str, step: Step) -> Fault:
    """An answer that never comes to its end: given up, and tried again."""
    return lost(wire, [step], "given up: it took longer than", silence=0.6)


def unreadable(wire: str, body: bytes, told: str = "cannot be read", **more: Any) -> Fault:
    """A body that is no JSON: tried again."""
    return Fault(wire, [answer(body=body)], FaradayResponseError, told, again=True, **more)


def odd(wire: str, body: Any, told: str = "cannot be read", **more: Any) -> Fault:
    """JSON of another shape: not tried again."""
    return Fault(wire, [answer(body=body)], FaradayResponseError, told, **more)


def refused(code: int, error: str, note: str, told: str, sees: Any = FaradayApiError, **more: Any) -> Fault:
    return Fault(f"{code} `{error}`", [answer(code, error_body(error, note))], sees, told, **more)


def busy(wire: str, status: int, retry_after: str, **more: Any) -> Fault:
    headers = {"Retry-After": retry_after, "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    step = answer(status, error_body("X", "slow down"), headers=headers)
    return Fault(wire, [step], FaradayApiError, **more)


def page(name: str, next_link: str) -> Step:
    return answer(body=[{"id": name}], headers={"Link": next_link})


def moved(location: str, status: int = 302) -> Step:
    return answer(status, headers={"Location": location})


def away(
    wire: str, step: Step, told: str = "It was not followed, so that the key stays", **more: Any
) -> Fault:
    return Fault(wire, [step], FaradayResponseError, told, **more)


_JSON = json.dumps(DATASETS).encode()
_CHUNKED = "Transfer-Encoding: chunked"
_PLAIN = {"Content-Type": "text/html"}
_GZIP = {"Content-Encoding": "gzip"}
_HELD_BACK = {"sees": FaradayConnectionError, "told": "No whole answer", "again": True}

FAULTS: dict[str, list[Fault]] = {
    "No answer": [
        lost("The connection is refused", None, "Connect"),
        lost("The connection is reset", [reset]),
        lost("The connection is closed without a byte", [raw(b"")]),
        lost("Silence", [stall(2)], silence=0.3),
        lost("Another protocol answers", [raw(b"SSH-2.0-OpenSSH_9.2\r\n")]),
        lost("A body without a head", [raw(_JSON)]),
    ],
    "Half an answer": [
        lost("The connection is closed in the middle of the head", [raw(b"HTTP/1.1 200 OK\r\nContent-Le")]),
        lost("The head stalls", [stall(2, b"HTTP/1.1 200 OK\r\n")], silence=0.3),
        lost("The connection is closed in the middle of the body", [answer(body=_JSON[:50], length=5000)]),
        lost("The body stalls", [stall(2, head("Content-Length: 50") + b"[")], silence=0.3),
        lost("A chunked body breaks off in a chunk", [raw(head(_CHUNKED) + b"5000\r\n" + _JSON)]),
        lost(
            "A chunked body breaks off before its last chunk",
            [raw(head(_CHUNKED) + b"%x\r\n%b\r\n" % (len(_JSON), _JSON))],
        ),
        lost("A chunked body has a size that is no number", [raw(head(_CHUNKED) + b"zz\r\n[]")]),
        lost("`Content-Length` is larger than the body", [answer(body=DATASETS, length=5000)]),
        Fault(
            "`Content-Length` is smaller than the body",
            [answer(body=DATASETS, length=20)],
            FaradayResponseError,
            "cannot be read",
            again=True,
            triggerer={"sees": FaradayConnectionError, "told": "No whole answer"},
        ),
        Fault(
            "`Content-Length` is no number, and the whole body comes",
            [raw(head("Content-Length: many") + _JSON)],
            triggerer=_HELD_BACK,
        ),
        lost(
            "Two `Content-Length`s that differ",
            [raw(head("Content-Length: 137", "Content-Length: 9") + _JSON)],
        ),
        Fault("No `Content-Length`: the body ends with the connection", [raw(head() + _JSON)]),
    ],
    "Answers that never end": [
        late("A head drips in byte by byte", drip(b"HTTP/1.1 200 OK\r\nX: ", b"x")),
        late("Headers come one after another", drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.03)),
        late("`102 Processing` comes again and again", drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n")),
        late("A body drips in byte by byte", drip(head("Content-Length: 100000"), b" ")),
        late("The size of a chunk drips in", drip(head(_CHUNKED), b"0")),
        late("Trailers come one after another", drip(head(_CHUNKED) + b"0\r\n", b"X: y\r\n")),
        lost(
            "A body of more than 512 MiB",
            [drip(head("Content-Length: 999999999"), b" " * 1_000_000, 0)],
            "given up: it is larger than",
        ),
        lost(
            "A small gzip body that unpacks to more than 512 MiB",
            [answer(body=gzip.compress(b" " * 20_000_000), headers=_GZIP | {"Connection": "close"})],
            "given up: it is larger than",
        ),
    ],
    "Heads": [
        Fault(
            "`103 Early Hints` before the answer",
            [raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=next\r\n\r\n" + head() + _JSON)],
        ),
        lost("`199` and no answer after it", [raw(b"HTTP/1.1 199 Soon\r\n\r\n")]),
        lost(
            "A line that is no header",
            [raw(head("no header at all", f"Link: </v1{PATH}?offset=1>; rel=next") + _JSON)],
        ),
        lost("A header without a name", [raw(head(": x") + _JSON)]),
        Fault("A header in Latin-1", [raw(head("X: y").replace(b"y", b"\xe9\xff") + _JSON)]),
        Fault("A header over two lines", [raw(head("X: y\r\n z") + _JSON)]),
        Fault("Lines that end in a bare line feed", [raw(head().replace(b"\r\n", b"\n") + _JSON)]),
        lost("A header of 70,000 bytes", [raw(head("X: " + "x" * 70_000) + _JSON)]),
        lost("A status that is no number", [raw(head(status="OK") + _JSON)]),
        lost("Status 1000", [raw(head(status="1000 X") + _JSON)]),
        lost("Status 99", [raw(head(status="99 X") + _JSON)]),
        Fault("HTTP/1.0", [raw(head().replace(b"1.1", b"1.0") + _JSON)]),
        Fault(
            "A cookie",
            [answer(body=DATASETS, headers={"Set-Cookie": "session=1"})],
        ),
    ],
    "Bodies of a good answer": [
        unreadable("Nothing", b""),
        unreadable("HTML", b"<html><h1>Down for maintenance</h1></html>", "<h1>Down for maintenance"),
        unreadable("Plain text", b"upstream failed", "upstream failed"),
        unreadable("Half a JSON text", _JSON[:50]),
        unreadable("Two JSON texts", b"[] []"),
        unreadable("JSON lines", b'{"id": "a"}\n{"id": "b"}'),
        unreadable("UTF-16", _JSON.decode().encode("utf-16")),
        unreadable("Latin-1", '[{"id": "é"}]'.encode("latin-1"), "can't decode byte 0xe9"),
        Fault("UTF-8 with a byte order mark", [answer(body=b"\xef\xbb\xbf" + _JSON)]),
        Fault(
            "A `Content-Type` that says otherwise",
            [answer(body=DATASETS, headers={"Content-Type": "text/html; charset=klingon"})],
        ),
        Fault("gzip", [answer(body=gzip.compress(_JSON), headers=_GZIP)]),
        lost("gzip that is none", [answer(body=b"no gzip", headers=_GZIP)]),
        Fault(
            "gzip that breaks off",
            [answer(body=gzip.compress(b"[" + b" " * 100_000 + b"]")[:60], headers=_GZIP)],
            FaradayResponseError,
            "cannot be read",
            again=True,
        ),
        lost(
            "gzip with a wrong checksum", [answer(body=gzip.compress(_JSON)[:-8] + bytes(8), headers=_GZIP)]
        ),
        lost("deflate that is none", [answer(body=b"no", headers={"Content-Encoding": "deflate"})]),
        unreadable("`NaN`", dataset(row_count=float("nan"))),
        unreadable(
            "A number that nothing holds, `1e999`",
            dataset(row_count=1).replace(b": 1}", b": 1e999}"),
        ),
        unreadable("100,000 brackets deep", b'[{"id": "a", "options": ' + b"[" * 100_000),
        unreadable("Half of a surrogate pair", b'[{"id": "a", "name": "\\ud800"}]'),
        Fault("A number of 400 digits", [answer(body=dataset(row_count=10**399))]),
        Fault(
            "The same key twice: the last one counts",
            [answer(body=b'[{"id": "x", "id": "%b"}]' % ID.encode())],
        ),
        Fault("The same dataset twice", [answer(body=DATASETS * 2)]),
        Fault("Fields that nobody knows, and none but `id`", [answer(body=[{"id": ID, "new": [{}]}])]),
        odd("An object", {"datasets": []}),
        odd("`null`", None),
        odd("A number", 5),
        odd("A text", "datasets"),
        odd("A list of texts", ["a"]),
        odd("A list of lists", [[]]),
        odd("A list with `null`", [{"id": "a"}, None]),
        odd("A dataset without `id`", [{"name": "x"}]),
        odd("An `id` that is `null`", [{"id": None}]),
        odd("An `id` that is a number", [{"id": 7}]),
        odd("An `id` that is empty", [{"id": ""}]),
        Fault(
            "A `status` that is no text",
            [answer(body=[{"id": ID, "status": 5}])],
            triggerer={"sees": FaradayResponseError, "told": "`$[0].status`"},
        ),
    ],
    "Errors that Faraday documents": [
        refused(400, "BAD_REQUEST", "Bad.", "Check the task's arguments"),
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
                "Put a new key in the password of Airflow connection",
                FaradayAuthenticationError,
            )
            for code in (
                "MALFORMED_API_KEY",
                "MISSING_API_KEY",
                "EXPIRED_API_KEY",
                "INVALID_AUTHORIZATION",
            )
        ),
        refused(403, "FORBIDDEN", "No.", "Check what the key of Airflow connection"),
        refused(404, "NOT_FOUND", "No such.", "Check the id, and that the account", FaradayNotFoundError),
        refused(409, "CONFLICT", "Busy.", "409 CONFLICT"),
        refused(500, "INTERNAL_SERVER_ERROR", "Oops.", f"Faraday error id {ERROR_ID}", again=True),
    ],
    "Errors of any other make": [
        Fault(
            "403 with HTML",
            [answer(403, b"<h1>No</h1>", headers=_PLAIN)],
            FaradayApiError,
            "of text/html, '<h1>No",
        ),
        Fault("403 with plain text", [answer(403, b"denied")], FaradayApiError, "'denied'"),
        Fault("403 with nothing", [answer(403)], FaradayApiError, "403 Forbidden to GET … an empty body"),
        Fault(
            "403 with bytes of no charset", [answer(403, b"\xff\xfe\x00")], FaradayApiError, "403 Forbidden"
        ),
        Fault("403 with a JSON list", [answer(403, ["x"])], FaradayApiError, "403 Forbidden"),
        Fault(
            "403 with brackets 100,000 deep", [answer(403, b"[" * 100_000)], FaradayApiError, "403 Forbidden"
        ),
        Fault(
            "403 with fields of the wrong types",
            [answer(403, {"error": 5, "id": [], "note": None, "validationErrors": "x"})],
            FaradayApiError,
            "403 Forbidden",
        ),
        Fault(
            "400 with `validationErrors` of another shape",
            [answer(400, error_body("X", "Bad.", validationErrors=[5, {"path": {}, "message": "m"}, None]))],
            FaradayApiError,
            "400 X to GET … Bad. m. Check",
        ),
        Fault("401 with nothing", [answer(401)], FaradayAuthenticationError, "Put a new key"),
        Fault(
            "404 with HTML", [answer(404, b"<h1>Where?</h1>", headers=_PLAIN)], FaradayNotFoundError, "Where?"
        ),
        *(
            Fault(f"{status}", [answer(status, b"no")], FaradayApiError, f"Faraday answered {status}")
            for status in (405, 407, 410, 422, 451, 501, 505, 600, 999)
        ),
        *(
            Fault(
                f"{status}",
                [answer(status, b"no")],
                FaradayApiError,
                f"Faraday answered {status}",
                again=True,
            )
            for status in (408, 429, 500, 502, 503, 504)
        ),
        Fault("101 Switching Protocols", [answer(101)], FaradayApiError, "Faraday answered 101"),
        Fault("304 Not Modified", [answer(304)], FaradayApiError, "Faraday answered 304"),
        Fault("203 and 206, with the datasets", [answer(206, DATASETS)]),
        Fault(
            "204 for a list",
            [raw(head(status="204 No Content"))],
            FaradayResponseError,
            "an empty body",
            again=True,
        ),
    ],
    "`Retry-After`": [
        busy("429, `Retry-After: 20`", 429, "20", told="It asks to wait 20 seconds", again=True, pause=20),
        busy(
            "503, `Retry-After: 120`", 503, "120", told="It asks to wait 120 seconds", again=True, pause=120
        ),
        busy(
            "429, `Retry-After: 121`: longer than is waited for",
            429,
            "121",
            told="It asks to wait 121 seconds",
        ),
        busy(
            "503, a date 20 seconds after the answer's `Date`",
            503,
            "Wed, 21 Oct 2015 07:28:20 GMT",
            told="wait 20 seconds",
            again=True,
            pause=20,
        ),
        busy("429, a date of long ago", 429, "Wed, 21 Oct 2015 06:00:00 GMT", told="slow down", again=True),
        busy("429, a date in a hundred years", 429, "Fri, 31 Dec 2100 23:59:59 GMT", told="It asks to wait"),
        busy("503, a number of 400 digits", 503, "9" * 400, told="It asks to wait 999999999999 seconds"),
        *(
            busy(f"503, `Retry-After: {value}`", 503, value, told="slow down", again=True)
            for value in ("0", "-5", "soon", "1e9", "1.5", "²")
        ),
    ],
    "Redirects and next pages": [
        Fault("A redirect to the same origin", [moved(f"/v2{PATH}", 308), GOOD], requests=2),
        Fault(
            "A redirect to itself",
            [moved(f"/v1{PATH}")],
            FaradayResponseError,
            "leads back to a page already read",
        ),
        Fault(
            "A redirect without end",
            lambda r: moved(f"{r.target}x"),
            FaradayResponseError,
            "does not end",
            requests=20,
        ),
        away("A redirect to another origin", moved("http://localhost:9/v1/x")),
        away("A redirect to a URL that is none", moved("http://[bad/")),
        Fault("A redirect without `Location`", [answer(302)], FaradayApiError, "Faraday answered 302 Found"),
        Fault(
            "300 Multiple Choices",
            [answer(300, headers={"Location": "/x"})],
            FaradayApiError,
            "Faraday answered 300",
        ),
        Fault(
            "A next page on the same origin",
            [page("a", f"</v1{PATH}?offset=1>; rel=next"), GOOD],
            requests=2,
        ),
        Fault(
            "A next page that leads back",
            [page("a", "<?offset=1>; rel=next"), page("b", f'</v1{PATH}>; rel="next"')],
            FaradayResponseError,
            "leads back to a page already read",
            requests=2,
        ),
        Fault(
            "Next pages without end",
            lambda r: page("a", f"<{r.target}x?>; rel=next"),
            FaradayResponseError,
            "does not end",
            requests=20,
        ),
        away("A next page on another origin", page("a", "<//evil.example/x>; rel=next")),
        away("A next page of another scheme", page("a", "<ftp:x>; rel=next")),
        away("A next page that is no URL", page("a", "<http://[bad/>; rel=next")),
        Fault("A `Link` that is none", [answer(body=DATASETS, headers={"Link": "next; <; rel=next, ,>;;"})]),
    ],
    "TLS": [
        lost("A certificate that nobody vouches for", [GOOD], "certificate verify failed", tls="self-signed"),
        lost("A certificate for another host", [GOOD], "IP address mismatch", tls="another host"),
        lost(
            "Plain HTTP on a port for HTTPS",
            [raw(b"HTTP/1.1 400 Bad Request\r\n\r\nplain")],
            tls="client alone",
        ),
        lost("TLS on a port for HTTP", [GOOD], tls="server alone"),
    ],
    "A `POST` (`force_update_dataset`) is sent again only where Faraday cannot have taken it": [
        Fault("204", [raw(head(status="204 No Content"))], call="POST"),
        Fault("200 with a body of any kind", [answer(200, b"<ok>")], call="POST"),
        lost("The connection is refused", None, "Connect", call="POST"),
        Fault("429", [answer(429, b"later")], FaradayApiError, "429", again=True, call="POST"),
        Fault("The connection is reset", [reset], FaradayConnectionError, "No whole answer", call="POST"),
        Fault(
            "The connection is closed without a byte",
            [raw(b"")],
            FaradayConnectionError,
            "No whole answer",
            call="POST",
        ),
        Fault(
            "The head stalls", [stall(2)], FaradayConnectionError, "No whole answer", call="POST", silence=0.3
        ),
        Fault("500", [answer(500, b"no")], FaradayApiError, "500", call="POST"),
        Fault("503", [answer(503, b"no")], FaradayApiError, "503", call="POST"),
        Fault("A redirect", [moved("/v2", 307)], FaradayApiError, "Faraday answered 307", call="POST"),
    ],
    "A server that echoes the key": [
        Fault(
            "In a body that is no JSON",
            [answer(body=f"your key is {KEY}".encode())],
            FaradayResponseError,
            "your key is ***",
            again=True,
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
        away("In a `Location`", moved(f"http://evil.example/{KEY}"), "http://evil.example/***"),
        away("In a `Link`", page("a", f"<http://evil.example/?{KEY}>; rel=next"), "http://evil.example/?***"),
        Fault(
            "In a `Retry-After`", [answer(400, b"no", headers={"Retry-After": KEY})], FaradayApiError, "400"
        ),
        lost("In a line that is no header", [raw(head(f"no header: {KEY}", f"{KEY} again") + _JSON)]),
        lost("In a status line", [raw(f"HTTP/1.1 {KEY}\r\n\r\n".encode())], "***"),
        lost("In place of an answer", [raw(f"{KEY}\r\n\r\n".encode())], "***"),
        lost("In the size of a chunk", [raw(head(_CHUNKED) + f"{KEY}\r\n\r\n".encode())]),
        Fault(
            "In a `Content-Length`, and the whole body comes",
            [raw(head(f"Content-Length: {KEY}") + _JSON)],
            triggerer=_HELD_BACK,
        ),
        lost("In an encoding", [raw(head("Content-Encoding: gzip", f"X: {KEY}") + KEY.encode())]),
    ],
}
"""All of them, by what they are about."""
