"""A scripted Faraday account behind a real socket: resources, their dependencies, and a running clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from raw_server import RawServer, answer
from support.graphs import edge

Fields = dict[str, Any]


def id_of(kind: int, number: int = 1) -> str:
    """Return a UUID; resources of one type share ``kind``."""
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


class Account:
    """Resources that can change between two requests.

    :ivar resources: what lists return.
    :ivar links: pairs of resources: the first is upstream of the second.
    :ivar in_graph: by id, the fields with which the graph differs from the lists.
    :ivar steps: by path without ``/v1``, responses that replace the usual one.
    :ivar script: functions that change the account, one for each poll after the first one.
    :ivar polls: how many lists of waited resources were requested.
    :param began_at: the time by Faraday's clock when the account is created; None sends no ``Date``.
    """

    def __init__(
        self,
        *resources: Fields,
        links: list[tuple[Fields, Fields]] | None = None,
        waited: str = "targets",
        began_at: datetime | None = datetime(2026, 1, 3, tzinfo=UTC),
    ) -> None:
        self.resources = list(resources)
        self.links = links or []
        self.in_graph: dict[str, Fields] = {}
        self.steps: dict[str, Any] = {}
        self.script: list[Callable[[], object]] = []
        self.polls = 0
        self.posted: list[str] = []
        self._waited = waited
        self._began_at = began_at
        self._started = time.monotonic()
        self.server = RawServer(self.respond)

    @property
    def now(self) -> datetime:
        """The time by Faraday's clock."""
        elapsed = timedelta(seconds=time.monotonic() - self._started)
        return (self._began_at or datetime.now(UTC)) + elapsed

    def respond(self, request: Any) -> Any:
        path, _, query = request.target.removeprefix("/v1").partition("?")
        kind = path.split("/")[-1]
        if kind == self._waited:
            if self.polls and self.script:
                self.script.pop(0)()
            self.polls += 1
        if path in self.steps:
            return self.steps[path]
        headers = {"Date": format_datetime(self.now, usegmt=True)} if self._began_at else {}
        if request.method == "POST":
            self.posted.append(path)
            return answer(202, headers=headers)
        if path == "/graph":
            return answer(body=[edge(*map(self._as_in_graph, pair)) for pair in self.links], headers=headers)
        listed = [each for each in self.resources if each["resource_type"] == kind]
        return answer(body=[each for each in listed if not query or each["id"] in query], headers=headers)

    def _as_in_graph(self, fields: Fields) -> Fields:
        ours = {name: value for name, value in fields.items() if name not in ("preview", "updated_at")}
        return ours | self.in_graph.get(fields["id"], {})
