"""Bytes on their way from a file to its rows: counted, unpacked, in UTF-8, and a piece at a time."""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from newsdesk.clients.rows.errors import RowsError

PIECE = 64 * 1024
_MAGIC = 8
# A text shrinks to a tenth. What grows beyond these was made to fill whoever unpacks it.
_MOST_GROWTH = 500
_FREE = 256 * 2**20


class CountedStream(io.RawIOBase):
    """The bytes of an open file.

    `head` are the first, with a whole line among them, and `position` is how many are read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._read: Callable[[int], bytes] = getattr(file, "read1", file.read)
        self.position = 0
        self.head = b""
        while not self._enough() and (piece := self._read(PIECE)):
            self.head += piece
        self._pending = self.head

    def _enough(self) -> bool:
        head = self.head
        return len(head) >= PIECE or (len(head) >= _MAGIC and (b"\n" in head or b"\r" in head[:-2]))

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and return how many bytes were read."""
        piece = self._pending or self._read(len(buffer))
        size = min(len(buffer), len(piece))
        buffer[:size] = piece[:size]
        self._pending = piece[size:]
        self.position += size
        return size


def buffered(raw: io.RawIOBase) -> BinaryIO:
    """Return a file with a buffer of PIECE bytes."""
    return cast(BinaryIO, io.BufferedReader(raw, PIECE))


class Unpacked(io.RawIOBase):
    """The bytes that a gzip file holds."""

    def __init__(self, packed: CountedStream) -> None:
        self._packed = packed
        self._file = gzip.GzipFile(fileobj=buffered(packed))
        self._size = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and return how many bytes were read.

        Raises:
            RowsError: the file is cut short, corrupt, or unpacks to far more than its size.
        """
        try:
            piece = self._file.read1(len(buffer))
        except EOFError:
            raise RowsError("the gzip file is cut short: its end is missing") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise RowsError(f"the gzip file is corrupt: {error}") from error
        self._size += len(piece)
        if self._size > max(_FREE, _MOST_GROWTH * self._packed.position):
            raise RowsError(f"the gzip file unpacks to more than {_MOST_GROWTH} times its size")
        buffer[: len(piece)] = piece
        return len(piece)


class Changed(io.RawIOBase):
    """The bytes of another file as `change` makes them of each piece; the last piece is empty."""

    def __init__(self, file: Any, change: Callable[[bytes], bytes]) -> None:
        self._file, self._change = file, change
        self._pending, self._ended = b"", False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and return how many bytes were read."""
        while not self._pending and not self._ended:
            piece = self._file.read1(PIECE)
            self._pending, self._ended = self._change(piece), not piece
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size


def from_encoding(encoding: str) -> Callable[[bytes], bytes]:
    """Return the change from another encoding to UTF-8. What is undecodable there is not UTF-8 either."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")

    def change(piece: bytes) -> bytes:
        try:
            return decoder.decode(piece, final=not piece).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError:  # it ends within a character
            return b"\xff"

    return change


def from_carriage_returns(piece: bytes) -> bytes:
    """Return bytes with newlines for carriage returns."""
    return piece.replace(b"\r", b"\n")
