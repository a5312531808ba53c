"""Lines that are bounded, so that none fills the memory, and that can be given back to be read once more."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO, NamedTuple

from newsdesk.clients.rows.streams import BLOCK_BYTES

_SHOWN = 200


class Line(NamedTuple):
    """A line with its end. If it is too long, only its start is kept.

    Attributes:
        number: from 1
        data: its bytes
        size: of the whole line, in bytes
        quotes: how many of them are double quotes, where the line is too long
    """

    number: int
    data: bytes
    size: int
    quotes: int = 0

    @property
    def whole(self) -> bool:
        """Whether all of it is kept."""
        return self.size == len(self.data)


class Lines:
    """The lines of a file, none longer than `longest` bytes."""

    def __init__(self, file: BinaryIO, longest: int) -> None:
        self._file, self._longest = file, longest
        self._waiting: deque[Line] = deque()
        self._number = 0

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        if self._waiting:
            return self._waiting.popleft()
        data = self._file.readline(self._longest + 2)  # with its end, which counts for nothing
        if not data:
            raise StopIteration
        self._number += 1
        size = len(data)
        if size <= self._longest or len(data.rstrip(b"\r\n")) <= self._longest:
            return Line(self._number, data, size)
        return self._passed(data)

    def give_back(self, lines: Sequence[Line]) -> None:
        """Have these lines, the last that were read, read again."""
        self._waiting.extendleft(reversed(lines))

    def peek(self, count: int) -> list[Line]:
        """Return up to `count` of the lines to come."""
        ahead = list(islice(self, count))
        self.give_back(ahead)
        return ahead

    def _passed(self, data: bytes) -> Line:
        """Return a line that is too long, read to its end and not kept."""
        size, quotes, start = len(data), data.count(b'"'), data[:_SHOWN]
        while not data.endswith(b"\n") and (data := self._file.readline(BLOCK_BYTES)):
            size += len(data)
            quotes += data.count(b'"')
        return Line(self._number, start, size, quotes)
