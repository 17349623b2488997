"""The asset events of a task's outlets, outside of Airflow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Events:
    """A stand-in for ``context["outlet_events"]``: an accessor with ``extra`` for each outlet.

    :ivar extras: by the outlet's URI. On Airflow 3.0, assets cannot be keys.
    """

    def __init__(self) -> None:
        self.extras: dict[str, Any] = {}

    def __getitem__(self, outlet: Any) -> Any:
        return SimpleNamespace(extra=self.extras.setdefault(outlet.uri, {}))
