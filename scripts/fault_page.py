"""Write docs/faults.md from the table in tests/faults.py."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "faults.md"

if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))

from faults import FAULTS, Fault  # noqa: E402

INTRODUCTION = """\
# What a task sees when the network or Faraday goes wrong

Written by `make faults` from the table in [tests/faults.py](../tests/faults.py). The tests run each row over
real sockets, on a worker (operators, hook, sensor in `poke` and `reschedule` mode) and in the triggerer
(`deferrable=True`). They end alike where nothing else is said.

- *All* requests means: it is tried again, up to `max_attempts` (5) requests in all, after a growing pause or
  the one that the answer asks for. The first good answer among them heals the call, and nothing is raised;
  otherwise the last attempt's error is.
- Every call ends. A connection may take `timeout` (10) seconds, silence in an answer `timeout` (60) seconds,
  a whole answer five times that. Unpacked it may have 512 MiB, and a list 1,000 pages and redirects.
- *Told* is a part of the error's text. The whole says what was asked, what came back and what to do.
- The API key is in no error, no log line at any level and no `repr`, in any row.
- What a waiting sensor makes of these errors is in [the page about errors](errors.md): after its first good
  poll it waits out those that are tried again.
"""


def text() -> str:
    """Give the page."""
    return INTRODUCTION + "".join(_section(topic, faults) for topic, faults in FAULTS.items())


def _section(topic: str, faults: list[Fault]) -> str:
    lines = [
        "",
        f"## {topic}",
        "",
        "| what happens on the wire | what the task sees | requests | told in the error |",
        "| --- | --- | --- | --- |",
        *("| " + " | ".join(_cells(fault)) + " |" for fault in faults),
    ]
    return "\n".join(lines) + "\n"


def _cells(fault: Fault) -> list[str]:
    here = _outcome(fault)
    there = _outcome(replace(fault, **fault.triggerer))
    return [
        fault.wire,
        *(
            one if one == other else f"{one or 'nothing'}; in the triggerer {other or 'nothing'}"
            for one, other in zip(here, there, strict=True)
        ),
    ]


def _outcome(fault: Fault) -> tuple[str, str, str]:
    good = "the datasets" if fault.call == "GET" else "nothing: it is done"
    sees = f"`{fault.sees.__name__}`" if fault.sees else good
    count = "all" if fault.again else str(fault.requests)
    pause = f", {fault.pause:.0f} s apart" if fault.pause else ""
    return sees, count + pause, fault.told.replace("|", "\\|").replace("<", "&lt;").replace("`", "")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text(), encoding="utf-8")
