"""A stand-in for the state that Airflow 3.3 and later keep for assets. It outlives triggers."""

from __future__ import annotations

from typing import Any


class AssetState:
    """The state of one asset.

    :ivar values: what is stored, by key.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    @property
    def accessors(self) -> Any:
        """The value that Airflow sets as ``asset_state_store`` of a trigger."""
        return type("Accessors", (), {"_by_name": {"an asset": self}, "_by_uri": {}})()

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = value

    async def adelete(self, key: str) -> None:
        self.values.pop(key, None)
