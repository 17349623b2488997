"""What can be wrong with an answer, as data: each fault is tried on both transports."""

from __future__ import annotations

import gzip
from typing import Any

from raw_server import answer, raw, reset, stall

ID = "5e0dfa56-2d52-4c06-a870-bc79c71e86a3"
PATH = f"/connections/{ID}/datasets"
DATASETS = [
    {"id": ID, "name": "orders", "status": "ready", "sample": {"a": 1}, "brand_new_field": [None, 1.5]}
]
ERROR_ID = "082f1c5e-0000-4000-8000-000000000000"


def error_body(code: str, note: str, **more: Any) -> dict[str, Any]:
    return {"error": code, "id": ERROR_ID, "note": note} | more


TRANSIENT = {
    "reset": reset,
    "closed": raw(b""),
    "no http": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "truncated": answer(body=b'[{"id": "a"', length=5000),
    "short": answer(body=b"[]", length=5000),
    "not json": answer(body=b"<html>maintenance</html>"),
    "half a json": answer(body=b'[{"id": "a"'),
    "empty body": answer(body=b""),
    "not utf-8": answer(body=b'[{"id": "\xff\xfe"}]'),
    "bad gzip": answer(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
    "cut gzip": answer(
        body=gzip.compress(b"[" + b" " * 100_000 + b"]")[:60], headers={"Content-Encoding": "gzip"}
    ),
    "bad chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n[]"),
    "stalled head": stall(2, b"HTTP/1.1 200 OK\r\n"),
    "stalled body": stall(2, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n["),
    **{str(status): answer(status, error_body("X", "later")) for status in (408, 429, 500, 502, 503, 504)},
}
"""Faults that asking again may mend."""

WRONG_SHAPES = {
    "an object": {"datasets": []},
    "null": None,
    "a number": 5,
    "a text": "datasets",
    "a list of texts": ["a"],
    "a list of lists": [[]],
    "a list with null": [{"id": "a"}, None],
    "an object without id": [{"name": "x"}],
    "an id that is null": [{"id": None}],
    "an id that is a number": [{"id": 7}],
    "an empty id": [{"id": ""}],
}
"""JSON that is no list of datasets."""
