"""A throw-away Airflow that serves: the settings of one that meets no other, and its REST API."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from cryptography.fernet import Fernet

import fresh_airflow

if TYPE_CHECKING:
    from collections.abc import Mapping


def environment(home: Path, dags: Path, port: int | None = None) -> dict[str, str]:
    """Give the environment of an Airflow that is open to everyone on this machine, and to nobody else.

    :param home: its ``AIRFLOW_HOME``
    :param dags: its DAGs folder; these DAGs start unpaused
    :param port: where it serves; by default on a free port
    """
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "API__BASE_URL": url,
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__SECRET_KEY": secrets.token_hex(16),
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "CORE__PARALLELISM": "4",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__TEST_CONNECTION": "Enabled",
        "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        # Two Airflows on one machine must not meet here; nobody calls these where all logs are on one disk.
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        # The default of five seconds is too short on a machine that is busy starting all of this.
        "WORKERS__EXECUTION_API_TIMEOUT": "30",
    }
    env = fresh_airflow.environment(home, dags)
    # `airflow standalone` starts the others by the name `airflow`.
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    return env | {f"AIRFLOW__{name}": value for name, value in settings.items()}


def free_port(wanted: int = 0) -> int:
    """Give a port of this machine that nobody listens on: the wanted one, if it can be had."""
    try:
        with socket.create_server(("127.0.0.1", wanted)) as free:
            return int(free.getsockname()[1])
    except OSError:
        if not wanted:
            raise
        return free_port()


class Api:
    """The REST API of an Airflow that serves with such an :func:`environment`.

    :ivar url: where its UI is
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.url = env["AIRFLOW__API__BASE_URL"]
        self._session = requests.Session()
        # No proxy and no .netrc of a person's own.
        self._session.trust_env = False

    def get(self, path: str, **query: Any) -> requests.Response:
        """Ask for something.

        :raises requests.RequestException: where there is no good answer
        """
        answer = self._call("GET", path, params=query)
        answer.raise_for_status()
        return answer

    def text(self, path: str) -> str:
        """Give the answer to that path as it came, a good one or an error: status, headers and body."""
        answer = self._call("GET", path)
        return f"{answer.status_code} {answer.headers} {answer.text}"

    def post(self, path: str, body: Mapping[str, Any]) -> requests.Response:
        """Send JSON.

        :raises requests.RequestException: where there is no good answer
        """
        answer = self._call("POST", path, json=body)
        answer.raise_for_status()
        return answer

    def answers(self) -> bool:
        """Whether the API server answers."""
        return self._health() is not None

    def healthy(self) -> bool:
        """Whether all of Airflow works: API server, scheduler, DAG processor and triggerer."""
        health = self._health()
        return health is not None and {part["status"] for part in health.values()} == {"healthy"}

    def _health(self) -> dict[str, dict[str, Any]] | None:
        try:
            return self._session.get(f"{self.url}/api/v2/monitor/health", timeout=10).json()
        except requests.RequestException:
            return None

    def _call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        if "Authorization" not in self._session.headers:
            token = self._session.get(f"{self.url}/auth/token", timeout=30)
            token.raise_for_status()
            self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        return self._session.request(method, f"{self.url}{path}", timeout=60, **arguments)
