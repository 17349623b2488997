"""Text from Faraday, as a log or an error may show it."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Return a text in one line, with control characters and line breaks replaced by spaces."""
    if text.isprintable():
        return text
    # HTTP libraries turn odd bytes into lone surrogates, which Airflow can neither store nor send.
    encodable = text.encode(errors="replace").decode()
    return "".join(character if character.isprintable() else " " for character in encodable)


def shortened(text: str, length: int = 200) -> str:
    """Return a text, cut to a length that fits into an error."""
    return text if len(text) <= length else f"{text[:length]}…"
