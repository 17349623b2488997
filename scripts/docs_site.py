"""MkDocs hooks: select the pages of the site and their order.

The pages are the project's Markdown files, unchanged. Each keeps its path, so a link between two of them
works on the site and in the repository. The README is the home page, and the tables in docs/README.md are
the navigation.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from posixpath import basename, normpath
from typing import TYPE_CHECKING

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel

from airflow_provider_faraday.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
HOME = "README.md"
CONTENTS = "docs/README.md"
EXAMPLES = "example_dags"
RESULTS = "benchmarks/results/results.md"

PUBLIC_CLASSES = ("operators", "transfers", "hooks", "sensors", "triggers")
MORE_REFERENCES = {
    "Assets": [
        "::: airflow_provider_faraday.assets.datasets.dataset_asset",
        "::: airflow_provider_faraday.assets.resources.resource_asset",
    ],
    "Exceptions": [
        "::: airflow_provider_faraday.exceptions\n"
        "    options: {filters: ['!^[a-z_]', '!^[A-Z_]+$'], show_root_heading: false}",
    ],
    # Without what only the server calls.
    "Sandbox": [
        "::: airflow_provider_faraday.sandbox.Sandbox\n"
        "    options:\n"
        "      inherited_members: true\n"
        "      filters: ['!^_', '!^(check_key|download_signature|is_local|log_request|receive_upload)$',"
        " '!^take_fault$']",
    ],
}

HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
ROW = re.compile(r"^\| \[([^]]+)\]\(([^)]+)\)", re.MULTILINE)
# The words after the language say how it is tested: `python airflow3`.
INFO_STRING = re.compile(r"^( *```\w+) [^`\n]+$", re.MULTILINE)
ELSEWHERE = re.compile(
    r'<(?:script[^>]* src|link[^>]* rel="(?:preconnect|stylesheet)"[^>]* href)="?https?://[^>]*'
)


class Source(File):
    """A file or a directory that becomes a page although it is not Markdown."""

    def is_documentation_page(self) -> bool:
        return True


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of ``docs_dir`` by the project's, and set the navigation."""
    sections = contents()
    listed = {path for pages in sections.values() for path in pages.values()}
    patterns = (HOME, "LICENSE", RESULTS, EXAMPLES, f"{EXAMPLES}/*.py", "docs/*.md", "docs/pictures/*")
    found = {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)}
    examples = sorted(path for path in found if path.startswith(f"{EXAMPLES}/"))

    selected = Files([file for file in files if file.src_dir != config.docs_dir])
    for path in sorted(found | listed):
        file = project_file(path, config)
        if path == RESULTS:
            file.inclusion = InclusionLevel.NOT_IN_NAV
        selected.append(file)
    reference = {}
    for title, parts in references().items():
        reference[title] = f"reference/{title.lower()}.md"
        text = "\n\n".join([f"# {title}", *parts])
        selected.append(File.generated(config, reference[title], content=text))

    config.nav = [
        {"Home": HOME},
        {"All pages": CONTENTS},
        *({title: [{name: path} for name, path in pages.items()]} for title, pages in sections.items()),
        {"Examples": [{"Overview": EXAMPLES}, *({Path(path).stem: path} for path in examples)]},
        {"API reference": [{title: path} for title, path in reference.items()]},
    ]
    return selected


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Show source files as code, and adapt what GitHub and Python-Markdown read differently."""
    path = page.file.src_uri
    if isinstance(page.file, Source):
        if path == EXAMPLES:
            return markdown
        page.meta["search"] = {"exclude": True}
        return f"# {basename(path)}\n\n```python\n{markdown}\n```\n"
    return INFO_STRING.sub(r"\1", markdown)


def on_post_page(output: str, page: Page, **_: object) -> None:
    """Check that a page works without other servers, and that its code blocks are shown as such."""
    if elsewhere := ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} loads code from another server: {elsewhere[0]}")
    if "```" in output:
        raise PluginError(f"{page.file.src_uri} has a code block that Python-Markdown does not recognize.")


def contents() -> dict[str, dict[str, str]]:
    """Return the sections of docs/README.md: for each, the paths of its pages by title."""
    _, *parts = HEADING.split((ROOT / CONTENTS).read_text(encoding="utf-8"))
    return {
        title: {name: normpath(f"docs/{link}") for name, link in ROW.findall(text)}
        for title, text in zip(parts[::2], parts[1::2], strict=True)
        if ROW.search(text)
    }


def project_file(path: str, config: MkDocsConfig) -> File:
    """Return a file of the project as a file of the site."""
    if path == EXAMPLES:
        return Source.generated(config, path, content=examples_page())
    # A page of docs/ has a short address.
    address = "all-pages.md" if path == CONTENTS else path.removeprefix("docs/")
    kind = Source if path.endswith(".py") else File
    file = kind(path, str(ROOT), config.site_dir, config.use_directory_urls)
    if file.is_documentation_page() and path != HOME:
        file.dest_uri = re.sub(r"(/README)?\.(md|py)$", "", address) + "/index.html"
    return file


def examples_page() -> str:
    """Return a page that lists the example DAGs, each with the first sentence of its docstring."""
    lines = ["# Example DAGs", ""]
    for path in sorted((ROOT / EXAMPLES).glob("*.py")):
        about = path.read_text(encoding="utf-8").split('"""')[1].split("\n\n")[0].replace("\n", " ")
        lines.append(f"- [{path.stem}]({EXAMPLES}/{path.name}): {about}")
    return "\n".join(lines)


def references() -> dict[str, list[str]]:
    """Return the pages of the API reference: for each, what mkdocstrings documents there."""
    info = get_provider_info()
    return {
        kind.capitalize(): [
            f"::: {module}.{name}"
            for entry in info[kind]
            for module in entry.get("python-modules", [entry.get("python-module")])
            for name in public_classes(module)
        ]
        for kind in PUBLIC_CLASSES
    } | MORE_REFERENCES


def public_classes(module: str) -> list[str]:
    """Return the names of a module's public classes. Airflow, which it imports, is not installed."""
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    classes = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return [name for name in classes if not name.startswith("_")]
