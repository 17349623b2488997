"""Parse the project's Markdown pages into code blocks, tables, links, anchors and code spans."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markdown_it.token import Token

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
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
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
                page.anchors.add(_anchor(inline, page.anchors))
            case "table_open":
                page.tables.append(Table(heading, [], []))
            case "tr_open":
                page.tables[-1].rows.append([])
            case "th_open" | "td_open":
                page.tables[-1].rows[-1].append(inline.content)
            case "thead_close":
                page.tables[-1].header = page.tables[-1].rows.pop()
            case "inline":
                for child in token.children:
                    page.links += _links(child)
                    page.spans += [child.content] if child.type == "code_inline" else []
            case "html_block":
                page.links += _links(token)
    return page


def _anchor(heading: Token, taken: Iterable[str]) -> str:
    """Return a heading's anchor, built the way GitHub does."""
    text = "".join(child.content for child in heading.children)
    anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
    number = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other) is not None for other in taken)
    return f"{anchor}-{number}" if number else anchor


def _links(token: Token) -> list[str]:
    if token.type in ("html_inline", "html_block"):
        return re.findall(r'\b(?:src|srcset|href)="([^"]+)"', token.content)
    return [str(token.attrs[name]) for name in ("href", "src") if name in token.attrs]


PAGES = {
    str(path.relative_to(ROOT)): read(path)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
"""README and docs, by their path in the project."""
