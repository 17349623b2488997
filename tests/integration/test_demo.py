"""``make demo``: what it prints, how it fails, and that it cleans up. Ctrl-C: see ``test_playground.py``."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import demo
import local_airflow
from airflow_provider_faraday.sandbox import Sandbox
from support import scripts
from support.markdown_pages import PAGES

if TYPE_CHECKING:
    from typing import IO

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


def test_fails_if_the_tables_do_not_match_the_datasets(tmp_path: Path) -> None:
    with Sandbox() as sandbox, (tmp_path / "airflow.log").open("wb") as log:
        sandbox.advance(60)
        with pytest.raises(local_airflow.Failed, match="0 tables"):
            demo.Demo(tmp_path, sandbox, log)._check_and_show_tables()


def test_keeps_the_log_of_airflow_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(home: Path, output: IO[bytes]) -> None:
        output.write(b"the reason")
        raise local_airflow.Failed("a load has failed")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # A command replaces the signal handlers of its process.
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)

    assert local_airflow.run_command("demo", fail) == 1

    printed = capsys.readouterr().err
    assert "The demo failed: a load has failed" in printed
    log = Path(re.search(r"Airflow's log is kept in (\S+)", printed)[1])
    assert [log] == [path for path in tmp_path.rglob("*") if path.is_file()]
    assert log.read_text() == "the reason"
