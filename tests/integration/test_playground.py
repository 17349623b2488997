"""``make playground``: what a user finds there, and that it cleans up."""

from __future__ import annotations

import re
import signal
import socket
import time
from typing import TYPE_CHECKING

import psutil
import pytest
import requests

import local_airflow
import playground
from support import scripts
from support.airflow_api import Api
from support.ids import TARGET
from support.run_dag import AIRFLOW_3_3

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not AIRFLOW_3_3, reason="make installs the newest Airflow only"),
    pytest.mark.timeout(400),
]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a playground that has just been started."""
    process = scripts.start(playground.__file__, temporary=tmp_path)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def test_serves_the_examples_until_ctrl_c_and_removes_everything(
    started: subprocess.Popen[str], tmp_path: Path
) -> None:
    printed = iter(started.stdout.readline, "")
    url = next(found[1] for line in printed if (found := re.search(r"^Airflow \D*(http://\S+:\d+)", line)))

    sandbox_page = next(found[1] for line in printed if (found := re.search(r"^  (http://\S+:\d+/)$", line)))

    assert "<title>Faraday sandbox" in requests.get(sandbox_page, timeout=10).text
    api = Api({"AIRFLOW__API__BASE_URL": url})
    assert "<title>Airflow" in api.get("/").text
    dags = api.get("/api/v2/dags").json()["dags"]
    assert {dag["dag_id"] for dag in dags} == {path.stem for path in playground.EXAMPLES.glob("*.py")}
    assert not any(dag["is_paused"] for dag in dags)
    connections = {
        each["connection_id"]: each for each in api.get("/api/v2/connections").json()["connections"]
    }
    assert connections.keys() == {"faraday_default", "warehouse_default"}
    # What the Test button sends for a stored connection.
    sent = ("connection_id", "conn_type", "host", "port")
    fields = {name: connections["faraday_default"][name] for name in sent}
    tested = api.post("/api/v2/connections/test", {**fields, "password": "***"}).json()
    assert tested["status"] is True, tested
    # The page's button "Make ready": Faraday's webhook starts a DAG.
    change = {"status": "ready"}
    assert requests.patch(f"{sandbox_page}sandbox/targets/{TARGET}", json=change, timeout=10).ok
    deadline = time.monotonic() + 90
    while not api.get("/api/v2/dags/faraday_on_predictions/dagRuns").json()["dag_runs"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    attempts = requests.get(f"{sandbox_page}sandbox/webhooks", timeout=10).json()
    assert {each["status"] for each in attempts if each["resource_id"] == TARGET} >= {200}
    # Not reachable from elsewhere: a server that listens on all addresses would also respond here.
    with pytest.raises(OSError, match=r"refused|assign"):
        socket.create_connection(("127.0.0.2", int(url.rpartition(":")[2])))

    processes = psutil.Process(started.pid).children(recursive=True)
    assert len(processes) > 4
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)

    assert (started.returncode, err) == (0, "")
    assert out.splitlines()[-1].startswith("Stopping")
    assert not any(local_airflow.is_alive(each) for each in processes)
    assert list(tmp_path.iterdir()) == []
