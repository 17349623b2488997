"""``make playground``: what a person finds there, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from airflow import __version__ as airflow_version
from packaging.version import Version

import airflow_server
import fresh_airflow
import playground

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(Version(airflow_version) < Version("3.3"), reason="is what `make` installs only"),
    pytest.mark.timeout(400),
]

SCRIPT = Path(playground.__file__)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Give a playground that has just been started, with its temporary files below ``tmp_path``."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path)},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def test_the_examples_are_there_and_ctrl_c_leaves_nothing(
    started: subprocess.Popen[str], tmp_path: Path
) -> None:
    printed = iter(started.stdout.readline, "")
    url = next(found[1] for line in printed if (found := re.match(r"Airflow answers on (\S+) ", line)))

    api = airflow_server.Api({"AIRFLOW__API__BASE_URL": url})
    assert "<title>Airflow" in api.get("/").text
    dags = api.get("/api/v2/dags").json()["dags"]
    assert {dag["dag_id"] for dag in dags} == {path.stem for path in playground.EXAMPLES.glob("*.py")}
    assert not any(dag["is_paused"] for dag in dags)
    connections = {
        each["connection_id"]: each for each in api.get("/api/v2/connections").json()["connections"]
    }
    assert connections.keys() == {"faraday_default", "warehouse_default"}
    # What the Test button sends for a stored connection.
    fields = {name: connections["faraday_default"][name] for name in ("connection_id", "conn_type", "host")}
    tested = api.post("/api/v2/connections/test", {**fields, "password": "***"}).json()
    assert tested == {"status": True, "message": "Faraday accepts the key."}
    # Open to this machine only: whoever listens everywhere answers here as well.
    with pytest.raises(OSError, match=r"refused|assign"):
        socket.create_connection(("127.0.0.2", int(url.rpartition(":")[2])))

    processes = psutil.Process(started.pid).children(recursive=True)
    assert len(processes) > 4
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)

    assert (started.returncode, err) == (0, "")
    assert out.endswith("Stopping ...\nStopped; Airflow is ended and its files are removed.\n")
    assert not any(fresh_airflow.is_alive(each) for each in processes)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = subprocess.run(
            [sys.executable, str(SCRIPT), "--port", str(port)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            timeout=60,
        )

    assert ran.returncode == 1
    assert f"port {port} is taken" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert list(tmp_path.iterdir()) == []
