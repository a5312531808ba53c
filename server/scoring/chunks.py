"""The rows of a file in chunks, cut alike each time that it is read."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from newsdesk.clients.rows import Form, Reader, RowRefusal, RowsError

ROWS = 1024
"""Rows of a chunk: what a killed run computes again, and what the memory holds a few times over."""
BYTES = 8 * 2**20
"""Bytes of a chunk's rows from which on it takes no further one."""
_NUMBER = 8


@dataclass(frozen=True)
class Reading:
    """How a file is read, as the options of `classify` say."""

    columns: Sequence[str] = ()
    delimiter: str = ""
    form: Form | None = None


@dataclass(frozen=True)
class RowChunk:
    """Consecutive rows.

    Attributes:
        number: of the chunk in its file, from 0
        texts: of each row, or why there is none
        rows: the cells of each row by column; of a Parquet file, an Arrow record batch
        names: the columns of a CSV file, none of any other
    """

    number: int
    texts: list[str | bytes | RowRefusal]
    rows: Any
    names: list[str]


def chunks(file: BinaryIO, name: str, form: Form, reading: Reading) -> Iterator[RowChunk]:
    """Yield the chunks of an open file, at least one.

    Args:
        file: is read to its end
        name: stands in messages
        form: that it must be of
        reading: how it is read

    Raises:
        RowsError: it cannot be read as rows, or is of another form.
        OSError: it cannot be read.
    """
    reader = Reader(file, name, form=reading.form, columns=reading.columns, delimiter=reading.delimiter)
    if reader.form is not form:
        raise RowsError(f"{name}: this is a {reader.form} file by its first bytes, expected {form}")
    yield from _tables(reader, name) if reader.form is Form.parquet else _rows(reader)


def _tables(reader: Reader, name: str) -> Iterator[RowChunk]:
    texts = reader.texts()
    for number, table in enumerate(reader.tables(ROWS, BYTES)):
        own = [next(texts, None) for _ in range(table.num_rows)]
        whole = [text for text in own if text is not None]
        if len(whole) < len(own):
            raise RowsError(f"{name}: it holds fewer rows than it says")
        if not number and not own:
            next(texts, None)  # for what is wrong with its columns
        yield RowChunk(number, whole, table, [])


def _rows(reader: Reader) -> Iterator[RowChunk]:
    number = size = 0
    texts: list[str | bytes | RowRefusal] = []
    rows: list[dict[str, Any]] = []
    for row, text in reader.records():
        cells = dict(row.cells) if row.text is None else {"text": row.text}
        texts.append(text)
        rows.append(cells)
        size += sum(map(_size, cells.values()))
        if len(rows) == ROWS or size > BYTES:
            yield RowChunk(number, texts, rows, reader.names)
            number, size, texts, rows = number + 1, 0, [], []
    if rows or not number:
        yield RowChunk(number, texts, rows, reader.names)


def _size(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return len(json.dumps(value)) if isinstance(value, dict | list) else _NUMBER
