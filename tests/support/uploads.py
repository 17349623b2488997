"""Faraday's side of uploads, for ``raw_server``."""

from __future__ import annotations

import hashlib
from typing import Any

from raw_server import RawServer, Received, Step, after_body, answer

CONTENT = b"email,total\n" + b"a@example.com,12\n" * 200_000
MD5 = hashlib.md5(CONTENT).hexdigest()
OK = answer(200)
PATH = "web_orders/web_orders.csv"
_DATASETS = "/v1/datasets"


class Uploads:
    """Faraday's side: the list of uploads, and what to do with each POST; by default, store the file.

    :param date: the ``Date`` of ``GET /uploads``; by default, it has none.
    :ivar list: what ``GET /uploads`` returns.
    :ivar bodies: the bodies of all POSTs, as far as they were received.
    """

    def __init__(
        self, *posts: Step, listed: list[dict[str, Any]] | None = None, date: str | None = None
    ) -> None:
        self.list = list(listed or [])
        self._headers = {"Date": date} if date else {}
        self.bodies: list[bytes] = []
        self.posts = list(posts)

    def __call__(self, request: Received) -> Step:
        if request.target == _DATASETS:
            return answer(body=[])
        if request.method == "GET":
            return answer(body=self.list, headers=self._headers)
        return self.posts.pop(0) if self.posts else self.store()

    def store(
        self, then: Step = OK, md5: str | None = None, created_at: str = "2026-11-25T03:00:00.500Z"
    ) -> Step:
        """Store the file, then respond."""

        def step(connection: Any, request: Received) -> None:
            path = request.target.removeprefix("/v1/uploads/")
            body = self.bodies[-1]
            self.list[:] = [each for each in self.list if each["subpath"] != path]
            self.list.append(entry(path, body, created_at) | ({"md5_hash": md5} if md5 else {}))
            then(connection, request)

        return after_body(step, into=self.bodies)


def entry(
    path: str = PATH, body: bytes = CONTENT, created_at: str = "2026-11-24T03:00:00.000Z"
) -> dict[str, Any]:
    return {
        "subpath": path,
        "file_size": len(body),
        "md5_hash": hashlib.md5(body).hexdigest(),
        "created_at": created_at,
    }


def methods(server: RawServer) -> list[str]:
    """Return the methods of the requests about uploads."""
    return [request.method for request in server.received if request.target != _DATASETS]
