"""The command: its output, how it stops, and its errors."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.__main__ import main

COMMAND = [sys.executable, "-m", "airflow_provider_faraday.sandbox", "--port", "0", "--api-key", "it's-a-key"]


def test_prints_an_airflow_connection_that_works_and_stops_on_a_signal() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(COMMAND, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        printed = ""
        while "/sandbox/faults" not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        (exported,) = re.findall("^export AIRFLOW_CONN_FARADAY_DEFAULT=(.*)$", printed, re.MULTILINE)
        connection = json.loads(*shlex.split(exported))
        headers = {"Authorization": f"Bearer {connection['password']}"}
        response = requests.get(f"{connection['host']}/scopes", headers=headers, timeout=60)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)

    assert connection == {"conn_type": "faraday", "host": connection["host"], "password": "it's-a-key"}
    assert response.json()[0]["id"] in printed
    assert "c0000000-0000-4000-8000-000000000001  Warehouse" in printed
    assert "-000000000007  web_orders, reads the upload directory web_orders" in printed
    assert (process.returncode, rest, errors) == (0, "Stopped.\n", "")


def test_the_airflow_connection_allows_http_to_another_machine() -> None:
    assert Sandbox(host="sandbox.test", port=1).airflow_connection["extra"] == {"allow_http": True}


def test_an_invalid_option_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Leave Ctrl-C to pytest.
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    assert main(["--account", "nowhere.json"]) == 2
    assert "'nowhere.json'" in capsys.readouterr().err


def test_without_the_extra_the_error_says_what_to_install() -> None:
    command = "runpy.run_module('airflow_provider_faraday.sandbox', run_name='__main__')"
    program = f"import runpy, sys; sys.modules['fastapi'] = None; {command}"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ran.returncode != 0
    assert ran.stderr.splitlines()[-1] == "Run: pip install 'airflow-provider-faraday[sandbox]'"
