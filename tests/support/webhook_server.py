"""Serve Airflow's plugins over a socket, as its API server does, without the rest of it. Run as a script.

The arguments are a port, and replacements for constants of the package as JSON.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import uvicorn
from airflow.api_fastapi.app import init_plugins
from airflow.models.connection import Connection
from fastapi import FastAPI

from airflow_provider_faraday.client.config import client_config
from airflow_provider_faraday.plugins import announcements, connections, receiver

_is_announced = announcements.is_announced


def _is_announced_slowly(*arguments: Any) -> bool:
    """Leave other processes time to add an event between the search for one and the addition of one."""
    found = _is_announced(*arguments)
    time.sleep(0.05)
    return found


def main() -> None:
    """Serve until the process is ended."""
    logging.getLogger("airflow_provider_faraday").setLevel(logging.INFO)
    for name, value in {"LOG_SECONDS": 3600.0, **json.loads(sys.argv[2])}.items():
        [module] = [module for module in (connections, receiver) if hasattr(module, name)]
        setattr(module, name, value)
    announcements.is_announced = _is_announced_slowly
    # The first lookup in a process loads providers, and may take longer than a message waits for it.
    client_config(Connection.get_connection_from_secrets("faraday_hooks"))
    app = FastAPI(openapi_url=None)
    init_plugins(app)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
