"""The command: what it prints, how it stops, and what it says when it cannot be run as asked."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_faraday.sandbox import Sandbox

COMMAND = [sys.executable, "-m", "airflow_provider_faraday.sandbox"]
CONNECTION_LINE = re.compile(r"^export AIRFLOW_CONN_FARADAY_DEFAULT=(.*)$", re.MULTILINE)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--api-key", "it's-a-key", "--speed", "100"],
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
    raise AssertionError(f"{end!r} was never printed; printed was: {text}")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_how_to_point_airflow_at_it_and_stops_when_told(
    process: subprocess.Popen[str], number: signal.Signals
) -> None:
    printed = read_until(process, "/sandbox/faults")

    line = CONNECTION_LINE.search(printed)
    assert line is not None
    (value,) = shlex.split(line.group(1))
    connection = json.loads(value)
    assert connection == {"conn_type": "faraday", "host": connection["host"], "password": "it's-a-key"}
    headers = {"Authorization": f"Bearer {connection['password']}"}
    answer = requests.get(f"{connection['host']}/scopes", headers=headers, timeout=10)
    assert answer.json()[0]["id"] in printed
    assert "c0000000-0000-4000-8000-000000000001  Warehouse" in printed

    process.send_signal(number)
    rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (0, "Stopped.\n", "")


def test_a_taken_port_is_a_sentence_and_exit_status_two(sandbox: Sandbox) -> None:
    ended = run("--port", str(sandbox.port))

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"Cannot listen on 127.0.0.1, port {sandbox.port}: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--speed", "0"], "The speed must be a number above 0, not 0."),
        (["--speed", "-1"], "The speed must be a number above 0, not -1."),
        (
            ["--account", "nowhere.json"],
            "Cannot read account file 'nowhere.json': No such file or directory.",
        ),
        (["--api-key", ""], "An API key is printable ASCII text without white space."),
        (["--host", "no such host"], "There is no such address as 'no such host': "),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_exit_status_two(arguments: list[str], told: str) -> None:
    ended = run(*arguments)

    assert ended.returncode == 2
    assert ended.stderr.startswith(told)
    assert ended.stderr.count("\n") == 1


def test_a_wrong_account_file_is_named_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    path.write_text('{"datasets": [{"id": "orders"}]}')

    ended = run("--account", str(path))

    assert ended.returncode == 2
    assert "datasets.0.id: must be a UUID" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import runpy; runpy.run_module('airflow_provider_faraday.sandbox', run_name='__main__')",
        "from airflow_provider_faraday.sandbox import Sandbox",
    ],
    ids=["command", "import"],
)
@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_without_its_extra_it_says_what_to_install(statement: str, missing: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules[{missing!r}] = None; {statement}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ran.returncode != 0
    said = ran.stderr.splitlines()[-1]
    assert f"The sandbox needs {missing}, which is not installed: pip install" in said
    assert "'airflow-provider-faraday[sandbox]'" in said
