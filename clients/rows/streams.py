"""Bytes on their way from a file to its rows: counted, unpacked, in UTF-8, and a block at a time."""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from newsdesk.clients.rows.errors import RowsError

BLOCK_BYTES = 64 * 1024
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
        while not self._enough() and (block := self._read(BLOCK_BYTES)):
            self.head += block
        self._pending = self.head

    def _enough(self) -> bool:
        head = self.head
        return len(head) >= BLOCK_BYTES or (len(head) >= _MAGIC and (b"\n" in head or b"\r" in head[:-2]))

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and return how many bytes were read."""
        block = self._pending or self._read(len(buffer))
        size = min(len(buffer), len(block))
        buffer[:size] = block[:size]
        self._pending = block[size:]
        self.position += size
        return size


def buffered(raw: io.RawIOBase) -> BinaryIO:
    """Return a file with a buffer of BLOCK_BYTES bytes."""
    return cast(BinaryIO, io.BufferedReader(raw, BLOCK_BYTES))


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
            block = self._file.read1(len(buffer))
        except EOFError:
            raise RowsError("the gzip file is cut short: its end is missing") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise RowsError(f"the gzip file is corrupt: {error}") from error
        self._size += len(block)
        if self._size > max(_FREE, _MOST_GROWTH * self._packed.position):
            raise RowsError(f"the gzip file unpacks to more than {_MOST_GROWTH} times its size")
        buffer[: len(block)] = block
        return len(block)


class Changed(io.RawIOBase):
    """The bytes of another file as `change` makes them of each block; the last block is empty."""

    def __init__(self, file: Any, change: Callable[[bytes], bytes]) -> None:
        self._file, self._change = file, change
        self._pending, self._ended = b"", False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and return how many bytes were read."""
        while not self._pending and not self._ended:
            block = self._file.read1(BLOCK_BYTES)
            self._pending, self._ended = self._change(block), not block
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size


def from_encoding(encoding: str) -> Callable[[bytes], bytes]:
    """Return the change from another encoding to UTF-8. Undecodable bytes become bytes that are no UTF-8 either."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")

    def change(block: bytes) -> bytes:
        try:
            return decoder.decode(block, final=not block).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError:  # it ends within a character
            return b"\xff"

    return change


def from_carriage_returns(block: bytes) -> bytes:
    """Return bytes with newlines for carriage returns."""
    return block.replace(b"\r", b"\n")
