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
# What a task sees when the network or Faraday fails

`make faults` writes this page from the table in [tests/faults.py](../tests/faults.py). The tests run each row
over real sockets, in a worker (operators, hook, sensor in `poke` and `reschedule` mode) and in the triggerer
(`deferrable=True`). The outcome is the same in both unless the table says otherwise. Files are only moved in
workers.

- *All* requests: the request is retried, up to `max_attempts` (5) in total, with exponential backoff or after
  the response's `Retry-After`. If a retry succeeds, the task does not notice. If none does, the last error is
  raised.
- A request times out if connecting takes longer than `timeout` (10) seconds, or if no data arrives for
  `timeout` (60) seconds. In the triggerer, it also times out if the whole response takes longer than a poll
  may. In a worker, only `execution_timeout` limits that.
- A response may be up to 512 MiB after decompression, unless it is a file. A call makes at most 1,000
  requests for pages and redirects, or 10 for a file. The tests lower the limit of 1,000 to 20.
- If a server closes a connection without a response, aiohttp sends a `GET` once more before it counts as
  failed.
- The last column is an excerpt of the error message. The full message says what happened, what to do
  about it, and which request failed.
- No error in this table, no log line about it and no `repr` contains the API key.
- After its first successful poll, a sensor waits out the errors that are retried. See [errors](errors.md).
"""


def text() -> str:
    """Return the page."""
    return INTRODUCTION + "".join(_section(topic, faults) for topic, faults in FAULTS.items())


def _section(topic: str, faults: list[Fault]) -> str:
    lines = [
        "",
        f"## {topic}",
        "",
        "| on the wire | the task sees | requests | the error says |",
        "| --- | --- | --- | --- |",
        *("| " + " | ".join(_cells(fault)) + " |" for fault in faults),
    ]
    return "\n".join(lines) + "\n"


def _cells(fault: Fault) -> list[str]:
    worker = _outcome(fault)
    triggerer = _outcome(replace(fault, **fault.triggerer))
    if not fault.ends_in_worker:
        worker = ("nothing until `execution_timeout`", "1", "")
    if fault.is_transfer:
        triggerer = worker
    return [
        fault.wire,
        *(
            one if one == other else f"{one or 'nothing'}; in the triggerer {other or 'nothing'}"
            for one, other in zip(worker, triggerer, strict=True)
        ),
    ]


def _outcome(fault: Fault) -> tuple[str, str, str]:
    good = {"GET": "the datasets", "download": "the file"}.get(fault.call, "success")
    sees = f"`{fault.sees.__name__}`" if fault.sees else good
    count = "all" if fault.retried else str(fault.requests)
    pause = f", {fault.pause:.0f} s apart" if fault.pause else ""
    return sees, count + pause, fault.says.replace("|", "\\|").replace("<", "&lt;").replace("`", "")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text(), encoding="utf-8")
