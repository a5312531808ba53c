"""Rows of a text a line."""

from collections.abc import Iterator

from newsdesk.clients.rows.lines import Lines
from newsdesk.clients.rows.row import TOO_LONG, FileRow


def read(lines: Lines) -> Iterator[FileRow]:
    """Yield a row a line, blank ones too."""
    for line in lines:
        if line.whole:
            yield FileRow(line.number, line.number, {}, text=line.data.rstrip(b"\r\n"))
        else:
            yield FileRow(line.number, line.number, {}, f"{line.size:,} bytes, {TOO_LONG}")
