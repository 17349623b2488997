"""``make playground``: what it starts, and that it cleans up."""

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
    from pathlib import Path

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not AIRFLOW_3_3, reason="make installs the newest Airflow only"),
    pytest.mark.timeout(900),
]


def test_serves_the_examples_until_ctrl_c_and_removes_everything(tmp_path: Path) -> None:
    started = scripts.start(playground.__file__, temporary=tmp_path)
    try:
        printed = iter(started.stdout.readline, "")
        url = next(
            found[1] for line in printed if (found := re.search(r"^Airflow \D*(http://\S+:\d+)", line))
        )
        sandbox = next(found[1] for line in printed if (found := re.search(r"^  (http://\S+:\d+/)$", line)))
        check(Api({"AIRFLOW__API__BASE_URL": url}), sandbox)

        processes = psutil.Process(started.pid).children(recursive=True)
        assert len(processes) > 4
        started.send_signal(signal.SIGINT)
        out, err = started.communicate()
    finally:
        started.terminate()
        started.wait()

    assert (started.returncode, err) == (0, "")
    assert out.splitlines()[-1].startswith("Stopping")
    assert not any(local_airflow.is_alive(each) for each in processes)
    assert list(tmp_path.iterdir()) == []


def check(api: Api, sandbox: str) -> None:
    assert "<title>Faraday sandbox" in requests.get(sandbox, timeout=60).text
    assert "<title>Airflow" in api.get("/").text
    dags = api.get("/api/v2/dags").json()["dags"]
    assert {dag["dag_id"] for dag in dags} == {path.stem for path in playground.EXAMPLES.glob("*.py")}
    assert not any(dag["is_paused"] for dag in dags)
    # What the Test button sends for a stored connection.
    stored = api.get("/api/v2/connections/faraday_default").json()
    fields = {name: stored[name] for name in ("connection_id", "conn_type", "host", "port")}
    tested = api.post("/api/v2/connections/test", {**fields, "password": "***"}).json()
    assert tested["status"] is True, tested
    # The page's button "Make ready": Faraday's webhook starts a DAG.
    change = {"status": "ready"}
    assert requests.patch(f"{sandbox}sandbox/targets/{TARGET}", json=change, timeout=60).ok
    while not api.get("/api/v2/dags/faraday_on_predictions/dagRuns").json()["dag_runs"]:
        time.sleep(0.5)
    # Not reachable from elsewhere: a server that listens on all addresses would also respond here.
    with pytest.raises(OSError, match=r"refused|assign"):
        socket.create_connection(("127.0.0.2", int(api.url.rpartition(":")[2])))
