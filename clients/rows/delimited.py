"""Records of a CSV file. One that cannot be read is refused with the line it begins in, and the others are read."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from newsdesk.clients.rows import dialect
from newsdesk.clients.rows.errors import RowsError, Words
from newsdesk.clients.rows.lines import Line, Lines
from newsdesk.clients.rows.row import LONGEST_ROW, TOO_LONG, FileRow

_LIKE_ROWS = 0.75
"""Share of the lines of a record that look like rows themselves where a quote is missing."""
# A cell of a file of one column that is far longer than the others: a headline may become a paragraph, not this.
_FAR_LONGER, _LONG_LINES, _LONG, _ENOUGH_ROWS = 10, 10, 8 * 1024, 10
_MOST_AGAIN = 4 * 2**20
"""Bytes that may be read again beside as many as were read; without a bound, hostile files take quadratic time."""


class _TooLong(Exception):
    """A record that goes on and on."""


class Delimited:
    """The rows of a CSV file, in order and once. `names` are its columns.

    Raises:
        RowsError: the delimiter is unclear, or a column of `columns` stands twice.
    """

    def __init__(
        self, lines: Lines, columns: Sequence[str], header: Sequence[str], delimiter: str, words: Words
    ) -> None:
        declared = dialect.separator_line(lines)
        self._delimiter = (
            dialect.delimiter_of(delimiter)
            if delimiter
            else declared or dialect.recognise(lines, columns, header, words)
        )
        # Global to the process, and smaller by default than a text may be. A record is bounded below.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW))
        self._lines, self._words = lines, words
        self._record: list[Line] = []
        self._size = self._read = self._again = 0
        self._reader = csv.reader(_LineFeed(self), delimiter=self._delimiter, strict=True)
        self._longest = self._rows = 0
        self.names = list(header) or self._header()
        counts = Counter(self.names)
        for column in columns or ([dialect.TEXT] if len(self.names) > 1 else []):
            if counts[column] > 1:
                raise RowsError(f"column {column} stands {counts[column]} times in the header: rename all but one")

    def __iter__(self) -> Iterator[FileRow]:
        for number, (line, cells) in enumerate(self._records(), 1):
            if isinstance(cells, str):
                yield FileRow(number, line, {}, cells)
            else:
                yield FileRow(number, line, dict(zip(self.names, cells, strict=True)))

    def feed(self) -> str:
        """Return the next line of the record that is being read."""
        line = next(self._lines)
        self._record.append(line)
        self._size += len(line.data)
        self._read += len(line.data)
        if self._size > LONGEST_ROW or not line.whole:
            raise _TooLong
        return line.data.decode("utf-8", "surrogateescape")

    def _header(self) -> list[str]:
        for line, cells in self._records(header=True):
            if isinstance(cells, str):
                raise RowsError(f"line {line} should be the header: {cells}")
            return cells
        return []

    def _records(self, header: bool = False) -> Iterator[tuple[int, list[str] | str]]:
        """Yield the line that a record begins in, and its cells or why it cannot be read."""
        while True:
            self._record, self._size = [], 0
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except _TooLong:
                yield self._record[0].number, self._endless()
                continue
            except csv.Error as error:
                yield self._record[0].number, self._broken(str(error))
                continue
            if not cells:
                continue
            yield self._record[0].number, cells if header else self._judged(cells)

    def _judged(self, cells: list[str]) -> list[str] | str:
        lines, expected = self._record, len(self.names)
        if len(lines) > 1 and self._swallows(cells):
            return self._apart(f"the quote that opens in line {lines[0].number} swallows rows up to line {{end}}")
        if len(cells) != expected:
            if len(lines) > 1 and self._like_rows():
                return self._apart(f"a quote that opens in line {lines[0].number} swallows rows up to line {{end}}")
            return (
                f"{_count(len(cells), 'cell')}, expected the {expected} of the header: is a quote missing, or is the "
                f"delimiter another than {dialect.DELIMITERS.get(self._delimiter, self._delimiter)!r} "
                f"({self._words.delimiter})?"
            )
        if sum(line.data.count(b'"') for line in lines) % 2:
            return "a quote stands in the middle of a cell: put the cell in quotes and write the quote twice"
        self._rows += 1
        self._longest = max(self._longest, max(map(len, cells)))
        return cells

    def _swallows(self, cells: list[str]) -> bool:
        """Tell whether a quoted cell with line breaks holds rows, because a quote is missing."""
        if len(self.names) > 1:
            return self._like_rows()
        (longest, lines) = max(map(len, cells)), len(self._record)
        return (
            self._rows >= _ENOUGH_ROWS
            and lines > _LONG_LINES
            and longest > max(_LONG, _FAR_LONGER * max(self._longest, 1))
        )

    def _like_rows(self) -> bool:
        """Tell whether nearly all lines of the record look like rows.

        Such lines have as many cells, and delimiters as rows have them, no comma of prose or of a number.
        """
        parts = [re.compile(rb"(?<!\d),(?! )|,(?![ \d])")] if self._delimiter == "," else []
        delimiter = self._delimiter.encode("utf-8", "surrogateescape")
        parts = parts or [re.compile(re.escape(delimiter) + (b"" if delimiter == b"\t" else b"(?! )"))]
        like = sum(len(parts[0].split(line.data)) == len(self.names) for line in self._record)
        return len(self.names) > 1 and like >= _LIKE_ROWS * len(self._record)

    def _broken(self, error: str) -> str:
        start = self._record[0].number
        if "unexpected end" in error:
            return self._apart(f"the quote that opens in line {start} closes nowhere")
        if "expected after" in error:
            if len(self._record) == 1:
                return "a quote closes in the middle of a cell: write a quote within a cell twice"
            return self._apart(f"the quote that opens in line {start} closes in the middle of a cell in line {{end}}")
        if "new-line" in error:
            return "a carriage return stands in the middle of the line"
        return f"not CSV: {error}"

    def _endless(self) -> str:
        """Judge a record that is too long: one with a missing quote is taken apart, another is passed over."""
        record, start = self._record, self._record[0].number
        if len(record) > 1 and record[-1].whole and self._like_rows():
            return self._apart(f"the quote that opens in line {start} swallows rows up to line {{end}} and beyond")
        last = record[-1]
        # Within quotes an odd number of them closes the cell; a line that begins a record is not within quotes.
        inside = len(record) > 1 or bool(_quotes(last) % 2)
        if len(record) > 1 and not last.whole:
            inside = not _quotes(last) % 2
        while inside and (line := next(self._lines, None)):
            last, inside = line, not _quotes(line) % 2
        where = "the line is" if last.number == start else f"lines {start} to {last.number} are"
        return f"{where} longer than {LONGEST_ROW // 2**20} MiB, {TOO_LONG}; or is a quote missing?"

    def _apart(self, why: str) -> str:
        """Have all lines but the first of the record read again, each by itself, and return why."""
        record = self._record
        size = sum(len(line.data) for line in record[1:])
        if self._again + size <= _MOST_AGAIN + self._read - self._again:
            self._again += size
            self._lines.give_back(record[1:])
        why = why.format(end=record[-1].number)
        return f"{why}: is a quote missing?"


class _LineFeed:
    """The lines that csv.reader reads. It goes on behind an error, as a generator does not."""

    def __init__(self, source: Delimited) -> None:
        self._source = source

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return self._source.feed()


def _quotes(line: Line) -> int:
    return line.quotes or line.data.count(b'"')


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
