"""The rows of an open file, whatever its form, read as they are needed; and the texts among their cells."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, TypeVar

from newsdesk.clients.rows import jsonl, parquet, recognise, text
from newsdesk.clients.rows.delimited import Delimited
from newsdesk.clients.rows.dialect import TEXT
from newsdesk.clients.rows.errors import RowsError, Words
from newsdesk.clients.rows.lines import Lines
from newsdesk.clients.rows.recognise import Form
from newsdesk.clients.rows.row import LONGEST_ROW, TOO_LONG, FileRow, RowRefusal
from newsdesk.clients.rows.streams import CountedStream
from newsdesk.server.contract import MAX_TEXT_BYTES

T = TypeVar("T")


class Reader:
    """The rows of an open file, in order, once and in constant memory.

    `size` is in bytes, None for a pipe; `position` is how many of them were read, and `line` the one that the last text
    begins in (0: no lines).

    Args:
        file: open for reading bytes
        name: whose suffix says the form, unless `form` or the first bytes say another
        form: of the file
        columns: that make up the text; without any a CSV file's only column, or `text`
        header: names of a CSV file's columns, where it has no header line
        delimiter: of a CSV file, a character or its name; without, it is recognised
        words: what messages call these options

    Raises:
        RowsError: at once where the name or the first bytes are at fault, else while it is read.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        *,
        form: Form | None = None,
        columns: Sequence[str] = (),
        header: Sequence[str] = (),
        delimiter: str = "",
        words: Words | None = None,
    ) -> None:
        self._name, self._columns, self._header, self._words = name, list(columns), list(header), words or Words()
        self._form, recognised = (form, "") if form else recognise.form_of(name, self._words)
        self._delimiter = delimiter or recognised
        self.size: int | None = None
        self.line = 0
        self.names: list[str] = []
        """The columns of a CSV file, once its header is read."""
        if file.seekable():
            self.size = file.seek(0, 2)
            file.seek(0)
        try:
            self._counted = CountedStream(file)
            self._file, packed = self._opened(file)
        except RowsError as error:
            raise type(error)(f"{name}: {error}") from error
        if packed:
            self._form = Form.parquet
        elif self._form is Form.txt and self._columns:
            raise RowsError(
                f"{name}: a column is named, expected .csv, .jsonl or .parquet then; {self._words.form} says what it is"
            )

    @property
    def position(self) -> int:
        """How many bytes were read."""
        return self._counted.position

    @property
    def form(self) -> Form:
        """The file's form, by its first bytes, its name or what was said."""
        return self._form

    def rows(self) -> Iterator[FileRow]:
        """Yield the rows with all their cells, not only those of `columns`."""
        return self._named(self._read(self._columns, every=True))

    def texts(self) -> Iterator[str | bytes | RowRefusal]:
        """Yield the text of each row, or why there is none."""
        return self._named(self._texts())

    def records(self) -> Iterator[tuple[FileRow, str | bytes | RowRefusal]]:
        """Yield each row with all its cells, and its text or why there is none."""
        return self._named(self._records(every=True))

    def tables(self, rows: int, most: int) -> Iterator[Any]:
        """Yield all columns of a Parquet file as Arrow's record batches, at least one, that has the columns.

        They are for who reads the file's `texts` beside them.

        Args:
            rows: of a batch at most
            most: bytes of a batch, about

        Raises:
            RowsError: the file cannot be read.
        """
        return self._named(parquet.tables(self._file, rows, most))

    def _opened(self, file: BinaryIO) -> tuple[BinaryIO, bool]:
        if self._counted.head.startswith(recognise.PARQUET) and file.seekable():
            return file, True
        return recognise.opened(self._counted)

    def _named(self, read: Iterator[T]) -> Iterator[T]:
        try:
            yield from read
        except RowsError as error:
            raise type(error)(f"{self._name}: {error}") from error

    def _read(self, columns: list[str], every: bool) -> Iterator[FileRow]:
        if self._form is Form.parquet:
            yield from parquet.read(self._file, columns or ([] if every else [TEXT]), self._words, every)
        elif self._form is Form.txt:
            yield from text.read(Lines(self._file, MAX_TEXT_BYTES))
        elif self._form is Form.jsonl:
            yield from jsonl.read(Lines(self._file, LONGEST_ROW), frozenset(columns or [TEXT]))
        else:
            table = Delimited(Lines(self._file, LONGEST_ROW), columns, self._header, self._delimiter, self._words)
            self.names = table.names
            if not every:
                self._columns = self._columns or (table.names if len(table.names) == 1 else [TEXT])
                self._check(table.names)
            yield from table

    def _texts(self) -> Iterator[str | bytes | RowRefusal]:
        return (text for _, text in self._records(every=False))

    def _records(self, every: bool) -> Iterator[tuple[FileRow, str | bytes | RowRefusal]]:
        first = every or self._form is Form.jsonl
        for row in self._read(self._columns, every):
            if first and row.cells:
                if not self._columns and len(self.names) == 1:
                    self._columns = self.names
                self._check(list(row.cells))
                first = False
            self.line = row.line
            yield row, self._text(row)

    def _check(self, names: list[str]) -> None:
        columns = self._columns or [TEXT]
        if names and (missing := [column for column in columns if column not in names]):
            raise RowsError(
                f"no column {', '.join(missing)} among {', '.join(names)}: name one with {self._words.column}"
            )

    def _text(self, row: FileRow) -> str | bytes | RowRefusal:
        columns = self._columns or [TEXT]
        value = row.text if len(columns) > 1 or row.text is not None else row.cells.get(columns[0])
        if isinstance(value, str | bytes):  # as nearly all rows are
            value = as_sent(value)
        elif reason := row.refusal or self._wrong(row, columns):
            return RowRefusal(row.line, f"{_where(row)}: {reason}")
        else:
            value = _joined([row.cells[column] for column in columns])
        if len(value) > MAX_TEXT_BYTES:
            return RowRefusal(row.line, f"{_where(row)}: {len(value):,} bytes, {TOO_LONG}")
        return value

    def _wrong(self, row: FileRow, columns: list[str]) -> str:
        if missing := [column for column in columns if column not in row.cells]:
            return f"no {' and '.join(missing)} among {', '.join(row.cells)}: name one with {self._words.column}"
        cells = [row.cells[column] for column in columns]
        for column, cell in zip(columns, cells, strict=True):
            if not isinstance(cell, str | bytes | None):
                return f"{column} must be text, got {cell!r:.100}"
        return "" if any(cell is not None for cell in cells) else f"{' and '.join(columns)} is null, expected a text"


def _where(row: FileRow) -> str:
    return f"line {row.line}" if row.line else f"row {row.number}"


def as_sent(value: str | bytes) -> str | bytes:
    """Undo what Python makes of undecodable bytes in arguments and files, so that the server says what is wrong."""
    if isinstance(value, bytes):
        return value
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value


def _joined(cells: Sequence[str | bytes | None]) -> str | bytes:
    """Join the cells with a space; as bytes, unless a lone surrogate, which no bytes stand for, is among them."""
    parts = [as_sent(cell or "") for cell in cells]
    if all(isinstance(part, bytes) for part in parts):
        return b" ".join(part for part in parts if isinstance(part, bytes))
    return " ".join(part if isinstance(part, str) else part.decode("utf-8", "surrogateescape") for part in parts)
