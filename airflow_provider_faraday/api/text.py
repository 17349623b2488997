"""Format text from Faraday for logs and errors."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

LISTED = 10
"""How many resources a message names before it only counts them."""


def one_line(text: str) -> str:
    """Return a text in one line, with control characters and line breaks replaced by spaces."""
    if text.isprintable():
        return text
    # Also lone surrogates, which HTTP libraries make of odd bytes. Airflow can neither store nor send them.
    return "".join(character if character.isprintable() else " " for character in text)


def shortened(text: str, length: int = 200) -> str:
    """Return a text, cut to a length that fits into an error."""
    return text if len(text) <= length else f"{text[:length]}…"


def first_of(members: Collection[T], text: Callable[[T], str] = str, separator: str = ", ") -> str:
    """Return the first few members as text, and how many more there are."""
    more = f" and {len(members) - LISTED} more" if len(members) > LISTED else ""
    return separator.join(map(text, islice(members, LISTED))) + more


def file_size(size: float) -> str:
    """Return a number of bytes with a unit, such as ``1.2 MB``."""
    if size < 1e3:
        return f"{size:.0f} bytes"
    return f"{size / 1e3:,.1f} KB" if size < 1e6 else f"{size / 1e6:,.1f} MB"
