"""Write the results: results.md, results.json and the table of docs/performance.md.

``python benchmarks/report.py`` writes the two pages again from results.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs" / "performance.md"

Measured = Mapping[str, Mapping[str, list[float]]]
"""The values of each run, by case and figure."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the tables.

    :param peer: the case that this one is compared with.
    :param most: what must hold: the figure is at most this; with a peer, at most this times the peer's.
    :param least: likewise, at least this.
    :param absolute: whether the limit is for the figure itself although there is a peer.
    """

    what: str
    case: str
    figure: str
    unit: str = ""
    peer: str | None = None
    most: float = inf
    least: float = -inf
    absolute: bool = False


PEERS = {
    "import of airbyte": "airbyte",
    "500 dbt jobs": "dbt-cloud",
    "one dbt job": "dbt-cloud",
    "download with curl": "curl, then md5sum",
    "upload with curl": "curl, then md5sum",
}

ROWS = (
    Row(
        what="import of operators and sensors",
        case="import",
        figure="ms",
        unit="ms",
        peer="import of airbyte",
        most=1 / 5,
    ),
    Row(what="HTTP libraries that it loads", case="import", figure="http_libraries", most=0),
    Row(
        what="500 sensors wait for one list: requests per interval",
        case="500 on one list",
        figure="requests_per_interval",
        peer="500 dbt jobs",
        most=1,
        absolute=True,
    ),
    Row(
        what="500 sensors wait for one list: CPU time per interval",
        case="500 on one list",
        figure="cpu_ms_per_interval",
        unit="ms",
        peer="500 dbt jobs",
        most=1 / 20,
    ),
    Row(
        what="500 sensors, each with its own list: CPU time per poll",
        case="500 own lists",
        figure="cpu_ms_per_poll",
        unit="ms",
        peer="500 dbt jobs",
        most=2 / 3,
    ),
    Row(
        what="500 sensors, each with its own list: event loop lag, p99",
        case="500 own lists",
        figure="lag_ms_p99",
        unit="ms",
        peer="500 dbt jobs",
        most=50,
        absolute=True,
    ),
    Row(
        what="one sensor waits for 1,000 datasets: CPU time per poll",
        case="one large list",
        figure="cpu_ms_per_poll",
        unit="ms",
        peer="one dbt job",
        most=2,
    ),
    Row(
        what="10,000 sensors with different criteria, no changes: CPU time per interval",
        case="unlike criteria",
        figure="cpu_ms_per_interval",
        unit="ms",
        most=100,
    ),
    Row(
        what="10,000 sensors with different criteria, a change: time to evaluate all",
        case="unlike criteria, changing",
        figure="seconds_to_judge",
        unit="s",
        most=2,
    ),
    Row(
        what="10,000 sensors with different criteria, a change: longest hold of the event loop",
        case="unlike criteria, changing",
        figure="hold_ms",
        unit="ms",
        most=50,
    ),
    Row(
        what="1,000 sensors with `include_upstream`, 5,000 edges: requests per interval",
        case="graph",
        figure="requests_per_interval",
        most=2,
    ),
    Row(
        what="1,000 sensors with `include_upstream`, a change: longest hold of the event loop",
        case="graph",
        figure="hold_ms",
        unit="ms",
        most=50,
    ),
    Row(
        what="the same, with 400 times in `updated_after`",
        case="graph, 400 times",
        figure="hold_ms",
        unit="ms",
        most=50,
    ),
    Row(
        what="download of 1 GB, with its MD5",
        case="download",
        figure="mb_per_s",
        unit="MB/s",
        peer="download with curl",
        least=1,
    ),
    Row(
        what="upload of 1 GB, with its MD5",
        case="upload",
        figure="mb_per_s",
        unit="MB/s",
        peer="upload with curl",
        least=1,
    ),
    Row(what="memory for a download of 1 GB", case="download", figure="peak_mb", unit="MB", most=64),
    Row(what="memory for an upload of 1 GB", case="upload", figure="peak_mb", unit="MB", most=64),
    Row(
        what="from a build in Faraday to the DAG run that its webhook starts",
        case="webhook",
        figure="seconds",
        unit="s",
        most=3,
    ),
)

PAGE = """\
# Benchmark results

Written by `make bench` on {date}, in {minutes} minutes. {machine}. {versions}.

{table}

Figures are medians of up to 15 runs, with the lowest and highest value in brackets. Cases that are compared
run in turn, in one session. A ratio is the median of the ratios of neighboring runs. Ratios are meaningful;
milliseconds depend on the machine.

- **Imports** are in forked processes that have loaded Airflow's SDK. Airflow 3 imports modules below
  `airflow.` once, before it parses DAG files. The peer is such a module. This provider is not, so it is
  imported again in every parse.
- **Waiting**: each case is a process with one event loop. The HTTP server is local. CPU time is that of the
  process, per round of polls. All triggers start at once, as after a restart of the triggerer, and poll
  every 3 seconds; single ones poll every second. The first two rounds do not count. The peer polls jobs, with
  responses of less than 600 bytes that do not change. This provider polls lists with 3.5 KB per dataset: one
  list of 100 that changes with every response, 500 lists of 5, or one list of 1,000. The latter do not
  change, like the peer's jobs.
- **Lag** is the delay of a timer that ticks every 10 ms. A long hold counts once for every tick that it
  delays. The longest hold is the longest delay.
- **Different criteria**: one list of 100, and an `updated_after` for each sensor. After a change of one
  dataset, all sensors are evaluated. The time is from the first verdict to the last.
- **Upstream**: 20 targets of an account whose dependency graph has 5,000 edges, and an `updated_after` for
  each sensor. Every response has a new build of a cohort that all targets depend on.
- **Transfers** use HTTPS, random bytes and the local disk. The server shares the machine and does not store
  uploads. Each transfer runs twice, and the second one counts: in a virtual machine, writing to memory that
  another process has used can take eight times as long. Memory is the growth of the process.
- **Webhooks**: one Airflow with SQLite and LocalExecutor. The scheduler takes most of the time.
"""


def needed(measured: Measured) -> Measured:
    """Return the values that the tables need, with four significant digits."""
    figures: dict[str, dict[str, list[float]]] = {}
    for row in ROWS:
        for case in filter(None, (row.case, row.peer)):
            values = [float(f"{value:.4g}") for value in measured[case][row.figure]]
            figures.setdefault(case, {})[row.figure] = values
    return figures


def write(results: dict[str, Any]) -> None:
    """Write the results, and replace the table of docs/performance.md."""
    about, measured = results["about"], results["measured"]
    cases = ",\n".join(f"  {json.dumps(case)}: {json.dumps(figures)}" for case, figures in measured.items())
    text = f'{{\n "about": {json.dumps(about)},\n "measured": {{\n{cases}\n }}\n}}\n'
    (RESULTS / "results.json").write_text(text)
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    page = PAGE.format(**about | {"versions": versions, "table": results_table(measured)})
    (RESULTS / "results.md").write_text(page)
    before, begin, rest = DOCS.read_text().partition("<!-- make bench writes this table -->")
    _, end, after = rest.partition("<!-- end of the table -->")
    DOCS.write_text(f"{before}{begin}\n\n{docs_table(measured)}\n\n{end}{after}")


def results_table(measured: Measured) -> str:
    """Return the table of results.md, with the peers' names, and whether what must hold does."""
    rows = []
    for row in ROWS:
        ours = measured[row.case][row.figure]
        peer = measured[row.peer][row.figure] if row.peer else []
        ratio = median(one / other for one, other in zip(ours, peer, strict=True)) if peer else None
        value, unit = median(ours), row.unit
        if ratio is not None and not row.absolute:
            value, unit = ratio, "times the peer's"
        limit = f"≤ {_number(row.most)}" if row.most < inf else f"≥ {_number(row.least)}"
        rows.append(
            (
                row.what,
                f"{PEERS[row.peer]}: {_range(peer)} {row.unit}" if row.peer else "",
                f"{_range(ours)} {row.unit}",
                _number(ratio) if ratio is not None else "",
                f"{limit} {unit}",
                "holds" if row.least <= value <= row.most else "**misses**",
            )
        )
    return _table(("what", "peer", "this provider", "ratio", "must hold", ""), rows)


def docs_table(measured: Measured) -> str:
    """Return the table of docs/performance.md."""
    rows = [
        (
            row.what,
            f"{_number(median(measured[row.peer][row.figure]))} {row.unit}" if row.peer else "",
            f"{_number(median(measured[row.case][row.figure]))} {row.unit}",
        )
        for row in ROWS
    ]
    return _table(("what", "another provider, or curl and md5sum", "this provider"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.strip() for cell in line) + " |" for line in lines)


def _range(values: Sequence[float]) -> str:
    lowest, highest = _number(min(values)), _number(max(values))
    between = f" ({lowest} to {highest})" if lowest != highest else ""
    return _number(median(values)) + between


def _number(value: float) -> str:
    """Format a number with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    write(json.loads((RESULTS / "results.json").read_text()))
