"""``make demo``: what it prints, how it fails, and that it cleans up."""

from __future__ import annotations

import re
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import demo
from support import scripts
from support.markdown_pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.once


@pytest.fixture
def original_signal_handlers() -> Iterator[None]:
    """Restore the signal handlers that the demo replaces when it runs in this process."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def without_times(printed: str) -> list[str]:
    return [re.sub(r"^ *[\d.]+ {2}", "", line) for line in printed.splitlines()]


def test_shows_the_datasets_the_gate_and_the_tables(tmp_path: Path) -> None:
    ran = scripts.run(demo.__file__, temporary=tmp_path, timeout=240)

    assert (ran.returncode, ran.stderr) == (0, "")
    lines = without_times(ran.stdout)
    opened = lines.index("Airflow: the gate opens")
    for name in ("customers", "orders", "email_subscribers", "store_visits"):
        assert lines.index(f"Faraday: {name} is ready") < opened < lines.index(f"Airflow: loaded {name}")
        assert re.search(rf'^ +"loaded_{name}" +\d+ +20\S+Z +d0000000', ran.stdout, re.M)
    assert "Done: 4 ready datasets, 4 tables loaded" in lines[-1]
    (shown_in_readme,) = (block for block in PAGES["README.md"].blocks if block.kind == "text demo")
    assert [line for line in without_times(shown_in_readme.text) if line not in [*lines, "    …", "…"]] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("original_signal_handlers")
def test_fails_and_keeps_the_log_if_the_load_writes_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    dags = tmp_path_factory.mktemp("dags")
    main_example = demo.EXAMPLES / f"{demo.DAG_ID}.py"
    source = main_example.read_text()
    assert source.count("return loads\n") == 1
    (dags / main_example.name).write_text(source.replace("return loads\n", "return []\n"))
    monkeypatch.setattr(demo, "EXAMPLES", dags)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert demo.main([]) == 1

    printed = capfd.readouterr()
    assert "The demo failed: " in printed.err
    assert "0 tables" in printed.err
    log = Path(re.search(r"Airflow's log is kept in (\S+)", printed.err)[1])
    assert [log] == [path for path in tmp_path.rglob("*") if path.is_file()]


def test_reports_a_port_in_use_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = scripts.run(demo.__file__, "--port", port, temporary=tmp_path)

    assert ran.returncode == 1
    assert port in ran.stderr
    assert "Traceback" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_airflow_and_removes_its_files(tmp_path: Path) -> None:
    process = scripts.start(demo.__file__, temporary=tmp_path)
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
    assert list(tmp_path.iterdir()) == []
