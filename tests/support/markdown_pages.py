"""Parse the project's Markdown pages into code blocks, tables and code spans."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]


@dataclass
class Block:
    """A fenced code block.

    :param kind: its info string: the language, and more where the language is not enough
    :param line: the line number of its first line of code
    """

    kind: str
    text: str
    line: int


@dataclass
class Table:
    """A table; its cells are Markdown source.

    :param under: the heading above it
    """

    under: str
    header: list[str]
    rows: list[list[str]]


@dataclass
class Page:
    """The parts of one file."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    spans: list[str] = field(default_factory=list)


def read(path: Path) -> Page:
    """Parse a Markdown file."""
    page = Page(path)
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    heading = ""
    for token, inline in zip(tokens, [*tokens[1:], None], strict=True):
        match token.type:
            case "fence":
                page.blocks.append(Block(token.info.strip(), token.content, token.map[0] + 2))
            case "heading_open":
                heading = inline.content
            case "table_open":
                page.tables.append(Table(heading, [], []))
            case "tr_open":
                page.tables[-1].rows.append([])
            case "th_open" | "td_open":
                page.tables[-1].rows[-1].append(inline.content)
            case "thead_close":
                page.tables[-1].header = page.tables[-1].rows.pop()
            case "inline":
                page.spans += [child.content for child in token.children if child.type == "code_inline"]
    return page


PAGES = {
    str(path.relative_to(ROOT)): read(path)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
"""README and docs, by their path in the project."""
