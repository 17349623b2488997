"""Keeps how far datasets have been announced, in the state that Airflow 3.3 and later keep for assets."""

from __future__ import annotations

from typing import Any

from airflow_provider_faraday.api.updates import Mark, Marks, merged

KEY = "airflow-provider-faraday.announced"
"""The key of the asset state store; its value is a dict of marks by dataset id."""


class MarkStore:
    """The marks of one watcher: in memory, and in the state of each asset that it watches for.

    :param states: the trigger's ``asset_state_store``; None where Airflow keeps no state for assets.
    """

    def __init__(self, states: Any) -> None:
        self.marks: dict[str, Mark] = {}
        self._states = [] if states is None else _of_each_asset(states)

    async def load(self) -> None:
        """Read what was announced before this process; of several assets, what is furthest on."""
        for state in self._states:
            self.marks = merged(self.marks, await state.aget(KEY) or {})

    async def save(self, marks: Marks) -> None:
        """Keep these marks, and those of datasets that are not among them."""
        if all(self.marks.get(id_) == mark for id_, mark in marks.items()):
            return
        for state in self._states:
            # Another watcher of the same asset may have added its own.
            await state.aset(KEY, {**(await state.aget(KEY) or {}), **self.marks, **marks})
        self.marks.update(marks)


def _of_each_asset(states: Any) -> list[Any]:
    # Airflow runs equal watchers of several assets as one trigger, which is not told its assets; and the
    # store's own methods take one asset alone.
    by_key = [getattr(states, name, None) for name in ("_by_name", "_by_uri")]
    return [state for group in by_key if group for state in group.values()] or [states]
