"""Create asset events for announced builds in Airflow's metadata database."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.assets.manager import asset_manager
from airflow.models.asset import AssetEvent, AssetModel
from airflow.utils.session import create_session
from sqlalchemy import select, update

from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.api.updates import Mark
from airflow_provider_faraday.api.webhooks import is_announced
from airflow_provider_faraday.compat import store_asset_state
from airflow_provider_faraday.waiting.marks import WEBHOOK_KEY

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

_RECENT_EVENTS = 100
"""How many events of an asset to look at for one about the same build."""


def assets_to_notify(uri: str, message_id: str) -> list[int]:
    """Return the ids of the active assets with a URI that have no event for a message."""
    with create_session() as session:
        ids = session.scalars(select(AssetModel.id).where(AssetModel.uri == uri, AssetModel.active.has()))
        return [id_ for id_ in ids.all() if not is_announced(message_id, None, _recent_events(id_, session))]


def announce(asset_ids: list[int], message_id: str, build: dict[str, Any]) -> int:
    """Create an event for each asset that has none for the build or a later one. Return how many.

    :param build: the payload of the events.
    """
    return sum(_announce(asset_id, message_id, build) for asset_id in asset_ids)


def _announce(asset_id: int, message_id: str, build: dict[str, Any]) -> bool:
    with create_session() as session:
        # Changes nothing, but locks the asset's row, or the whole database on SQLite, until the transaction
        # ends. Other processes with the same message wait, and then see the event of this one.
        session.execute(
            update(AssetModel).where(AssetModel.id == asset_id).values(updated_at=AssetModel.updated_at),
            execution_options={"synchronize_session": False},
        )
        asset = session.get(AssetModel, asset_id)
        if asset is None or is_announced(message_id, build, _recent_events(asset_id, session)):
            return False
        extra = {"payload": build, "webhook_id": message_id}
        asset_manager.register_asset_change(asset=asset, extra=extra, session=session)
        # Watchers of the asset cannot read its events.
        mark = Mark(built=build["last_updated_output_at"], failed=None)
        try:
            with session.begin_nested():
                store_asset_state(asset_id, WEBHOOK_KEY, {build["id"]: mark}, session)
        except Exception as error:  # whatever a state backend raises
            text = "Watchers of asset %d may announce the build, too. %s"
            log.warning(text, asset_id, one_line(str(error)))
        return True


def _recent_events(asset_id: int, session: Session) -> list[Any]:
    events = select(AssetEvent.extra).where(AssetEvent.asset_id == asset_id)
    return list(session.scalars(events.order_by(AssetEvent.timestamp.desc()).limit(_RECENT_EVENTS)))
