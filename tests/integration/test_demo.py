"""``make demo``: what it prints, how it fails, and that it cleans up."""

from __future__ import annotations

import re
import signal
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


def test_shows_the_datasets_the_sensors_the_cascade_and_the_tables(tmp_path: Path) -> None:
    ran = scripts.run(demo.__file__, temporary=tmp_path, timeout=240)

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
        "Faraday: stream 'web orders' is ready",
        "Faraday: cohort 'Web buyers' is ready",
        "Faraday: outcome 'Will buy in 30 days' is ready",
        "Faraday: scope 'Likely buyers' is ready",
        "Faraday: target 'Likely buyers CSV' is ready",
        "Airflow: the sensor succeeds: the predictions are delivered",
        "Airflow: downloads the predictions",
        "Airflow: loaded the predictions",
    ]
    # If the upload has started a build before the update is forced, Faraday builds web_orders again.
    assert [line for line in dict.fromkeys(lines) if line in cascade] == cascade
    assert re.fullmatch(r"Done: 4 tables .* [\d,]{5,} predictions\.", lines[-1])
    shown = [block for name in ("README.md",) for block in PAGES[name].blocks if block.kind == "text demo"]
    assert shown
    for block in shown:
        assert [line for line in without_times(block.text) if line not in [*lines, "    …", "…"]] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dag_id", "old", "new", "message"),
    [
        (demo.DATASETS.dag_id, '"loaded_', '"lost_', "0 tables"),
        (demo.PREDICTIONS.dag_id, "rows, target_fields", "[], target_fields", demo.PREDICTIONS.dag_id),
    ],
)
@pytest.mark.usefixtures("original_signal_handlers")
def test_fails_and_keeps_the_log_if_a_load_writes_nothing(
    dag_id: str,
    old: str,
    new: str,
    message: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capfd,
) -> None:
    dags = tmp_path_factory.mktemp("dags")
    for part in (demo.DATASETS, demo.PREDICTIONS):
        source = (demo.EXAMPLES / f"{part.dag_id}.py").read_text()
        if part.dag_id == dag_id:
            assert old in source
            source = source.replace(old, new)
        (dags / f"{part.dag_id}.py").write_text(source)
    monkeypatch.setattr(demo, "EXAMPLES", dags)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert demo.main() == 1

    printed = capfd.readouterr()
    assert "The demo failed: " in printed.err
    assert message in printed.err
    log = Path(re.search(r"Airflow's log is kept in (\S+)", printed.err)[1])
    assert [log] == [path for path in tmp_path.rglob("*") if path.is_file()]


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
