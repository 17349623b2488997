"""README and docs: links work, tables are complete, and everything they mention exists."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowOptionalProviderFeatureException
from airflow.providers.common.compat import sdk
from airflow.providers.common.compat.sdk import conf
from markdown_it import MarkdownIt

import airflow_provider_faraday
from airflow_provider_faraday import exceptions, pytest_plugin
from airflow_provider_faraday.compat import has_asset_watchers
from airflow_provider_faraday.get_provider_info import get_provider_info
from support import markdown_pages
from support.markdown_pages import PAGES, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from support.markdown_pages import Table

# Airflow's names that `common.compat.sdk` does not have, and an exception of Airflow 2.
AIRFLOW_NAMES = {
    "AirflowTaskTimeout",
    "AssetWatcher",
    "HttpSensor",
    "SQLExecuteQueryOperator",
    "expand",
    "partial",
    "ref",
    "test",
}

# For contributors: this page may mention every name of the package. The others may mention public ones only.
ARCHITECTURE = "docs/architecture.md"


def is_ours(thing: Any) -> bool:
    return getattr(thing, "__module__", "").startswith("airflow_provider_faraday")


def names_in(modules: list[str]) -> dict[str, Any]:
    """Return the classes and functions of modules by name, without private ones."""
    return {
        name: value
        for module in modules
        for name, value in vars(importlib.import_module(module)).items()
        if is_ours(value) and not name.startswith("_")
    }


def public_modules() -> list[str]:
    """Return the modules whose names users import."""
    info = get_provider_info()
    described = [
        module
        for kind in ("hooks", "operators", "sensors", "triggers")
        for entry in info[kind]
        for module in entry["python-modules"]
    ]
    described += [entry["python-module"] for entry in info["transfers"]]
    others = ("assets.datasets", "assets.resources", "exceptions")
    sandbox = ("sandbox.server", "sandbox.control", "sandbox.faults")
    return [*described, *(f"airflow_provider_faraday.{module}" for module in (*others, *sandbox))]


def all_modules() -> list[str]:
    found = pkgutil.walk_packages(airflow_provider_faraday.__path__, "airflow_provider_faraday.")
    # Airflow 2 has no API server to receive webhooks.
    skipped = ("__main__",) if has_asset_watchers() else ("__main__", "announcements", "receiver")
    return [module.name for module in found if not module.name.endswith(skipped)]


NAMES = names_in(public_modules())


def tables(first: str) -> list[Table]:
    """Return the tables whose first column has this header."""
    return [table for page in PAGES.values() for table in page.tables if table.header[0] == first]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize(
    "path",
    [*(ROOT / name for name in PAGES), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_local_links_work(path: Path) -> None:
    def is_broken(link: str) -> bool:
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        return not target.exists() or bool(anchor and anchor not in markdown_pages.read(target).anchors)

    local = [link for link in markdown_pages.read(path).links if not link.startswith("https://")]
    assert [link for link in local if is_broken(link)] == []


def test_every_page_is_in_the_tables_of_contents() -> None:
    """They are also the navigation of the site."""
    contents = PAGES["docs/README.md"]
    rows = [row for table in contents.tables if table.header == ["page", "contents"] for row in table.rows]
    listed = [re.fullmatch(r"\[.+\]\((.+)\)", row[0])[1] for row in rows]

    assert len(listed) == len(set(listed))
    assert {(ROOT / "docs" / path).resolve() for path in listed} >= {
        ROOT / name for name in PAGES.keys() - {"README.md", "docs/README.md"}
    }


@pytest.mark.parametrize("name", PAGES)
def test_lists_and_tables_follow_an_empty_line(name: str) -> None:
    """GitHub does not need it, but the site does."""
    lines = ["", *(ROOT / name).read_text().splitlines()]
    tokens = MarkdownIt("commonmark").enable("table").parse("\n".join(lines[1:]))
    openings = [t for t in tokens if t.type.endswith(("list_open", "table_open")) and t.level == 0]
    assert [lines[t.map[0] + 1] for t in openings if lines[t.map[0]].strip()] == []
    # Python-Markdown takes fewer than four spaces for the same level.
    nested = [t for t in tokens if t.type.endswith("list_open") and t.level > 0]
    assert [lines[t.map[0] + 1] for t in nested if not lines[t.map[0] + 1].startswith("    ")] == []


def message_templates() -> list[str]:
    """Return the texts in the package, with ``\0`` in place of everything that is filled in."""
    texts = []
    for path in sorted((ROOT / "airflow_provider_faraday").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%(s|d|\.\df)|\{\w*\}", "\0", node.value))
    return texts


def test_the_messages_in_troubleshooting_exist() -> None:
    templates = message_templates()
    messages = [span for table in tables("message") for row in table.rows for span in spans(row[0])]

    def exists(message: str) -> bool:
        # `…` and the status of a response stand for what is filled in.
        parts = re.split(r"…|\b\d{3}\b", message.strip("… "))
        pattern = re.compile(".*?".join(map(re.escape, parts)), re.DOTALL)
        return any(pattern.search(text) for text in templates)

    assert len(messages) > 25
    assert [message for message in messages if not exists(message)] == []


def test_airflows_messages_in_troubleshooting_are_exact() -> None:
    (table,) = tables("Airflow's message")
    quoted = [re.sub("^`+|`+$", "", row[0]) for row in table.rows]

    with pytest.raises(sdk.AirflowNotFoundException) as not_found:
        sdk.BaseHook.get_connection("any_id")
    with pytest.raises(ModuleNotFoundError) as no_module:
        importlib.import_module("airflow_provider_faraday_")

    raised = [
        str(not_found.value).replace("any_id", "…"),
        str(no_module.value).replace("faraday_", "faraday"),
        AirflowOptionalProviderFeatureException.__name__,
    ]
    assert quoted == raised


@pytest.mark.parametrize("table", tables("argument"), ids=lambda table: table.under)
def test_tables_of_arguments_match_the_signatures(table: Table) -> None:
    arguments: dict[str, inspect.Parameter] = {}
    for name in spans(table.under):
        arguments |= own_arguments(NAMES[name])
    documented = {argument: row[-1] for row in table.rows for argument in spans(row[0])}

    assert documented.keys() == arguments.keys()
    for name, default in documented.items():
        actual = arguments[name].default
        if option := re.fullmatch(r"`\[(\w+)\] (\w+)`", default):
            assert conf.has_option(*option.groups())
            # None: looked up when the task is created.
            assert actual is None or actual == conf.getboolean(*option.groups())
        elif actual is inspect.Parameter.empty:
            assert default == "required"
        elif actual is None:
            assert default != "required"
        else:
            assert ast.literal_eval(default.strip("`")) == actual


def own_arguments(called: Any) -> dict[str, inspect.Parameter]:
    """Return the arguments of a function or class, without those of Airflow."""
    parameters = inspect.signature(called).parameters
    return {name: each for name, each in parameters.items() if each.kind is not each.VAR_KEYWORD}


def test_the_table_of_errors_is_complete() -> None:
    (table,) = tables("exception")
    defined = {name for name, value in vars(exceptions).items() if inspect.isclass(value) and is_ours(value)}

    assert [spans(row[0])[0] for row in table.rows if len(spans(row[0])) != 1] == []
    assert {spans(row[0])[0] for row in table.rows} == defined | {"AirflowSensorTimeout"}


def test_the_table_of_extras_matches_the_connection_form() -> None:
    (table,) = tables("field")
    (form,) = get_provider_info()["connection-types"]

    assert [spans(row[0])[0] for row in table.rows if row[0].startswith("extra")] == list(form["conn-fields"])


def test_the_table_of_fixtures_matches_the_pytest_plugin() -> None:
    (table,) = tables("fixture")

    documented = {name for row in table.rows for name in spans(row[0])}
    assert documented | {"faraday_sandbox"} == {n for n in vars(pytest_plugin) if n.startswith("faraday_")}


def test_the_table_of_flags_matches_the_sandbox_command() -> None:
    (table,) = tables("flag")
    command = [sys.executable, "-m", "airflow_provider_faraday.sandbox", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def flags(text: str) -> list[str]:
        return re.findall(r"--[\w-]+", text)

    assert {flag for row in table.rows for flag in flags(row[0])} == set(flags(shown)) - {"--help"}


def test_performance_figures_match_the_benchmark_results() -> None:
    """`make bench` writes both tables. The page has medians only."""
    (documented,) = PAGES["docs/performance.md"].tables
    (measured,) = markdown_pages.read(ROOT / "benchmarks" / "results" / "results.md").tables

    assert [row[0] for row in documented.rows] == [row[0] for row in measured.rows]
    for (what, *shown), (_, *results) in zip(documented.rows, measured.rows, strict=True):
        for figure, result in zip(shown, results, strict=False):
            number = figure.split(" ")[0]
            assert number in re.split(r"[ :]+", result), what


@pytest.mark.parametrize("name", PAGES)
def test_names_on_a_page_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    names = names_in(all_modules()) if name == ARCHITECTURE else NAMES
    callables = names.keys() | AIRFLOW_NAMES | {member for value in names.values() for member in dir(value)}
    arguments = {"fields", "schedule"} | {
        argument
        for value in names.values()
        for each in (getattr(value, "__mro__", ())[:-1] or [value])
        for argument in _parameters(each)
    }

    def exists(span: str) -> bool:
        if match := re.match(r"make ([a-z-]+)", span):
            return re.search(rf"^{match[1]}:", makefile, re.MULTILINE) is not None
        if match := re.match(r"(?:\w+\.)?(\w+)\(", span):
            return match[1] in callables
        if match := re.match(r"(\w+)=", span):
            return match[1] in arguments
        if re.fullmatch(r"airflow_provider_faraday(\.\w+)+", span):
            return importlib.util.find_spec(span) is not None
        if re.fullmatch(r"[A-Z][a-z]+([A-Z][a-z]+)+", span):
            return span in names.keys() | AIRFLOW_NAMES or hasattr(sdk, span) or hasattr(builtins, span)
        return True

    assert [span for span in PAGES[name].spans if not exists(span)] == []


def _parameters(called: Any) -> list[str]:
    try:
        return list(inspect.signature(called).parameters)
    except (ValueError, TypeError):
        return []
