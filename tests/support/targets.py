"""Faraday's side of downloads, for ``raw_server``."""

from __future__ import annotations

from typing import Any

from raw_server import Received, Step, answer
from support.ids import TARGET

DOWNLOAD = f"/v1/targets/{TARGET}/download.csv"


def target(**fields: Any) -> dict[str, Any]:
    """Return a target that is ready."""
    return {
        "id": TARGET,
        "name": "Likely buyers CSV",
        "resource_type": "targets",
        "status": "ready",
        "count": 300_000,
        "last_updated_output_at": "2026-11-25T03:00:00.000Z",
    } | fields


class Target:
    """A target's states, and a step for each download; the last one of both is repeated."""

    def __init__(self, *downloads: Step, targets: list[dict[str, Any]] | None = None) -> None:
        self._downloads = list(downloads)
        self._targets = targets or [target()]

    def __call__(self, request: Received) -> Step:
        if request.target == DOWNLOAD:
            return self._next(self._downloads)
        return answer(body=self._next(self._targets))

    @staticmethod
    def _next(queue: list[Any]) -> Any:
        return queue.pop(0) if len(queue) > 1 else queue[0]
