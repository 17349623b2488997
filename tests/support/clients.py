"""Requests, responses and configurations for the clients under test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from airflow_provider_faraday.client.config import ClientConfig

KEY = "k3y-of-the-account"
ID = "5e0dfa56-2d52-4c06-a870-bc79c71e86a3"
PATH = f"/connections/{ID}/datasets"
DATASETS = [
    {"id": ID, "name": "orders", "status": "ready", "sample": {"a": 1}, "brand_new_field": [None, 1.5]}
]
ERROR_ID = "082f1c5e-0000-4000-8000-000000000000"


def error_body(code: str, note: str, **more: Any) -> dict[str, Any]:
    """Return the body of an error, as Faraday sends it."""
    return {"error": code, "id": ERROR_ID, "note": note} | more


def always(config: ClientConfig) -> Callable[[ClientConfig | None], Awaitable[ClientConfig]]:
    """Return the ``look_up`` of an AiohttpClient whose configuration never changes."""

    async def look_up(rejected: ClientConfig | None) -> ClientConfig:
        return config

    return look_up
