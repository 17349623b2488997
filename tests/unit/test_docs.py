"""README and docs: tables match the code. Commands, arguments and modules exist. `make docs` checks links."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import conf
from markdown_it import MarkdownIt

from airflow_provider_faraday import exceptions, pytest_plugin
from airflow_provider_faraday.get_provider_info import get_provider_info
from airflow_provider_faraday.sandbox.__main__ import main as sandbox_command
from support.markdown_pages import PAGES, ROOT

if TYPE_CHECKING:
    from support.markdown_pages import Table


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


NAMES = names_in(public_modules())


def tables(first: str) -> list[Table]:
    """Return the tables whose first column has this header."""
    return [table for page in PAGES.values() for table in page.tables if table.header[0] == first]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


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


@pytest.mark.parametrize("table", tables("argument"), ids=lambda table: table.under)
def test_tables_of_arguments_match_the_signatures(table: Table) -> None:
    arguments = {
        name: each
        for called in spans(table.under)
        for name, each in inspect.signature(NAMES[called]).parameters.items()
        if each.kind is not each.VAR_KEYWORD
    }
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


def test_the_table_of_flags_matches_the_sandbox_command(capsys: pytest.CaptureFixture[str]) -> None:
    (table,) = tables("flag")
    with pytest.raises(SystemExit):
        sandbox_command(["--help"])

    shown = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    assert {f for row in table.rows for f in re.findall(r"--[\w-]+", row[0])} == shown - {"--help"}


# The page about the architecture has private names, too.
@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"docs/architecture.md"}))
def test_commands_arguments_and_modules_on_a_page_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    called = [each for value in NAMES.values() for each in getattr(value, "__mro__", [value])]
    arguments = {"fields", "schedule", *(name for each in called for name in _parameters(each))}

    def exists(span: str) -> bool:
        if match := re.match(r"make ([a-z-]+)", span):
            return f"\n{match[1]}:" in makefile
        if match := re.match(r"(\w+)=", span):
            return match[1] in arguments
        if re.fullmatch(r"airflow_provider_faraday(\.\w+)+", span):
            return importlib.util.find_spec(span) is not None
        return True

    assert [span for span in PAGES[name].spans if not exists(span)] == []


def _parameters(called: Any) -> list[str]:
    try:
        return list(inspect.signature(called).parameters)
    except (ValueError, TypeError):
        return []
