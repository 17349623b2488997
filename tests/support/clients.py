"""Configurations for the clients under test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from airflow_provider_faraday.client.config import ClientConfig


def always(config: ClientConfig) -> Callable[[ClientConfig | None], Awaitable[ClientConfig]]:
    """Return the ``look_up`` of an AiohttpClient whose configuration never changes."""

    async def look_up(rejected: ClientConfig | None) -> ClientConfig:
        return config

    return look_up
