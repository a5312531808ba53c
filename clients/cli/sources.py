"""Texts from files and from standard input, read as they are needed."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from newsdesk.clients.chunk import Text

_BOM = b"\xef\xbb\xbf"
_LONGEST_FIELD = 64 * 1024 * 1024


class SourceError(Exception):
    """A file that cannot be read as texts."""


class Source:
    """The texts of an open file, in order and once. `position` and `size` (None for a pipe) are in bytes."""

    def __init__(self, file: BinaryIO, name: str, columns: Sequence[str] = ()) -> None:
        """`name` decides: .csv and .jsonl hold `columns`, anything else one text a line. Raises SourceError."""
        suffix = Path(name).suffix.lower()
        if suffix not in _READERS:
            raise SourceError(f"{name}: expected a file of texts, one a line (.txt), or .csv or .jsonl")
        if columns and _READERS[suffix] is _read_lines:
            raise SourceError(f"{name}: a column is named, expected .csv or .jsonl then")
        self.position = 0
        self.size: int | None = None
        if file.seekable():
            self.size = file.seek(0, 2)
            file.seek(0)
        self._file = file
        self._name = name
        self._columns = columns
        self._read = _READERS[suffix]

    def __iter__(self) -> Iterator[Text]:
        try:
            yield from self._read(self._lines(), self._columns)
        except SourceError as error:
            raise SourceError(f"{self._name}: {error}") from error

    def _lines(self) -> Iterator[bytes]:
        for line in self._file:
            start = self.position
            self.position += len(line)
            yield line.removeprefix(_BOM) if start == 0 else line


def as_sent(text: str) -> Text:
    """Undo what Python makes of undecodable bytes in arguments and files, so that the server says what is wrong."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text


def _read_lines(lines: Iterator[bytes], columns: Sequence[str]) -> Iterator[Text]:
    for line in lines:
        yield line.rstrip(b"\r\n")


def _read_csv(lines: Iterator[bytes], columns: Sequence[str]) -> Iterator[Text]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.DictReader(line.decode("utf-8", "surrogateescape") for line in lines)
    try:
        header = list(reader.fieldnames or ())
        if not header:
            return
        columns = columns or (header if len(header) == 1 else ["text"])
        missing = [column for column in columns if column not in header]
        if missing:
            raise SourceError(f"no column {', '.join(missing)} among {', '.join(header)}: name one with --text-column")
        for row in reader:
            yield as_sent(" ".join(row[column] or "" for column in columns))
    except csv.Error as error:
        raise SourceError(f"line {reader.line_num} is not CSV: {error}") from error


def _read_jsonl(lines: Iterator[bytes], columns: Sequence[str]) -> Iterator[Text]:
    columns = columns or ["text"]
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            values = [row] if isinstance(row, str) else [row[column] for column in columns]
        except ValueError as error:
            raise SourceError(f"line {number} is not JSON: {error}") from error
        except (KeyError, TypeError) as error:
            raise SourceError(f"line {number} has no {' and '.join(columns)}: name one with --text-column") from error
        if not all(isinstance(value, str) for value in values):
            raise SourceError(f"line {number}: {' and '.join(columns)} must be text, got {values!r:.100}")
        yield as_sent(" ".join(values))


_READERS: dict[str, Callable[[Iterator[bytes], Sequence[str]], Iterator[Text]]] = {
    "": _read_lines,
    ".txt": _read_lines,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
}
