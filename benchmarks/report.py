"""Writes what was measured: a table of the figures to reach, all tables, the raw JSON and a plot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

OURS = "faraday"
PEERS = ("dbt-cloud", "http", "fivetran-async", "airbyte")

Result = dict[str, Any]

ABOUT_ALL = """\
All ran in one go, in turn, against a local server. Ratios hold; milliseconds depend on the machine. Unless a
row says TLS, everything goes over plain HTTP, which flatters those that open a connection for each poll. The
peers' answers are short (under 600 bytes), a Faraday dataset is about 3.5 KB, nine of ten are ready, and
each answer differs from the one before. The peers have jobs where Faraday has lists: as many triggers poll
one job."""

ABOUT_IMPORTS = """\
Medians of {children} forked children each, in turn. Airflow's own SDK has loaded {loaded} by then. The last
column is what Airflow 3's DAG processor pays in each later parse of a DAG file: before it forks, it imports
what the file names under `airflow.` itself, so that a parse pays nothing for it; packages outside that
namespace (this one, fivetran-async) are imported in every parse."""

ABOUT_WAITING = """\
One event loop per row. CPU is the process's, per round in which each waiter learns once; lag is of a 10 ms
timetable, measured apart from the CPU, and one long block counts for every tick that it delays; memory is
how much the process grew over a triggerer that has no trigger yet, the provider's imports included. All
start together, as after a triggerer restart. airbyte's trigger calls its service synchronously: each poll
holds the loop for as long as the service takes to answer, which here is well below a millisecond."""

ABOUT_READY = """\
40 triggers, each on a list (of 100) or a job of its own, which turn ready evenly spread over the pause
between two polls: half an interval is what polling costs."""

ABOUT_TRIGGERER = """\
`airflow triggerer` with a SQLite metadata database, a DAG run of deferred tasks and their trigger rows, over
TLS, with Airflow's default logging; faraday on one list of 100. "Resumed" is the task leaving the state
deferred. Where a row says `no polling`, its triggers only wait for a time."""


class Results:
    """The measurements, to be asked for by what they are of."""

    def __init__(self, results: list[Result]) -> None:
        self.all = results

    def of(self, kind: str, **wanted: Any) -> list[Result]:
        """Give those of a kind with these values, in the order in which they were measured."""
        return [
            one
            for one in self.all
            if one["kind"] == kind and all(one.get(key) == value for key, value in wanted.items())
        ]

    def waiting(self, subject: str, waiters: int, **wanted: Any) -> Result:
        """Give the plain case: plain HTTP, all started together."""
        return self.of(
            "waiting",
            **({"tls": False, "spread": False, "lists": 1} | wanted),
            subject=subject,
            waiters=waiters,
        )[0]


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Give a markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def number(value: float) -> str:
    """Give a number with three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _met(reached: bool) -> str:
    return "reached" if reached else "**not reached**"


def figures(results: Results, waiters: int) -> str:
    """Give the table of the figures to reach, with ratios from this run."""
    one = {
        name: results.waiting(name, waiters, **({"size": 100} if name == OURS else {}))
        for name in (OURS, *PEERS)
    }
    own = results.waiting(OURS, waiters, size=5, lists=waiters)
    imports = {result["subject"]: result for result in results.of("import")}

    def best(key: str, among: dict[str, Result]) -> tuple[str, float]:
        name = min(PEERS, key=lambda peer: among[peer][key])
        return name, among[name][key]

    def per_peer(key: str) -> str:
        return ", ".join(f"{name} {number(one[name][key])}" for name in PEERS)

    ours = one[OURS]
    dbt = one["dbt-cloud"]
    cpu_name, cpu_best = best("cpu_ms_per_interval", one)
    poll_name, poll_best = best("cpu_ms_per_poll", one)
    lag_name, lag_best = best("lag_ms_p99", one)
    import_name, import_best = best("ms", imports)
    requests = ours["requests_per_interval"]
    opened = max(ours["connections_per_interval"], own["connections_per_interval"])
    cpu_ratio = dbt["cpu_ms_per_interval"] / ours["cpu_ms_per_interval"]
    poll_ratio = dbt["cpu_ms_per_poll"] / own["cpu_ms_per_poll"]
    import_ratio = imports["airbyte"]["ms"] / imports[OURS]["ms"]
    libraries = imports[OURS]["http_libraries"]
    rows = [
        (
            f"requests per interval, {waiters} sensors on one list",
            number(best("requests_per_interval", one)[1]),
            "1",
            f"{number(requests)}: {_met(round(requests, 1) <= 1)}",
        ),
        (
            f"TCP connections opened per interval once running, {waiters} waiting",
            per_peer("connections_per_interval"),
            "0",
            f"{number(opened)}: {_met(opened == 0)}",
        ),
        (
            f"CPU per interval, {waiters} waiting on one list of 100",
            f"dbt-cloud {number(dbt['cpu_ms_per_interval'])} ms; {cpu_name} {number(cpu_best)} ms",
            "≤ 1/20 of dbt-cloud's",
            f"{number(ours['cpu_ms_per_interval'])} ms, 1/{cpu_ratio:.0f} of dbt-cloud's, "
            f"1/{cpu_best / ours['cpu_ms_per_interval']:.0f} of {cpu_name}'s: {_met(cpu_ratio >= 20)}",
        ),
        (
            f"CPU per poll, {waiters} triggers each on a list of its own (5 datasets)",
            f"dbt-cloud {number(dbt['cpu_ms_per_poll'])} ms; {poll_name} {number(poll_best)} ms",
            "≤ 1/2 of dbt-cloud's",
            f"{number(own['cpu_ms_per_poll'])} ms, 1/{poll_ratio:.1f} of dbt-cloud's, "
            f"1/{poll_best / own['cpu_ms_per_poll']:.1f} of {poll_name}'s: {_met(poll_ratio >= 2)}",
        ),
        (
            f"event-loop lag p99, {waiters} waiting on one list of 100",
            f"{lag_name} {number(lag_best)} ms; " + per_peer("lag_ms_p99") + " ms",
            "≤ 20 ms",
            f"{number(ours['lag_ms_p99'])} ms (max {number(ours['lag_ms_max'])}): "
            f"{_met(ours['lag_ms_p99'] <= 20)}",
        ),
        (
            "import of operators + sensors",
            f"{import_name} {number(import_best)} ms",
            "≤ 1/5 of airbyte's; no HTTP library",
            f"{number(imports[OURS]['ms'])} ms, 1/{import_ratio:.0f} of airbyte's; loads "
            f"{', '.join(libraries) or 'none'}: {_met(import_ratio >= 5 and not libraries)}",
        ),
    ]
    return table(("figure", "peers in this run", "reach", "measured"), rows)


def import_table(results: Results) -> str:
    """Give the import costs."""
    return table(
        (
            "provider",
            "ms (median)",
            "ms (fastest)",
            "modules",
            "memory: RSS, USS (MB)",
            "HTTP libraries loaded",
            "ms in later parses",
        ),
        (
            (
                one["subject"],
                number(one["ms"]),
                number(one["ms_fastest"]),
                number(one["modules"]),
                f"{number(one['rss_mb'])}, {number(one['uss_mb'])}",
                ", ".join(one["http_libraries"]) or "none",
                number(one["later_parse_ms"]),
            )
            for one in results.of("import")
        ),
    )


def _what(one: Result) -> str:
    if one["subject"] != OURS:
        watched = "jobs of their own" if one["lists"] > 1 else "one job"
    elif one["lists"] > 1:
        watched = f"lists of their own, {one['size']:,} datasets each"
    else:
        watched = f"one list of {one['size']:,}"
    how = [word for word, on in (("TLS", one["tls"]), ("starts spread out", one["spread"])) if on]
    return watched + (f" ({', '.join(how)})" if how else "")


def waiting_table(results: list[Result]) -> str:
    """Give the costs of waiting."""
    keys = ("cpu_ms_per_interval", "cpu_ms_per_waiter_and_interval", "lag_ms_p50", "lag_ms_p99", "lag_ms_max")
    keys += (
        "memory_mb",
        "requests_per_interval",
        "connections_per_interval",
        "lookups_per_interval",
        "lookups_to_start",
    )
    heads = (
        "waiters",
        "provider",
        "watching",
        "interval (s)",
        "CPU ms / interval",
        "CPU ms / waiter and interval",
        "lag p50 ms",
        "lag p99 ms",
        "lag max ms",
        "memory MB",
        "requests / interval",
        "TCP connections / interval",
        "connection look-ups / interval",
        "look-ups to start",
    )
    return table(
        heads,
        (
            (
                f"{one['waiters']:,}",
                one["subject"],
                _what(one),
                number(one["interval"]),
                *(number(one[key]) for key in keys),
            )
            for one in results
        ),
    )


def _spans(results: Results) -> str:
    ready = table(
        ("provider", "interval (s)", "median (s)", "p90 (s)", "max (s)", "median / interval"),
        (
            (
                one["subject"],
                number(one["interval"]),
                *(f"{one[key]:.2f}" for key in ("median_s", "p90_s", "max_s")),
                f"{one['median_s'] / one['interval']:.2f}",
            )
            for one in results.of("ready_to_event")
        ),
    )
    together = table(
        ("provider", "waiters", "interval (s)", "last event after (s)"),
        (
            (one["subject"], f"{one['waiters']:,}", number(one["interval"]), f"{one['last_s']:.2f}")
            for one in results.of("all_to_event")
        ),
    )
    return f"{ready}\n\nAll waiting for the same, started together:\n\n{together}"


def _triggerer(results: Results) -> str:
    taken = results.of("triggerer")
    idle = next((one["cpu_ms_per_interval"] for one in taken if one["subject"] == "no polling"), None)
    return table(
        (
            "what waits",
            "waiters",
            "interval (s)",
            "CPU ms / interval, all processes",
            "over a triggerer whose triggers only sleep",
            "requests / interval",
            "TCP connections / interval",
            "memory MB (USS)",
            "logs KB",
            "ready to half of the tasks resumed (s)",
            "to the last (s)",
        ),
        (
            (
                one["subject"],
                one["waiters"],
                number(one["interval"]),
                number(one["cpu_ms_per_interval"]),
                "" if idle is None else f"{one['cpu_ms_per_interval'] - idle:+.0f} ms",
                number(one["requests_per_interval"]),
                number(one["connections_per_interval"]),
                number(one["memory_mb"]),
                number(one["log_kb"]),
                f"{one['ready_to_half_resumed_s']:.1f}" if "ready_to_half_resumed_s" in one else "",
                f"{one['ready_to_last_resumed_s']:.1f}" if "ready_to_last_resumed_s" in one else "",
            )
            for one in taken
        ),
    )


def about_line(about: dict[str, Any]) -> str:
    """Say in one line what was measured and on what."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
    return (
        f"`{about['command']}` on {about['date']}, {about['minutes']} minutes: {about['cores']} cores "
        f"({about['system']}), Python {about['python']}, Airflow {about['airflow']}, {versions}; {libraries}."
    )


def write(directory: Path, about: dict[str, Any], taken: list[Result]) -> None:
    """Write results.md, results.json and cost.png."""
    directory.mkdir(exist_ok=True)
    results = Results(taken)
    most = 500 if results.of("waiting", waiters=500) else 100
    plain = results.of("waiting", tls=False, spread=False)
    special = [one for one in results.of("waiting") if one not in plain]
    sizes = results.of("xcom")[0]
    imports = results.of("import")[0]
    sections = [
        "# Side by side with the peers",
        about_line(about),
        ABOUT_ALL,
        figures(results, most),
        "![CPU per interval, by waiters and by datasets in the list](cost.png)",
        "## Import of operators and sensors over `airflow.sdk`",
        ABOUT_IMPORTS.format(
            children=imports["children"],
            loaded=", ".join(imports["http_libraries_of_airflow_sdk"]) or "no HTTP library",
        ),
        import_table(results),
        "## Waiting",
        ABOUT_WAITING,
        waiting_table(plain),
        *(["Over TLS, and with starts spread over the interval:", waiting_table(special)] if special else []),
        "## One large list",
        table(
            (
                "datasets",
                "MB",
                "polls",
                "CPU ms / poll (with the lag's timetable)",
                "lag p99 ms",
                "lag max ms",
                "process RSS MB",
            ),
            (
                (
                    f"{one['datasets']:,}",
                    number(one["megabytes"]),
                    one["polls"],
                    *(number(one[key]) for key in ("cpu_ms_per_poll", "lag_ms_p99", "lag_ms_max", "rss_mb")),
                )
                for one in results.of("large_list")
            ),
        ),
        "## From ready to the trigger's event",
        ABOUT_READY,
        _spans(results),
        "## Inside a real triggerer",
        ABOUT_TRIGGERER,
        _triggerer(results),
        "## XCom",
        table(
            ("100 datasets", "bytes"),
            (
                ("as Faraday sends them", f"{sizes['as_faraday_sends_them']:,}"),
                ("every field but `sample` (the default)", f"{sizes['without_sample']:,}"),
                (f"`fields={list(sizes['fields'])}`", f"{sizes['six_fields']:,}"),
            ),
        ),
    ]
    (directory / "results.md").write_text("\n\n".join(sections) + "\n")
    (directory / "results.json").write_text(json.dumps({"about": about, "results": taken}, indent=1) + "\n")
    plot(directory / "cost.png", about, plain)


def plot(path: Path, about: dict[str, Any], plain: list[Result]) -> None:
    """Draw how cost grows with waiters and with the list."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")

    def line(axes: Any, points: list[tuple[float, float]], label: str, **style: Any) -> None:
        if points:
            axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=4, label=label, **style)

    for peer, color in zip(PEERS, ("#e07b39", "#8c6bb1", "#4a9c5d", "#c0392b"), strict=True):
        mine = [(one["waiters"], one["cpu_ms_per_interval"]) for one in plain if one["subject"] == peer]
        line(left, mine, peer, color=color, linestyle="--")
    ours = [one for one in plain if one["subject"] == OURS]
    for size, color in ((1000, "#9ecae1"), (100, "#4292c6"), (5, "#08519c")):
        mine = [
            (one["waiters"], one["cpu_ms_per_interval"])
            for one in ours
            if one["size"] == size and one["lists"] == 1
        ]
        line(left, mine, f"faraday, one list of {size:,}", color=color, linewidth=2)
    own = [
        (one["waiters"], one["cpu_ms_per_interval"])
        for one in ours
        if one["size"] == 5 and (one["lists"] > 1 or one["waiters"] == 1)
    ]
    line(left, own, "faraday, lists of their own (5)", color="#08519c", linestyle=":", linewidth=2)
    for waiters, color in ((1000, "#08519c"), (500, "#4292c6"), (1, "#9ecae1")):
        mine = [
            (one["size"], one["cpu_ms_per_interval"])
            for one in ours
            if one["waiters"] == waiters and one["lists"] == 1
        ]
        line(right, mine, f"{waiters:,} waiting" if waiters > 1 else "1 waiting", color=color, linewidth=2)
    left.set(xlabel="triggers waiting", ylabel="CPU ms per interval", title="Cost by waiters")
    right.set(xlabel="datasets in the one list", ylabel="CPU ms per interval", title="Cost by list (faraday)")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=7)
    versions = ", ".join(
        f"{name.removeprefix('apache-airflow-providers-').removeprefix('airflow-provider-')} {version}"
        for name, version in about["versions"].items()
    )
    figure.supxlabel(
        f"{about['command']}, {about['date']}: {about['cores']} cores, Python {about['python']}, "
        f"Airflow {about['airflow']}; {versions}",
        fontsize=6.5,
    )
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
