"""README and docs: links lead somewhere, tables are complete, and what they name exists."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat import sdk
from airflow.providers.common.compat.sdk import conf

import markdown_pages
from airflow_provider_faraday import exceptions
from airflow_provider_faraday.get_provider_info import get_provider_info
from markdown_pages import PAGES, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from markdown_pages import Table

# Of Airflow's own, what has no place in `common.compat.sdk`.
AIRFLOWS = {"AssetWatcher", "SQLExecuteQueryOperator", "expand", "ref"}


def is_ours(thing: Any) -> bool:
    return getattr(thing, "__module__", "").startswith("airflow_provider_faraday")


def public_names() -> dict[str, Any]:
    """Give the classes and functions that pages may speak of."""
    described = [
        module for kind in ("hooks", "operators", "sensors", "triggers") for module in _modules(kind)
    ]
    others = ("assets.datasets", "exceptions", "sandbox.server", "sandbox.control", "sandbox.faults")
    return {
        name: value
        for module in [*described, *(f"airflow_provider_faraday.{each}" for each in others)]
        for name, value in vars(importlib.import_module(module)).items()
        if is_ours(value) and not name.startswith("_")
    }


def _modules(kind: str) -> list[str]:
    return [module for each in get_provider_info()[kind] for module in each["python-modules"]]


NAMES = public_names()


def tables(first: str) -> list[Table]:
    """Give the tables whose first column has that name."""
    return [table for page in PAGES.values() for table in page.tables if table.header[0] == first]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize(
    "path",
    [*(ROOT / name for name in PAGES), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere(path: Path) -> None:
    def is_broken(link: str) -> bool:
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        return not target.exists() or bool(anchor and anchor not in markdown_pages.read(target).anchors)

    local = [link for link in markdown_pages.read(path).links if not link.startswith("https://")]
    assert [link for link in local if is_broken(link)] == []


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (ROOT / name).parent / link.partition("#")[0] for name, page in PAGES.items() for link in page.links
    }
    assert {ROOT / name for name in PAGES} <= {path.resolve() for path in linked}


@pytest.mark.parametrize("table", tables("argument"), ids=lambda table: table.under)
def test_arguments_are_those_of_the_class_with_their_defaults(table: Table) -> None:
    arguments = {
        name: parameter for called in spans(table.under) for name, parameter in own_arguments(NAMES[called])
    }
    said = {argument: row[-1] for row in table.rows for argument in spans(row[0])}

    assert said.keys() == arguments.keys()
    for name, default in said.items():
        actual = arguments[name].default
        if option := re.fullmatch(r"`\[(\w+)\] (\w+)`", default):
            assert actual == conf.getboolean(*option.groups(), fallback=False)
        elif actual is inspect.Parameter.empty:
            assert default == "required"
        elif actual is None:
            assert default != "required"
        else:
            assert ast.literal_eval(default.strip("`")) == actual


def own_arguments(called: Any) -> list[tuple[str, inspect.Parameter]]:
    """Give the arguments that a function, or a class and its private bases, names itself."""
    private = [
        base for base in getattr(called, "__mro__", ()) if base.__name__.startswith("_") and is_ours(base)
    ]
    return [
        (name, parameter)
        for each in (called, *private)
        for name, parameter in inspect.signature(each).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    ]


def test_every_error_is_explained_and_no_other() -> None:
    (table,) = tables("exception")
    defined = {name for name, value in vars(exceptions).items() if inspect.isclass(value) and is_ours(value)}

    assert [spans(row[0])[0] for row in table.rows if len(spans(row[0])) != 1] == []
    assert {spans(row[0])[0] for row in table.rows} == defined | {"AirflowSensorTimeout"}


def test_the_extras_of_the_connection_are_those_of_its_form() -> None:
    (table,) = tables("field")
    (form,) = get_provider_info()["connection-types"]

    assert [spans(row[0])[0] for row in table.rows if row[0].startswith("extra")] == list(form["conn-fields"])


def test_the_flags_of_the_sandbox_are_those_of_its_command() -> None:
    (table,) = tables("flag")
    command = [sys.executable, "-m", "airflow_provider_faraday.sandbox", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def flags(text: str) -> list[str]:
        return re.findall(r"--[\w-]+", text)

    assert {flag for row in table.rows for flag in flags(row[0])} == set(flags(shown)) - {"--help"}


def test_figures_are_those_that_were_measured() -> None:
    """Each figure in the table, and elsewhere on the page those that are no round numbers."""
    page = (ROOT / "docs" / "performance.md").read_text()
    measured = (ROOT / "benchmarks" / "results" / "results.md").read_text()
    (table,) = tables("per interval")

    def figures(text: str) -> set[str]:
        return set(re.findall(r"\d[\d.,]*(?<=\d)", text))

    in_table = {figure for row in table.rows for cell in row[1:] for figure in figures(cell)}
    said = in_table | {figure for figure in figures(page) if not figure.isdigit()}
    assert len(said) > 10
    assert said - figures(measured) == set()


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_names_exists(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    callables = NAMES.keys() | AIRFLOWS | {member for value in NAMES.values() for member in dir(value)}
    arguments = {"fields"} | {
        argument
        for value in NAMES.values()
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
            return span in NAMES.keys() | AIRFLOWS or hasattr(sdk, span) or hasattr(builtins, span)
        return True

    assert [span for span in PAGES[name].spans if not exists(span)] == []


def _parameters(called: Any) -> list[str]:
    try:
        return list(inspect.signature(called).parameters)
    except (ValueError, TypeError):
        return []
