"""Texts of bytes, as whoever reads a file gets them."""

import gzip
import io

from newsdesk.clients.rows import Reader, RowRefusal


def texts(name: str, data: bytes, *columns: str, **how: object) -> list[str | bytes | RowRefusal]:
    return list(Reader(io.BytesIO(data), name, columns=columns, **how).texts())  # type: ignore[arg-type]


def reasons(name: str, data: bytes, *columns: str, **how: object) -> list[str | bytes]:
    """Return the texts, and of those that are refused why."""
    return [text.reason if isinstance(text, RowRefusal) else text for text in texts(name, data, *columns, **how)]


class Pipe(io.RawIOBase):
    """Bytes that come a few at a time and cannot be sought in."""

    def __init__(self, data: bytes, size: int = 3) -> None:
        self._data, self._size = data, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        block, self._data = self._data[: self._size], self._data[self._size :]
        buffer[: len(block)] = block
        return len(block)


def packed(data: bytes) -> bytes:
    """Return the same gzip file for the same bytes, whenever it is made: pytest-xdist compares parameters."""
    return gzip.compress(data, mtime=0)


def named(parameter: object) -> str:
    """Name a test by the words among its parameters, not by megabytes of them."""
    return parameter[:40] if isinstance(parameter, str) else "_"
