"""``make demo``: what it prints, when it fails, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import demo
from markdown_pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.once

SCRIPT = Path(demo.__file__)


@pytest.fixture
def temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the directory in which the demo makes its temporary ones."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def own_signal_handlers() -> Iterator[None]:
    """Put back the signal handlers that the demo, run in this process, replaces."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def without_times(printed: str) -> list[str]:
    return [re.sub(r"^ *[\d.]+ {2}", "", line) for line in printed.splitlines()]


def test_it_shows_the_datasets_the_gate_and_the_tables(temporary_directory: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(SCRIPT)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    lines = without_times(ran.stdout)
    opened = lines.index("Airflow: the gate opens")
    for name in ("customers", "orders", "email_subscribers", "store_visits"):
        assert lines.index(f"Faraday: {name} is ready") < opened < lines.index(f"Airflow: loaded {name}")
        assert re.search(rf'^ +"loaded_{name}" +\d+ +20\S+Z +d0000000', ran.stdout, re.M)
    assert "Done: 4 ready datasets, 4 tables loaded" in lines[-1]
    (shown_in_readme,) = (block for block in PAGES["README.md"].blocks if block.kind == "text demo")
    assert [line for line in without_times(shown_in_readme.text) if line not in [*lines, "    …", "…"]] == []
    assert list(temporary_directory.iterdir()) == []


@pytest.mark.usefixtures("own_signal_handlers")
def test_a_load_that_writes_nothing_fails_the_demo(
    temporary_directory: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    dags = tmp_path_factory.mktemp("dags")
    main_example = demo.EXAMPLES / f"{demo.DAG_ID}.py"
    source = main_example.read_text()
    assert source.count("return loads\n") == 1
    harmless = source.replace("return loads\n", "return []\n")
    (dags / main_example.name).write_text(harmless)
    monkeypatch.setattr(demo, "EXAMPLES", dags)

    assert demo.main([]) == 1

    printed = capfd.readouterr()
    assert "The demo failed: the warehouse has 0 tables, which are not those of the 4 datasets" in printed.err
    log = Path(re.search(r"Airflow's log is kept in (\S+)", printed.err)[1])
    assert [log] == [path for path in temporary_directory.rglob("*") if path.is_file()]


def test_a_taken_port_is_said_in_a_sentence(temporary_directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = subprocess.run(
            [sys.executable, str(SCRIPT), "--port", str(port)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert ran.returncode == 1
    assert f"Cannot listen on 127.0.0.1, port {port}" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert list(temporary_directory.iterdir()) == []


def test_ctrl_c_ends_airflow_and_removes_everything(temporary_directory: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        while not process.stdout.readline().startswith("2."):
            assert process.poll() is None
        deadline = time.monotonic() + 30
        while not (started := psutil.Process(process.pid).children(recursive=True)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()

    assert (process.returncode, err) == (130, "")
    assert "Stopping;" in out
    assert not any(child.is_running() for child in started)
    assert list(temporary_directory.iterdir()) == []
