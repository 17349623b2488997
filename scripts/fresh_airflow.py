"""A throw-away Airflow in a directory of its own: its environment, its command, its metadata database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a person has set for an Airflow, a Python or an HTTP client of their own must not change what happens
# here; and without bytecode files Airflow starts three times slower.
_NOT_PASSED_ON = (
    "AIRFLOW",
    "_AIRFLOW",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONWARNINGS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)


def environment(
    home: Path, dags: Path, connections: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, str]:
    """Give the environment variables of an Airflow that lives in ``home`` and shares nothing with any other.

    :param home: its ``AIRFLOW_HOME``
    :param dags: its DAGs folder
    :param connections: Airflow connections by id, each as the JSON form of Airflow has it
    """
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_NOT_PASSED_ON)}
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        **{
            f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(connection)
            for conn_id, connection in (connections or {}).items()
        },
    }


def airflow(*arguments: str) -> list[str]:
    """Give the command line of Airflow's own command in this very Python."""
    return [sys.executable, "-m", "airflow", *arguments]


def migrate(env: Mapping[str, str]) -> None:
    """Create the metadata database.

    :raises subprocess.CalledProcessError: where it fails; ``stdout`` has the log
    """
    subprocess.run(
        airflow("db", "migrate"),
        env=dict(env),
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
