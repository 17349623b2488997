"""What a target delivers: a CSV file with one row per person, made up but always the same."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice

# All but the first two columns repeat after this many rows, so that the length of the file is known.
PERIOD = 997
ROWS_PER_CHUNK = 2000
FIRST_NAMES = ("Ada", "Alan", "Barbara", "Edsger", "Grace", "Katherine", "Ken", "Margaret", "Radia", "Tim")
LAST_NAMES = ("Berg", "Cole", "Diaz", "Fox", "Gray", "Hill", "Ito", "Jones", "Khan", "Lopez", "Moss")
STATES = ("CA", "CO", "IL", "MA", "NY", "TX", "VA", "VT", "WA")
PERSON_COLUMNS = ("person_id", "email", "first_name", "last_name", "state")


class TargetFile:
    """The file of a target.

    :param count: number of rows
    :param outcomes: names of the outcomes in the payload of its scope
    :param persona_sets: names of the persona sets, each with the names of its personas
    """

    def __init__(
        self, count: int, outcomes: Sequence[str], persona_sets: Sequence[tuple[str, Sequence[str]]]
    ) -> None:
        self._count = count
        predictions = [
            *(f"{_slug(name)}_{what}" for name in outcomes for what in ("probability", "percentile")),
            *(_slug(name) for name, _ in persona_sets),
        ]
        self._header = ",".join([*PERSON_COLUMNS, *predictions]) + "\n"
        self._rests = [
            ",".join(_rest(number, len(outcomes), [names for _, names in persona_sets])) + "\n"
            for number in range(PERIOD)
        ]

    @property
    def length(self) -> int:
        """The length of the file in bytes, if it is not compressed."""
        periods, remainder = divmod(self._count, PERIOD)
        lengths = [len(rest.encode()) for rest in self._rests]
        rests = periods * sum(lengths) + sum(lengths[:remainder])
        return len(self._header.encode()) + self._count * len(_start(0)) + rests

    def chunks(self) -> Iterator[bytes]:
        """Return the content."""
        yield self._header.encode()
        rows = (_start(number) + self._rests[number % PERIOD] for number in range(self._count))
        while chunk := "".join(islice(rows, ROWS_PER_CHUNK)):
            yield chunk.encode()

    def gzipped_chunks(self) -> Iterator[bytes]:
        """Return the content, compressed."""
        compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        for chunk in self.chunks():
            yield compressor.compress(chunk)
        yield compressor.flush()


def _start(number: int) -> str:
    # Always of the same length: nobody has a hundred million people in a sandbox.
    return f"P{number:08d},p{number:08d}@example.com,"


def _rest(number: int, outcomes: int, persona_sets: Sequence[Sequence[str]]) -> list[str]:
    cells = [FIRST_NAMES[number % 10], LAST_NAMES[number % 11], STATES[number % 9]]
    for index in range(outcomes):
        percentile = (number * 37 + index * 11) % 100 + 1
        cells += [f"{percentile / 101:.4f}", str(percentile)]
    return cells + [_quoted(names[number % len(names)]) if names else "" for names in persona_sets]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_")
