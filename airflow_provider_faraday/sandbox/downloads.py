"""The files of targets: CSV with a row per person. The same target always has the same rows."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import islice

HEADER = "person_id,email,state,probability,percentile\n"
ROWS_PER_CHUNK = 2000
STATES = ("CA", "CO", "IL", "MA", "NY", "TX", "VA", "VT", "WA")


class TargetFile:
    """The file of a target.

    :param count: number of rows
    :ivar length: the length of the file in bytes, if it is not compressed
    """

    def __init__(self, count: int) -> None:
        self.length = len(HEADER) + count * len(_row(0))
        self._count = count

    def chunks(self) -> Iterator[bytes]:
        """Return the content."""
        yield HEADER.encode()
        rows = map(_row, range(self._count))
        while chunk := "".join(islice(rows, ROWS_PER_CHUNK)):
            yield chunk.encode()

    def gzipped_chunks(self) -> Iterator[bytes]:
        """Return the content, compressed."""
        compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        for chunk in self.chunks():
            yield compressor.compress(chunk)
        yield compressor.flush()


def _row(number: int) -> str:
    # The same length for all rows, up to a hundred million people.
    percentile = f"{number * 37 % 99 + 1:02d}"
    state = STATES[number % len(STATES)]
    return f"P{number:08d},p{number:08d}@example.com,{state},0.{percentile},{percentile}\n"
