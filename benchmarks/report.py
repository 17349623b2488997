"""Write the results: the goals, all tables, a plot and the raw JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

OURS = "faraday"
PEERS = ("dbt-cloud", "http", "fivetran-async", "airbyte")
TRANSFER_GOAL = 0.7

Result = dict[str, Any]

ABOUT_ALL = """\
All providers ran in turn, in one session, against a local server. The ratios are meaningful; the
milliseconds depend on the machine. Requests use plain HTTP unless a row says TLS, which favors providers
that open a new TCP connection for each poll. The peers poll jobs, with responses of less than 600 bytes.
This provider polls lists of datasets, with about 3.5 KB per dataset. Nine of ten datasets are ready, and
every response differs from the previous one."""

ABOUT_IMPORTS = """\
Medians of {children} forked processes per provider. Before that, Airflow's SDK has already loaded {loaded}.
The last column is the cost of each later parse of a DAG file by Airflow 3's DAG processor. It imports
modules below `airflow.` before it forks, so they cost almost nothing. Packages outside of that namespace
(this one and fivetran-async) are imported again in every parse."""

ABOUT_WAITING = """\
Each row is one process with one event loop. CPU is the CPU time of the process per round, in which every
waiter gets one update. Lag is the delay of a timer that ticks every 10 ms; a long block counts once for
every tick that it delays. Lag and CPU are measured separately. Memory is the growth of the process from a
triggerer without triggers, and includes the provider's imports. All triggers start at once, as after a
restart of the triggerer. airbyte's trigger blocks the event loop while its service responds, which takes
well below a millisecond here."""

ABOUT_UPSTREAM = """\
Triggers with `include_upstream=True`, each with its own `updated_after`, wait for one of 20 targets of an
account whose dependency graph has 5,000 edges. All targets wait for one cohort."""

ABOUT_UNLIKE = """\
Triggers that wait for one list of 100 datasets, each with its own `updated_after`. In a response that
changes, one number of one dataset does. Time to judge is from the first to the last waiter's verdict in a
round. Memory is per waiter, without imports."""

ABOUT_READY = """\
40 triggers wait for 40 different lists of 100 datasets, or 40 different jobs. These become ready at times
spread evenly between two polls, so polling alone takes half an interval on average."""

ABOUT_TRIGGERER = """\
This runs `airflow triggerer` with a SQLite metadata database, a DAG run with deferred tasks, TLS and
Airflow's default logging. This provider waits for one list of 100 datasets. In the row `no polling`, the
triggers only wait for a point in time."""

ABOUT_RESUMED = """\
The same triggerers, from the moment at which the list or job becomes ready until Airflow has scheduled the
tasks again. The providers take turns. In each of {rounds} rounds, all tasks defer again, and a new list or
job becomes ready at another moment, counted from the first request of a round of polls. The moments are
spread evenly over the interval and are the same for both. The table shows the median (fastest to slowest).
This provider's tasks share a poll, so that Airflow gets all their events at once and stores them one after
another. The other provider's polls are spread over the interval, so that its first tasks resume sooner."""

ABOUT_RESUMED_TASK = """\
A resumed task requests its list once more, for its XCom and because a resource may be building again. Each
row is the median of forked processes that have loaded Airflow and the sensor, as a task's process has. CPU
is that of importing `requests` and the rest, of looking up the Airflow connection (from an environment
variable), requesting the list over TLS and judging it, and of Airflow's serialization of the XCom."""

ABOUT_WEBHOOKS = """\
In one Airflow with SQLite and LocalExecutor: {samples} builds for each row, spread evenly over {interval:g}
seconds. A webhook or a watcher creates an asset event, which starts a DAG run. A deferred sensor resumes,
and the next task of its DAG starts. By webhook, Airflow's scheduler takes most of the time."""

ABOUT_TRANSFERS = """\
Medians of {rounds} transfers of a file of {gigabytes:g} GB of random bytes, from and to the local disk, in
turn with curl. Each transfer runs twice, and the second one counts: in a virtual machine, writing to memory
that another process has used can take eight times as long. The server runs on the same machine and shares its
cores. It does not store uploads, so for those, curl is as fast as memory. This provider also computes the MD5
of the file while it is sent or received: curl followed by `md5sum` does the same work. MD5 cannot use more
than one core, so this provider cannot be faster than `MD5 alone`. Peak memory is the growth of the process,
without its imports; for curl, it is the whole process."""


class Rounds(NamedTuple):
    """What several rounds took, in seconds."""

    median: float
    fastest: float
    slowest: float


class Results:
    """All measurements, with methods to select some."""

    def __init__(self, results: list[Result]) -> None:
        self.all = results

    def of(self, kind: str, **wanted: Any) -> list[Result]:
        """Return the measurements of a kind that have these values, in the order of measurement."""
        return [
            one
            for one in self.all
            if one["kind"] == kind and all(one.get(key) == value for key, value in wanted.items())
        ]

    def waiting(self, subject: str, waiters: int, **wanted: Any) -> Result:
        """Return one measurement; by default over plain HTTP, with all triggers started at once."""
        return self.of(
            "waiting",
            **({"tls": False, "spread": False, "lists": 1, "changing": True} | wanted),
            subject=subject,
            waiters=waiters,
        )[0]

    def resumed(self, subject: str, key: str) -> Rounds:
        """Return how long it took in each round until so many tasks had resumed."""
        taken = [one[key] for one in self.of("resumed", subject=subject)]
        return Rounds(median(taken), min(taken), max(taken))

    def transfer(self, subject: str, like: Result) -> Result:
        """Return what another subject took for the same transfer."""
        (found,) = self.of("transfer", subject=subject, direction=like["direction"], tls=like["tls"])
        return found

    def speed(self, one: Result) -> float:
        """Return the speed of a transfer, compared to that of curl alone."""
        ratio: float = one["mb_per_s"] / self.transfer("curl", one)["mb_per_s"]
        return ratio


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def number(value: float) -> str:
    """Format a number with three significant digits."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _goal(reached: bool) -> str:
    return "reached" if reached else "**not reached**"


def figures(results: Results, waiters: int) -> str:
    """Return the table of goals, with the ratios of this run."""
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
    # The peers' responses never change.
    same = results.waiting(OURS, waiters, size=5, lists=waiters, changing=False)
    import_ratio = imports["airbyte"]["ms"] / imports[OURS]["ms"]
    libraries = imports[OURS]["http_libraries"]
    transfers = results.of("transfer", subject=OURS)
    peak = max(one["peak_mb"] for one in transfers)
    resumed = results.of("resumed", subject=OURS)
    tasks, rounds = resumed[0]["waiters"], len(resumed)

    def poll_row(what: str, ours: Result) -> tuple[str, str, str, str]:
        ratio = dbt["cpu_ms_per_poll"] / ours["cpu_ms_per_poll"]
        return (
            f"CPU per poll, {waiters} triggers waiting for {waiters} {what} lists of 5",
            f"dbt-cloud {number(dbt['cpu_ms_per_poll'])} ms; {poll_name} {number(poll_best)} ms",
            "≤ 1/2 of dbt-cloud's",
            f"{number(ours['cpu_ms_per_poll'])} ms, 1/{ratio:.1f} of dbt-cloud's, "
            f"1/{poll_best / ours['cpu_ms_per_poll']:.1f} of {poll_name}'s: {_goal(ratio >= 2)}",
        )

    def resumed_row(share: str, key: str) -> tuple[str, str, str, str]:
        ours, peer = (results.resumed(name, key) for name in (OURS, "dbt-cloud"))
        return (
            f"from ready to {share} of {tasks} tasks resumed, median of {rounds} rounds",
            f"dbt-cloud {peer.median:.1f} s",
            "≤ dbt-cloud's",
            f"{ours.median:.1f} s: {_goal(ours.median <= peer.median)}",
        )

    builds = {one["subject"]: one for one in results.of("build_to_run")}
    webhook, watcher, sensor = (builds[name] for name in ("webhook", "watcher", "sensor"))
    rows = [
        (
            f"requests per interval, {waiters} sensors waiting for one list",
            number(best("requests_per_interval", one)[1]),
            "1",
            f"{number(requests)}: {_goal(round(requests, 1) <= 1)}",
        ),
        (
            f"new TCP connections per interval after the first, {waiters} triggers",
            per_peer("connections_per_interval"),
            "0",
            f"{number(opened)}: {_goal(opened == 0)}",
        ),
        (
            f"CPU per interval, {waiters} triggers waiting for one list of 100",
            f"dbt-cloud {number(dbt['cpu_ms_per_interval'])} ms; {cpu_name} {number(cpu_best)} ms",
            "≤ 1/20 of dbt-cloud's",
            f"{number(ours['cpu_ms_per_interval'])} ms, 1/{cpu_ratio:.0f} of dbt-cloud's, "
            f"1/{cpu_best / ours['cpu_ms_per_interval']:.0f} of {cpu_name}'s: {_goal(cpu_ratio >= 20)}",
        ),
        poll_row("unchanged", same),
        poll_row("changing", own),
        (
            f"event loop lag p99, {waiters} triggers waiting for one list of 100",
            f"{lag_name} {number(lag_best)} ms; " + per_peer("lag_ms_p99") + " ms",
            "≤ 20 ms",
            f"{number(ours['lag_ms_p99'])} ms (max {number(ours['lag_ms_max'])}): "
            f"{_goal(ours['lag_ms_p99'] <= 20)}",
        ),
        *_news_goals(results),
        resumed_row("half", "half_s"),
        resumed_row("all", "last_s"),
        (
            "import of operators and sensors",
            f"{import_name} {number(import_best)} ms",
            "≤ 1/6 of airbyte's, no HTTP library",
            f"{number(imports[OURS]['ms'])} ms, 1/{import_ratio:.0f} of airbyte's; loads "
            f"{', '.join(libraries) or 'none'}: {_goal(import_ratio >= 6 and not libraries)}",
        ),
        (
            "from Faraday's build to a started DAG run (median)",
            f"sensor, every {number(sensor['interval'])} s: {number(sensor['median_s'])} s; "
            f"watcher, every {number(watcher['interval'])} s: {number(watcher['run_median_s'])} s",
            "≤ 3 s by webhook",
            f"{number(webhook['run_median_s'])} s by webhook: {_goal(webhook['run_median_s'] <= 3)}",
        ),
        *(_transfer_goal(results, one) for one in transfers),
        (
            "peak memory of a transfer",
            "",
            "≤ 64 MB",
            f"{number(peak)} MB: {_goal(peak <= 64)}",
        ),
    ]
    return table(("metric", "peers", "goal", "this provider"), rows)


def _news_goals(results: Results) -> list[tuple[str, str, str, str]]:
    """Return the goals for polls that bring nothing new, and for those that do."""
    single = results.waiting(OURS, 1, size=1000, changing=False)["cpu_ms_per_poll"]
    peer = results.waiting("dbt-cloud", 1)["cpu_ms_per_poll"]
    unchanged, changed = (results.of("unlike", changing=changing)[0] for changing in (False, True))
    waiters = f"{unchanged['waiters']:,} waiters with criteria that differ, one list of 100"
    most = max(one["lists"] for one in results.of("waiting", subject=OURS))
    lists = results.waiting(OURS, most, size=5, lists=most)["lag_ms_p99"]
    return [
        (
            "CPU per poll, one waiter on an unchanged list of 1,000",
            f"dbt-cloud {number(peer)} ms for one job",
            "≤ dbt-cloud's",
            f"{number(single)} ms: {_goal(single <= peer)}",
        ),
        (
            f"{waiters}, unchanged: CPU per interval, lag p99",
            "",
            "≤ 100 ms, ≤ 20 ms",
            f"{number(unchanged['cpu_ms_per_interval'])} ms, {number(unchanged['lag_ms_p99'])} ms: "
            f"{_goal(unchanged['cpu_ms_per_interval'] <= 100 and unchanged['lag_ms_p99'] <= 20)}",
        ),
        (
            f"{waiters}, changed: time to judge, longest hold",
            "",
            "≤ 1 s, ≤ 50 ms",
            f"{number(changed['seconds_to_judge'])} s, {number(changed['lag_ms_max'])} ms: "
            f"{_goal(changed['seconds_to_judge'] <= 1 and changed['lag_ms_max'] <= 50)}",
        ),
        (
            "memory per waiter with criteria that differ",
            "34 KB in an earlier version of this provider",
            "≤ 17 KB",
            f"{number(unchanged['kb_per_waiter'])} KB: {_goal(unchanged['kb_per_waiter'] <= 17)}",
        ),
        (
            f"event loop lag p99, {most:,} triggers that start together, each on its own list",
            "",
            "≤ 20 ms",
            f"{number(lists)} ms: {_goal(lists <= 20)}",
        ),
    ]


def _transfer_goal(results: Results, one: Result) -> tuple[str, str, str, str]:
    curl, hashed, md5 = (
        results.transfer(subject, one) for subject in ("curl", "curl, then md5sum", "MD5 alone")
    )
    ratio = results.speed(one)
    bound = f"; MD5 alone {results.speed(md5):.2f}" if ratio < TRANSFER_GOAL else ""
    return (
        f"{_transfer(one)}, {number(one['megabytes'] / 1000)} GB",
        f"curl {number(curl['mb_per_s'])} MB/s; with md5sum {number(hashed['mb_per_s'])} MB/s",
        f"≥ {TRANSFER_GOAL} of curl's speed",
        f"{number(one['mb_per_s'])} MB/s, {ratio:.2f} of curl's{bound}; "
        f"{one['mb_per_s'] / hashed['mb_per_s']:.2f} with md5sum: {_goal(ratio >= TRANSFER_GOAL)}",
    )


def _transfer(one: Result) -> str:
    return f"{one['direction']}, {'HTTPS' if one['tls'] else 'HTTP'}"


def import_table(results: Results) -> str:
    """Return the table of import times."""
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
        watched = "different jobs" if one["lists"] > 1 else "one job"
    elif one["lists"] > 1:
        watched = f"different lists of {one['size']:,}"
    else:
        watched = f"one list of {one['size']:,}"
    said = {
        "TLS": one["tls"],
        "starts spread over the interval": one["spread"],
        "unchanged": not one["changing"],
    }
    how = [word for word, on in said.items() if on]
    return watched + (f" ({', '.join(how)})" if how else "")


def waiting_table(results: list[Result]) -> str:
    """Return the table of what waiting costs."""
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
        "waiting for",
        "interval (s)",
        "CPU ms / interval",
        "CPU ms / waiter / interval",
        "lag p50 ms",
        "lag p99 ms",
        "lag max ms",
        "memory MB",
        "requests / interval",
        "TCP connections / interval",
        "Airflow connection lookups / interval",
        "lookups at start",
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
        ("provider", "waiters", "interval (s)", "time to the last event (s)"),
        (
            (one["subject"], f"{one['waiters']:,}", number(one["interval"]), f"{one['last_s']:.2f}")
            for one in results.of("all_to_event")
        ),
    )
    return f"{ready}\n\nAll triggers wait for the same list or job, and start at once:\n\n{together}"


def _triggerer(results: Results) -> str:
    taken = results.of("triggerer")
    idle = next((one["cpu_ms_per_interval"] for one in taken if one["subject"] == "no polling"), None)
    return table(
        (
            "provider",
            "waiters",
            "interval (s)",
            "CPU ms / interval, all processes",
            "compared to no polling",
            "requests / interval",
            "TCP connections / interval",
            "memory MB (USS)",
            "logs KB",
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
            )
            for one in taken
        ),
    )


def _resumed(results: Results) -> str:
    def seconds(subject: str, key: str) -> str:
        rounds = results.resumed(subject, key)
        return f"{rounds.median:.1f} ({rounds.fastest:.1f} to {rounds.slowest:.1f})"

    last_rounds = {one["subject"]: one for one in results.of("resumed")}
    return table(
        ("provider", "tasks", "interval (s)", "until half have resumed (s)", "until all have resumed (s)"),
        (
            (
                subject,
                one["waiters"],
                number(one["interval"]),
                seconds(subject, "half_s"),
                seconds(subject, "last_s"),
            )
            for subject, one in last_rounds.items()
        ),
    )


def _resumed_tasks(results: Results) -> str:
    return table(
        (
            "datasets",
            "XCom",
            "requests",
            "response KB",
            "CPU ms: import",
            "CPU ms: lookup, request and verdict",
            "CPU ms: XCom",
            "XCom KB",
        ),
        (
            (
                f"{one['size']:,}",
                f"{one['fields']} fields" if one["fields"] else "the default",
                number(one["requests"]),
                number(one["bytes_sent"] / 1000),
                *(number(one[key]) for key in ("import_ms", "resume_ms", "xcom_ms")),
                number(one["xcom_bytes"] / 1000),
            )
            for one in results.of("resumed_task")
        ),
    )


def about_line(about: dict[str, Any]) -> str:
    """Return one line with the command, the machine and all versions."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
    return (
        f"`{about['command']}` on {about['date']}, {about['minutes']} minutes: {about['cores']} cores "
        f"({about['system']}), Python {about['python']}, Airflow {about['airflow']}, {versions}; {libraries}."
    )


def write(directory: Path, about: dict[str, Any], measured: list[Result]) -> None:
    """Write results.md, results.json and the plots."""
    directory.mkdir(exist_ok=True)
    results = Results(measured)
    most = 500 if results.of("waiting", waiters=500) else 100
    plain = results.of("waiting", tls=False, spread=False, changing=True)
    special = [one for one in results.of("waiting") if one not in plain]
    sizes = results.of("xcom")[0]
    imports = results.of("import")[0]
    sections = [
        "# Comparison with other providers",
        about_line(about),
        ABOUT_ALL,
        figures(results, most),
        "![CPU time per interval by number of triggers and by list size](cost.png)",
        "## Import of operators and sensors, in addition to `airflow.sdk`",
        ABOUT_IMPORTS.format(
            children=imports["children"],
            loaded=", ".join(imports["http_libraries_of_airflow_sdk"]) or "no HTTP library",
        ),
        import_table(results),
        "## Waiting",
        ABOUT_WAITING,
        waiting_table(plain),
        *(
            [
                "With TLS, starts spread over the interval, or responses that do not change:",
                waiting_table(special),
            ]
            if special
            else []
        ),
        "## One large list",
        table(
            (
                "datasets",
                "MB",
                "polls",
                "CPU ms / poll (includes measuring lag)",
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
        "## Everything upstream",
        ABOUT_UPSTREAM,
        table(
            (
                "waiters",
                "interval (s)",
                "requests / interval",
                "CPU ms / interval",
                "lag p99 ms",
                "lag max ms",
            ),
            (
                [
                    number(one[key])
                    for key in (
                        "waiters",
                        "interval",
                        "requests_per_interval",
                        "cpu_ms_per_interval",
                        "lag_ms_p99",
                        "lag_ms_max",
                    )
                ]
                for one in results.of("upstream")
            ),
        ),
        "## Many waiters with criteria that differ",
        ABOUT_UNLIKE,
        table(
            (
                "waiters",
                "responses",
                "interval (s)",
                "requests / interval",
                "verdicts / interval",
                "time to judge (s)",
                "CPU ms / interval",
                "lag p99 ms",
                "lag max ms",
                "KB / waiter",
            ),
            (
                (
                    f"{one['waiters']:,}",
                    "change" if one["changing"] else "do not change",
                    *(
                        number(one[key])
                        for key in (
                            "interval",
                            "requests_per_interval",
                            "judged_per_interval",
                            "seconds_to_judge",
                            "cpu_ms_per_interval",
                            "lag_ms_p99",
                            "lag_ms_max",
                            "kb_per_waiter",
                        )
                    ),
                )
                for one in results.of("unlike")
            ),
        ),
        "## Time from ready to the trigger's event",
        ABOUT_READY,
        _spans(results),
        "## In a real triggerer",
        ABOUT_TRIGGERER,
        _triggerer(results),
        "## From ready to resumed",
        ABOUT_RESUMED.format(rounds=len(results.of("resumed", subject=OURS))),
        _resumed(results),
        "## What a resumed task costs",
        ABOUT_RESUMED_TASK,
        _resumed_tasks(results),
        "## From Faraday's build to a started DAG run",
        ABOUT_WEBHOOKS.format(
            samples=results.of("build_to_run")[0]["samples"],
            interval=results.of("build_to_run", subject="watcher")[0]["interval"],
        ),
        table(
            ("how", "interval (s)", "DAG run: median (s)", "max (s)", "task: median (s)", "max (s)"),
            (
                (
                    one["subject"],
                    number(one["interval"]) if one["interval"] else "",
                    *(f"{one[key]:.1f}" if key in one else "" for key in ("run_median_s", "run_max_s")),
                    *(f"{one[key]:.1f}" for key in ("median_s", "max_s")),
                )
                for one in results.of("build_to_run")
            ),
        ),
        "## Transfers",
        ABOUT_TRANSFERS.format(
            gigabytes=results.of("transfer")[0]["megabytes"] / 1000,
            rounds=results.of("transfer")[0]["rounds"],
        ),
        "![Speed of transfers, and of curl](transfers.png)",
        table(
            (
                "transfer",
                "subject",
                "MB/s (median)",
                "slowest, fastest",
                "compared to curl",
                "peak memory MB",
            ),
            (
                (
                    _transfer(one),
                    one["subject"],
                    number(one["mb_per_s"]),
                    f"{number(one['slowest_mb_per_s'])}, {number(one['fastest_mb_per_s'])}",
                    f"{results.speed(one):.2f}",
                    number(one["peak_mb"]) if one["peak_mb"] else "",
                )
                for one in results.of("transfer")
            ),
        ),
        "## XCom",
        table(
            ("100 datasets", "bytes"),
            (
                ("all fields", f"{sizes['as_faraday_sends_them']:,}"),
                ("all fields except `sample` (the default)", f"{sizes['without_sample']:,}"),
                (f"`fields={list(sizes['fields'])}`", f"{sizes['six_fields']:,}"),
            ),
        ),
    ]
    (directory / "results.md").write_text("\n\n".join(sections) + "\n")
    (directory / "results.json").write_text(
        json.dumps({"about": about, "results": measured}, indent=1) + "\n"
    )
    plot(directory / "cost.png", about, plain)
    plot_transfers(directory / "transfers.png", about, results)


def plot(path: Path, about: dict[str, Any], plain: list[Result]) -> None:
    """Plot the CPU time by number of waiters and by list size."""
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
    line(left, own, "faraday, different lists of 5", color="#08519c", linestyle=":", linewidth=2)
    for waiters, color in ((1000, "#08519c"), (500, "#4292c6"), (1, "#9ecae1")):
        mine = [
            (one["size"], one["cpu_ms_per_interval"])
            for one in ours
            if one["waiters"] == waiters and one["lists"] == 1
        ]
        line(right, mine, f"{waiters:,} waiting" if waiters > 1 else "1 waiting", color=color, linewidth=2)
    left.set(xlabel="triggers waiting", ylabel="CPU ms per interval", title="By number of triggers")
    right.set(
        xlabel="datasets in the list", ylabel="CPU ms per interval", title="By list size (faraday, one list)"
    )
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=7)
    versions = ", ".join(
        f"{name.removeprefix('apache-airflow-providers-').removeprefix('airflow-provider-')} {version}"
        for name, version in about["versions"].items()
    )
    _save(figure, path, about, versions)


def plot_transfers(path: Path, about: dict[str, Any], results: Results) -> None:
    """Plot the speed of transfers beside that of curl."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    kinds = results.of("transfer", subject=OURS)
    subjects = list(dict.fromkeys(one["subject"] for one in results.of("transfer")))
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    width = 0.8 / len(subjects)
    for column, (subject, color) in enumerate(
        zip(subjects, ("#08519c", "#e07b39", "#f2b58c", "#bbbbbb"), strict=True)
    ):
        left = [row + (column - (len(subjects) - 1) / 2) * width for row in range(len(kinds))]
        speeds = [results.transfer(subject, kind)["mb_per_s"] for kind in kinds]
        axes.bar_label(
            axes.bar(left, speeds, width, label=subject, color=color), fmt="%.0f", fontsize=7, padding=1
        )
    for row, kind in enumerate(kinds):
        goal = TRANSFER_GOAL * results.transfer("curl", kind)["mb_per_s"]
        axes.plot((row - 0.45, row + 0.45), (goal, goal), color="black", linewidth=1, linestyle=":")
    axes.plot((), (), color="black", linewidth=1, linestyle=":", label=f"goal: {TRANSFER_GOAL} of curl")
    axes.set(ylabel="MB/s", xticks=range(len(kinds)), title=f"{number(kinds[0]['megabytes'] / 1000)} GB")
    axes.set_xticklabels([_transfer(kind) for kind in kinds])
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=7)
    _save(figure, path, about, f"faraday {about['versions']['airflow-provider-faraday']}")


def _save(figure: Any, path: Path, about: dict[str, Any], versions: str) -> None:
    """Save a plot with the command, the machine and the versions below it."""
    from matplotlib import pyplot as plt

    figure.supxlabel(
        f"{about['command']}, {about['date']}: {about['cores']} cores, Python {about['python']}, "
        f"Airflow {about['airflow']}; {versions}",
        fontsize=6.5,
    )
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
