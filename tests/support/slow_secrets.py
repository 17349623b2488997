"""A secrets backend that is slow for one Airflow connection. Airflow loads it by name."""

from __future__ import annotations

import logging
import time

from airflow.secrets import BaseSecretsBackend


class SlowSecrets(BaseSecretsBackend):
    """Does not respond about the Airflow connection ``slow``, and knows no other."""

    def get_conn_value(self, conn_id: str, **_: object) -> str | None:
        if conn_id == "slow":
            logging.getLogger(__name__).warning("looks up %s", conn_id)
            time.sleep(3600)
        return None
