"""The command: its output, how it stops, and its errors."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.__main__ import _greeting, main

COMMAND = [sys.executable, "-m", "airflow_provider_faraday.sandbox"]
CONNECTION_LINE = re.compile(r"^export AIRFLOW_CONN_FARADAY_DEFAULT=(.*)$", re.MULTILINE)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--api-key", "it's-a-key"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def read_until(process: subprocess.Popen[str], end: str) -> str:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if end in line:
            return text
    raise AssertionError(f"{end!r} was not printed, only: {text}")


def airflow_connection(printed: str) -> dict[str, object]:
    line = CONNECTION_LINE.search(printed)
    assert line is not None
    (value,) = shlex.split(line.group(1))
    connection: dict[str, object] = json.loads(value)
    return connection


def test_prints_an_airflow_connection_that_works_and_stops_on_a_signal(
    process: subprocess.Popen[str],
) -> None:
    printed = read_until(process, "/sandbox/faults")

    connection = airflow_connection(printed)
    assert connection == {"conn_type": "faraday", "host": connection["host"], "password": "it's-a-key"}
    headers = {"Authorization": f"Bearer {connection['password']}"}
    response = requests.get(f"{connection['host']}/scopes", headers=headers, timeout=60)
    assert response.json()[0]["id"] in printed
    assert "c0000000-0000-4000-8000-000000000001  Warehouse" in printed
    assert "-000000000007  web_orders, reads the upload directory web_orders" in printed

    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (0, "Stopped.\n", "")


@pytest.mark.parametrize(
    ("host", "extra"),
    [("0.0.0.0", None), ("sandbox.test", {"allow_http": True})],
)
def test_the_airflow_connection_allows_http_to_another_machine(host: str, extra: object) -> None:
    assert airflow_connection(_greeting(Sandbox(host=host, port=1))).get("extra") == extra


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--account", "nowhere.json"], "Account file 'nowhere.json' cannot be read: "),
        (["--host", "no such host"], "Cannot listen on no such host, port 8123: "),
    ],
)
def test_an_invalid_option_is_an_error(
    arguments: list[str], error: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Leave Ctrl-C to pytest.
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(error)


def test_without_the_extra_the_error_says_what_to_install() -> None:
    command = "runpy.run_module('airflow_provider_faraday.sandbox', run_name='__main__')"
    program = f"import runpy, sys; sys.modules['fastapi'] = None; {command}"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ran.returncode != 0
    what, remedy = ran.stderr.splitlines()[-2:]
    assert "The sandbox requires fastapi, which is not installed." in what
    assert remedy == "Run: pip install 'airflow-provider-faraday[sandbox]'"
