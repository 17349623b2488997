"""``make demo``: what it prints, how it fails, and that it cleans up."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import psutil
import pytest

import demo
from support import scripts
from support.markdown_pages import PAGES

pytestmark = [pytest.mark.once, pytest.mark.timeout(900)]


def without_times(printed: str) -> list[str]:
    """Return the lines in the order of their times. On a busy machine, a line can be printed late."""
    found = [re.fullmatch(r"( *[\d.]+  )?(.*)", line).groups() for line in printed.splitlines()]
    timed = sorted((pair for pair in found if pair[0]), key=lambda pair: float(pair[0]))
    return [line for _, line in (*timed, *(pair for pair in found if not pair[0]))]


def test_shows_the_datasets_the_sensors_the_cascade_and_the_tables(tmp_path: Path) -> None:
    ran = scripts.run(demo.__file__, temporary=tmp_path)

    assert (ran.returncode, ran.stderr) == (0, "")
    lines = without_times(ran.stdout)
    succeeded = lines.index("Airflow: the sensor succeeds: the input is in Faraday")
    for name in ("customers", "orders", "email_subscribers", "store_visits"):
        assert lines.index(f"Faraday: {name} is ready") < succeeded < lines.index(f"Airflow: loaded {name}")
        assert re.search(rf"^ +loaded_{name} +(\d+) +\1$", ran.stdout, re.M)
    cascade = [
        "Airflow: wrote tonight's orders to a file",
        "Airflow: sends the file",
        "Faraday: web_orders is ready",
        "Faraday: outcome 'Will buy in 30 days' is ready",
        "Faraday: target 'Likely buyers CSV' is ready",
        "Airflow: the sensor succeeds: the predictions are delivered",
        "Airflow: downloads the predictions",
        "Airflow: loaded the predictions",
    ]
    # If the upload has started a build before the update is forced, Faraday builds web_orders again.
    assert [line for line in dict.fromkeys(lines) if line in cascade] == cascade
    assert re.fullmatch(r"Done: 4 tables .* [\d,]{5,} predictions\.", lines[-1])
    [shown] = [block for block in PAGES["README.md"].blocks if block.kind == "text demo"]
    assert [line for line in without_times(shown.text) if line not in [*lines, "    …", "…"]] == []
    assert list(tmp_path.iterdir()) == []


def test_fails_and_keeps_the_log_if_a_load_writes_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    dags = tmp_path_factory.mktemp("dags")
    source = (demo.EXAMPLES / f"{demo.DATASETS.dag_id}.py").read_text()
    (dags / f"{demo.DATASETS.dag_id}.py").write_text(source.replace('"loaded_', '"lost_'))
    monkeypatch.setattr(demo, "EXAMPLES", dags)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # The demo replaces the signal handlers of this process.
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)

    assert demo.main() == 1

    printed = capfd.readouterr()
    assert "The demo failed: " in printed.err
    assert "0 tables" in printed.err
    log = Path(re.search(r"Airflow's log is kept in (\S+)", printed.err)[1])
    assert [log] == [path for path in tmp_path.rglob("*") if path.is_file()]


def test_ctrl_c_ends_airflow_and_removes_its_files(tmp_path: Path) -> None:
    process = scripts.start(demo.__file__, temporary=tmp_path)
    try:
        while not process.stdout.readline().startswith("2."):
            assert process.poll() is None
        while not (started := psutil.Process(process.pid).children(recursive=True)):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        process.kill()

    assert (process.returncode, err) == (130, "")
    assert "Stopping;" in out
    assert not any(child.is_running() for child in started)
    assert list(tmp_path.iterdir()) == []
