"""Foreign text, as a log or an error may show it."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Give a text in one line: characters that steer a terminal or break a line become spaces."""
    # A lone surrogate, as HTTP libraries make of odd bytes, could not be stored or sent on by Airflow.
    encodable = text.encode(errors="replace").decode()
    return "".join(character if character.isprintable() else " " for character in encodable)
