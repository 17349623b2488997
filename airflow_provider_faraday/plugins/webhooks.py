"""Airflow plugin entry point. Loads FastAPI only in the API server."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from airflow.configuration import conf
from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_faraday.compat import has_asset_watchers

log = logging.getLogger(__name__)


class FaradayWebhooksPlugin(AirflowPlugin):  # type: ignore[misc,unused-ignore]
    """Receive Faraday's webhooks at ``/faraday/webhooks/<id of the Airflow connection>``.

    ``[faraday] webhook_conn_ids`` lists the Airflow connections to serve. Without it, there is no route.
    Requires Airflow 3.
    """

    name = "faraday_webhooks"

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Log a warning if the setting has no effect."""
        if webhook_conn_ids() and not has_asset_watchers():
            log.warning(
                "[faraday] webhook_conn_ids has no effect: receiving webhooks requires Airflow 3.0 or later. "
                "Remove it, or upgrade Airflow."
            )

    # A property, because Airflow creates the plugin in every process, but reads this only in the API server.
    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override,unused-ignore]
        """The application that the API server mounts."""
        conn_ids = webhook_conn_ids()
        if not conn_ids:
            return []
        try:
            from airflow_provider_faraday.plugins.receiver import create_app

            app = create_app(conn_ids)
        except Exception as error:
            # A moved Airflow module or a broken dependency must not keep the API server from starting.
            log.exception("Faraday's webhooks are off, because their receiver could not be loaded: %s", error)
            return []
        return [{"name": "Faraday webhooks", "url_prefix": "/faraday", "app": app}]


def webhook_conn_ids() -> frozenset[str]:
    """Return the ids of the Airflow connections whose webhooks are received."""
    setting = conf.get("faraday", "webhook_conn_ids", fallback="") or ""
    return frozenset(filter(None, (conn_id.strip() for conn_id in setting.split(","))))
