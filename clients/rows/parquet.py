"""Rows of a Parquet file. A few hundred bytes of one can declare gigabytes: sizes are read before anything is built."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from newsdesk.clients.rows import pages
from newsdesk.clients.rows.errors import RowsError, Words
from newsdesk.clients.rows.row import TOO_LONG, FileRow
from newsdesk.server.contract import MAX_TEXT_BYTES

_ROWS = 1024
_BATCH = 16 * 2**20
"""Bytes of a batch: of many long texts it has few."""
_FOOTER = 16 * 2**20
_MOST_ROWS = 100_000, 64
"""Rows that a file may declare, and how many more for each of its bytes."""


class _Unreadable:
    """A value that is too long to be read."""


_LONG = _Unreadable()


def read(file: BinaryIO, columns: Sequence[str], words: Words, every: bool = False) -> Iterator[FileRow]:
    """Yield the rows of `columns`, or of `every` column that does not stand twice. Text is bytes, perhaps not UTF-8.

    Args:
        file: can be sought in
        columns: that must be there once
        words: what messages call the options
        every: whether other columns are read, too

    Raises:
        RowsError: the file is corrupt, declares sizes out of all proportion, or lacks or repeats a column.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise RowsError("Parquet needs pyarrow, which is not installed: pip install pyarrow") from None
    try:
        yield from _rows(file, columns, words, every, pyarrow, parquet)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise RowsError(f"not a Parquet file that can be read: {' '.join(str(error).split())[:200]}") from error


def _rows(
    file: BinaryIO, columns: Sequence[str], words: Words, every: bool, arrow: Any, parquet: Any
) -> Iterator[FileRow]:
    size = file.seek(0, 2)
    plain = _Plain(file, size)
    limits = {"thrift_string_size_limit": _FOOTER, "thrift_container_size_limit": 1_000_000}
    described = parquet.ParquetFile(plain, **limits)
    schema, count = described.schema_arrow, described.metadata.num_rows
    names = _names(schema.names, columns, words, every)
    texts = [name for name in names if arrow.types.is_string(schema.field(name).type)]
    if not every and (others := [name for name in names if name not in texts]):
        raise RowsError(f"column {others[0]} is {schema.field(others[0]).type}, expected text")
    if count > _MOST_ROWS[0] + _MOST_ROWS[1] * size:
        raise RowsError(f"the file declares {count:,} rows in {size:,} bytes")
    rows = _ROWS
    if not every:  # a build's own files are trusted
        rows = max(1, min(rows, _BATCH // pages.check(file, described.metadata, names, size)))
    opened = parquet.ParquetFile(plain, pre_buffer=False, buffer_size=64 * 1024, **limits)
    number = 0
    for batch in opened.iter_batches(rows, columns=names, use_threads=False):
        cells = [_texts(batch.column(name), arrow) if name in texts else batch.column(name) for name in names]
        for values in zip(*cells, strict=True):
            number += 1
            yield _row(number, dict(zip(names, values, strict=True)))


def tables(file: BinaryIO, rows: int, most: int) -> Iterator[Any]:
    """Yield all columns as record batches, at least one.

    Types are Parquet's own, as the schema that Arrow's writer has left is passed over.

    Args:
        file: can be sought in
        rows: of a batch at most
        most: bytes of a batch, about

    Raises:
        RowsError: the file cannot be read.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        opened = parquet.ParquetFile(_Plain(file, file.seek(0, 2)), pre_buffer=False, buffer_size=64 * 1024)
        about = opened.metadata
        groups = [about.row_group(place) for place in range(about.num_row_groups)]
        widest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
        schema, empty = opened.schema_arrow.remove_metadata(), True
        for batch in opened.iter_batches(max(1, min(rows, most // max(widest, 1))), use_threads=False):
            empty = False
            yield batch.replace_schema_metadata()
        if empty:
            yield pyarrow.RecordBatch.from_pylist([], schema=schema)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise RowsError(f"not a Parquet file that can be read: {' '.join(str(error).split())[:200]}") from error


def _row(number: int, cells: dict[str, Any]) -> FileRow:
    for name, value in cells.items():
        if value is _LONG:
            return FileRow(number, 0, {}, f"{name} is too long, {TOO_LONG}")
        if hasattr(value, "as_py"):
            cells[name] = value.as_py()
    return FileRow(number, 0, cells)


def _names(names: list[str], columns: Sequence[str], words: Words, every: bool) -> list[str]:
    """Return the columns to read. Raises RowsError."""
    counts = Counter(names)
    for name in columns:
        if counts[name] > 1:
            raise RowsError(f"column {name} stands {counts[name]} times in the file: rename all but one")
    if every:
        return [name for name in names if counts[name] == 1]
    if missing := [name for name in columns if name not in counts]:
        raise RowsError(f"no column {', '.join(missing)} among {', '.join(names)}: name one with {words.column}")
    return list(dict.fromkeys(columns))


def _texts(column: Any, arrow: Any) -> Iterator[Any]:
    """Yield the values of a batch of texts: bytes, None or _LONG."""
    values = column.cast(arrow.binary())
    if values.nbytes <= MAX_TEXT_BYTES:
        yield from values.to_pylist()
    else:
        for value in values:
            yield _LONG if value.is_valid and value.as_buffer().size > MAX_TEXT_BYTES else value.as_py()


class _Plain(io.RawIOBase):
    """A Parquet file without the Arrow schema that its writer has left in it.

    A dictionary of that schema is kept by Arrow with all that the file holds, and one value in it that is no UTF-8 ends
    the file.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        file.seek(max(size - 8, 0))
        length = int.from_bytes(file.read(4), "little")
        self._start = max(size - 8 - min(length, _FOOTER), 0)
        file.seek(self._start)
        self._footer = file.read(size - self._start).replace(b"ARROW:schema", b"ARROW:passed")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        at = self._file.tell()
        data = self._file.read(-1 if size is None else size)
        inside = max(self._start - at, 0)
        if inside >= len(data):
            return data
        start = at + inside - self._start
        return data[:inside] + self._footer[start : start + len(data) - inside]
