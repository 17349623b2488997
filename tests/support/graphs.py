"""Small dependency graphs, as Faraday sends them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

BUILT = "2026-01-02T00:00:00Z"


def node(id_: str, resource_type: str, name: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a resource: ready and up to date, unless fields say otherwise."""
    built_at = fields.get("last_updated_output_at", BUILT)
    up_to_date = {
        "status": "ready",
        "status_error": None,
        "status_changed_at": BUILT,
        "archived_at": None,
        "last_read_input_at": built_at,
        "last_updated_config_at": "2026-01-01T00:00:00Z",
        "last_updated_output_at": BUILT,
    }
    return {"id": id_, "resource_type": resource_type, "name": name or id_, **up_to_date, **fields}


def edge(upstream: dict[str, Any], downstream: dict[str, Any]) -> dict[str, Any]:
    """Return an edge of ``GET /graph``."""
    names = {"resource_type": "type", "name": "literate"}
    sides = {"upstream": upstream, "downstream": downstream}
    return {f"{side}_{names.get(k, k)}": v for side, fields in sides.items() for k, v in fields.items()}


def chain(*nodes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the edges of nodes that are built one from another."""
    return [edge(upstream, downstream) for upstream, downstream in pairwise(nodes)]
