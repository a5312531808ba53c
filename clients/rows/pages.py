"""Sizes of the pages of a Parquet file, as their headers declare them: what a reader will allocate.

A page's header is a struct in Thrift's compact protocol: 1 type, 2 uncompressed size, 3 compressed size, and for a page
of values 5 or 8 with their number and encoding (parquet-format, src/main/thrift/parquet.thrift).
"""

import io
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

from newsdesk.clients.rows.errors import RowsError
from newsdesk.clients.rows.row import LONGEST_ROW, TOO_LONG

_FREE = 16 * 2**20
_HEADER = 64 * 1024
_DEEPEST = 16
_DICTIONARY = 2
_DATA = {0: 5, 3: 8}
"""Kinds of pages of values, and the field of the header that describes them."""
_PLAIN_OR_DICTIONARY = {0, 2, 8}


class _Page(NamedTuple):
    kind: int
    unpacked: int
    packed: int
    values: int
    encoding: int
    header: int


def check(file: BinaryIO, metadata: Any, names: Sequence[str], size: int) -> int:
    """Return the bytes that a value of these columns takes.

    That is the most where values stand in a dictionary, and may be repeated, else the average of their page.

    Args:
        file: a Parquet file
        metadata: of it, as pyarrow reads them
        names: of the columns
        size: bytes of the file

    Raises:
        RowsError: a page declares more bytes than such a file may hold at once, or its values may be any number of
            times as large as it is.
    """
    widest = 1
    most = _FREE + size * 3 // 2
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for column in (row_group.column(place) for place in range(row_group.num_columns)):
            name = column.path_in_schema
            if name.split(".")[0] not in names:
                continue
            at = min(start for start in (column.data_page_offset, column.dictionary_page_offset) if start)
            end = at + column.total_compressed_size
            while at < end:
                page = _page(file, at)
                if max(page.unpacked, page.packed) > most or min(page.unpacked, page.packed) < 0:
                    raise RowsError(
                        f"a page of column {name} declares {page.unpacked:,} bytes in a file of {size:,}: write it "
                        "with smaller pages"
                    )
                if page.kind in _DATA and page.encoding not in _PLAIN_OR_DICTIONARY:
                    raise RowsError(f"column {name} is in an encoding of deltas: write it plain, or with a dictionary")
                widest = max(widest, _widest(file, at, page, column.compression))
                at += page.header + page.packed
    if widest > LONGEST_ROW:
        raise RowsError(f"a text is {widest:,} bytes, {TOO_LONG}")
    return widest


def _widest(file: BinaryIO, at: int, page: _Page, compression: str) -> int:
    if page.kind != _DICTIONARY:
        return page.unpacked // max(page.values, 1)
    file.seek(at + page.header)
    data = file.read(page.packed)
    if compression != "UNCOMPRESSED":
        import pyarrow

        codec = {"LZ4": "lz4_raw"}.get(compression, compression.lower())
        data = pyarrow.decompress(data, page.unpacked, codec, asbytes=True)
    place = widest = 0
    while place + 4 <= len(data):  # each value behind its length
        length = int.from_bytes(data[place : place + 4], "little")
        widest = max(widest, length)
        place += 4 + length
    return widest


def _page(file: BinaryIO, at: int) -> _Page:
    file.seek(at)
    held = io.BytesIO(file.read(_HEADER))
    try:
        fields = _struct(held)
        kind = fields[1]
        values = fields.get(_DATA.get(kind, 0)) or {}
        return _Page(kind, fields[2], fields[3], values.get(1, 0), values.get({0: 2, 3: 4}.get(kind), 0), held.tell())
    except (KeyError, IndexError, AttributeError) as error:
        raise RowsError("not a Parquet file that can be read: a page has no header") from error


def _struct(held: io.BytesIO, depth: int = 0) -> dict[int, Any]:
    """Read a struct: its numbers, and the structs in it, by field."""
    if depth > _DEEPEST:
        raise IndexError
    fields: dict[int, Any] = {}
    field = 0
    while head := held.read(1)[0]:
        kind, delta = head & 15, head >> 4
        field = field + delta if delta else _number(held)
        fields[field] = _value(held, kind, depth)
    return fields


def _value(held: io.BytesIO, kind: int, depth: int) -> Any:
    if kind in (4, 5, 6):
        return _number(held)
    if kind == 12:
        return _struct(held, depth + 1)
    if kind in (3, 7):
        held.seek({3: 1, 7: 8}[kind], 1)
    elif kind == 8:
        held.seek(_unsigned(held), 1)
    elif kind in (9, 10):
        head = held.read(1)[0]
        count = head >> 4 if head >> 4 < 15 else _unsigned(held)
        if count > _HEADER:
            raise IndexError
        for _ in range(count):
            _value(held, head & 15, depth + 1)
    elif kind not in (1, 2):  # true and false are kinds of their own
        raise IndexError
    return None


def _number(held: io.BytesIO) -> int:
    value = _unsigned(held)
    return (value >> 1) ^ -(value & 1)


def _unsigned(held: io.BytesIO) -> int:
    value = shift = 0
    while True:
        byte = held.read(1)[0]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value
        if shift > 63:
            raise IndexError
