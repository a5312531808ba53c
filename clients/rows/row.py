"""A row, and why one is refused."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from newsdesk.server.contract import MAX_TEXT_BYTES

LONGEST_ROW = 4 * MAX_TEXT_BYTES
"""Bytes of a line, and of a record with all its columns. Nothing is kept of a longer one."""
TOO_LONG = f"expected a text of at most {MAX_TEXT_BYTES // 1024} KiB"


class FileRow(NamedTuple):
    """A row as it stands in its file.

    Attributes:
        number: of the row, from 1; rows that are refused count
        line: that the row begins in, from 1; 0 in a file without lines
        cells: by column; str, bytes where the file says that they are text and they may not be UTF-8, else any value
        refusal: why this row alone cannot be read, "" where it can
        text: the whole row, where the file has no columns
    """

    number: int
    line: int
    cells: Mapping[str, Any]
    refusal: str = ""
    text: str | bytes | None = None


class RowRefusal(NamedTuple):
    """A row that stands in the place of a text and is none, and the line that it begins in (0: no lines)."""

    line: int
    reason: str
