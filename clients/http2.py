"""gRPC's unary calls to Triton over a connection of asyncio's own: HTTP/2 without TLS, as far as those need it.

gRPC's core takes hundreds of microseconds of CPU a call, and threads of its own. What is here is as much of RFC 9113 as
a client of Triton's needs.
"""

import asyncio
import struct
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5
_CANCEL = 8
_RESETS = {7: "UNAVAILABLE", _CANCEL: "CANCELLED", 11: "RESOURCE_EXHAUSTED"}
_MOST = 2**31 - 1
_FIRST_WINDOW, _FIRST_FRAME = 65_535, 16_384
_RENEWED = 2**30
"""Bytes that come over a connection before its window is opened anew."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_LAST_STREAM = _MOST - 2
_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_NOTHING = memoryview(b"")
_HEAD = struct.Struct(">HBBBL")
_PREFIX = 5
"""Bytes of a message's own head: whether it is packed, and its length."""


class CallFailed(Exception):
    """A call that ended with another code than OK, by its name, with the server's words."""

    def __init__(self, code: str, details: str, retry_after: str | None = None) -> None:
        super().__init__(code, details)
        self.code, self.details, self.retry_after = code, details, retry_after


class Channel:
    """One connection at a time, opened when it is needed, for the event loop that it is used in."""

    def __init__(self, netloc: str) -> None:
        host, _, port = netloc.rpartition(":")
        self._host, self._port, self._authority = host.strip("[]"), int(port), netloc.encode()
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[_Connection] | None = None
        self._heads: dict[str, bytes] = {}

    async def call(self, path: str, message: bytes, timeout: float, metadata: Sequence[tuple[str, str]] = ()) -> bytes:
        """Return the answer to a message. The call is given up, in the server, too, when it is cancelled.

        Args:
            path: of the method
            message: as it is sent
            timeout: seconds
            metadata: names and values that go with it

        Raises:
            CallFailed: the server answered with an error, or not.
        """
        end = time.monotonic() + timeout
        head = self._heads.get(path) or self._heads.setdefault(path, self._head(path))
        connection = self._connection
        if connection is None or connection.closing:
            try:
                async with asyncio.timeout(timeout):
                    connection = await self._open()
            except TimeoutError:
                raise _late() from None
        left = max(end - time.monotonic(), 1e-3)
        shown = f"{left * 1e3:.0f}m" if left < 10**5 else f"{left:.0f}S"
        head += _literal(b"grpc-timeout", shown.encode())
        for name, value in metadata:
            head += _literal(name.encode(), value.encode())
        return await connection.call(head, message, left)

    def close(self) -> None:
        """Close the connection; calls that are under way fail."""
        if self._opening:
            self._opening.cancel()
        if self._connection:
            self._connection.transport.abort()

    def _head(self, path: str) -> bytes:
        fields = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", self._authority),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )
        return b"".join(_literal(name, value) for name, value in fields)

    async def _open(self) -> "_Connection":
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._connect())
        return await asyncio.shield(self._opening)

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
        except OSError as error:
            raise CallFailed("UNAVAILABLE", f"failed to connect to all addresses: {error}") from error
        self._connection = connection
        return connection


@dataclass(slots=True, eq=False)
class _Stream:
    """A call under way. `window` is what the server takes of it at once, `unsent` what waits for that."""

    answer: asyncio.Future[bytes]
    window: int
    unsent: memoryview
    received: bytearray = field(default_factory=bytearray)

    def expire(self) -> None:
        """Let its time be over."""
        if not self.answer.done():
            self.answer.set_exception(_late())


class _Connection(asyncio.Protocol):
    """A connection of RFC 9113, on which the server is told to keep no table of headers, and to send at will."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._closing = False
        self._buffer = b""
        self._streams: dict[int, _Stream] = {}
        self._blocked: deque[int] = deque()
        self._next, self._window, self._first_window, self._frame_size = 1, _FIRST_WINDOW, _FIRST_WINDOW, _FIRST_FRAME
        self._taken = 0
        self._headers, self._ends = b"", False

    @property
    def closing(self) -> bool:
        """Whether another connection is to be opened for further calls."""
        return self._closing or self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        settings = struct.pack(">HLHLHL", 1, 0, 2, 0, _INITIAL_WINDOW_SIZE, _MOST)
        opened = struct.pack(">L", _MOST - _FIRST_WINDOW)
        self.transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, opened))

    def connection_lost(self, error: Exception | None) -> None:
        self._fail_from(1, f"Socket closed ({error})" if error else "Socket closed")

    async def call(self, head: bytes, message: bytes, timeout: float) -> bytes:
        number, self._next = self._next, self._next + 2
        self._closing = self._closing or self._next > _LAST_STREAM
        loop = asyncio.get_running_loop()
        stream = _Stream(loop.create_future(), self._first_window, _NOTHING)
        self._streams[number] = stream
        framed = b"\0" + struct.pack(">L", len(message)) + message
        opening = _frame(_HEADERS, _END_HEADERS, number, head)
        if len(framed) <= min(self._frame_size, self._window, stream.window) and not self._blocked:
            self._window -= len(framed)
            stream.window -= len(framed)
            self.transport.write(opening + _frame(_DATA, _END_STREAM, number, framed))
        else:
            self.transport.write(opening)
            stream.unsent = memoryview(framed)
            self._blocked.append(number)
            self._send()
        timer = loop.call_later(timeout, stream.expire)
        try:
            return await stream.answer
        finally:
            timer.cancel()
            if self._streams.pop(number, None) and not self.transport.is_closing():  # the caller is gone
                self.transport.write(_frame(_RESET, 0, number, struct.pack(">L", _CANCEL)))
            if self._closing and not self._streams:
                self.transport.close()

    def _send(self) -> None:
        """Send what waits, as far as the windows let it, a frame of each in turn."""
        for _ in range(len(self._blocked)):
            number = self._blocked.popleft()
            stream = self._streams.get(number)
            while stream and stream.unsent and (size := min(self._frame_size, self._window, stream.window)) > 0:
                part, stream.unsent = stream.unsent[:size], stream.unsent[size:]
                self._window -= len(part)
                stream.window -= len(part)
                self.transport.write(_frame(_DATA, 0 if stream.unsent else _END_STREAM, number, part))
            if stream and stream.unsent:
                self._blocked.append(number)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        place, whole = 0, len(buffer)
        while whole - place >= _HEAD.size:
            high, low, kind, flags, number = _HEAD.unpack_from(buffer, place)
            end = place + _HEAD.size + (high << 8 | low)
            if end > whole:
                break
            self._take(kind, flags, number & _MOST, buffer[place + _HEAD.size : end])
            place = end
        self._buffer = buffer[place:]

    def _take(self, kind: int, flags: int, number: int, content: bytes) -> None:
        if kind == _DATA:
            self._taken += len(content)
            if self._taken > _RENEWED:
                self.transport.write(_frame(_WINDOW, 0, 0, struct.pack(">L", self._taken)))
                self._taken = 0
            if stream := self._streams.get(number):
                stream.received += _unpadded(content, flags)
            if flags & _END_STREAM:
                self._end(number, "UNKNOWN", "the answer ended without a status")
        elif kind in (_HEADERS, _CONTINUATION):
            if kind == _HEADERS:
                self._headers, self._ends = b"", bool(flags & _END_STREAM)
                content = _unpadded(content, flags)[5 if flags & _PRIORITY else 0 :]
            self._headers += content
            if flags & _END_HEADERS and self._ends:
                fields = _fields(self._headers)
                code = fields.get("grpc-status", "2")
                name = _CODES[int(code)] if code.isdigit() and int(code) < len(_CODES) else "UNKNOWN"
                self._end(number, name, unquote(fields.get("grpc-message", "")))
        elif kind == _RESET:
            reset = int.from_bytes(content[:4], "big")
            self._end(number, _RESETS.get(reset, "INTERNAL"), f"the server reset the call ({reset})")
        elif kind == _SETTINGS and not flags & _ACK:
            self._set(content)
            self.transport.write(_frame(_SETTINGS, _ACK, 0, b""))
            self._send()
        elif kind == _PING and not flags & _ACK:
            self.transport.write(_frame(_PING, _ACK, 0, content))
        elif kind == _WINDOW:
            by = int.from_bytes(content[:4], "big") & _MOST
            if number == 0:
                self._window += by
            elif stream := self._streams.get(number):
                stream.window += by
            self._send()
        elif kind == _GOAWAY:
            self._closing = True
            self._fail_from((int.from_bytes(content[:4], "big") & _MOST) + 1, "the server takes no more calls")

    def _set(self, settings: bytes) -> None:
        for name, value in struct.iter_unpack(">HL", settings):
            if name == _INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._first_window
                self._first_window = value
            elif name == _MAX_FRAME_SIZE:
                self._frame_size = value

    def _end(self, number: int, code: str, details: str) -> None:
        stream = self._streams.pop(number, None)
        if stream is None or stream.answer.done():
            return
        if code == "OK":
            stream.answer.set_result(bytes(stream.received[_PREFIX:]))
        else:
            stream.answer.set_exception(CallFailed(code, details))

    def _fail_from(self, first: int, reason: str) -> None:
        self._closing = True
        for number in [number for number in self._streams if number >= first]:
            self._end(number, "UNAVAILABLE", reason)


def _late() -> CallFailed:
    return CallFailed("DEADLINE_EXCEEDED", "Deadline Exceeded")


def _frame(kind: int, flags: int, stream: int, content: bytes | memoryview) -> bytes:
    return _HEAD.pack(len(content) >> 8, len(content) & 0xFF, kind, flags, stream) + content


def _unpadded(content: bytes, flags: int) -> bytes:
    return content[1 : len(content) - content[0]] if flags & _PADDED else content


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a header without indexing and without Huffman's code: neither side keeps anything."""
    return b"\0" + _integer(len(name), 7) + name + _integer(len(value), 7) + value


def _integer(number: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if number < most:
        return bytes([number])
    encoded, number = [most], number - most
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


@lru_cache(maxsize=64)  # nothing of a block depends on another's, because no table is kept
def _fields(block: bytes) -> dict[str, str]:
    """Return the headers of a block.

    Raises:
        hpack.HPACKError: it is none.
    """
    from hpack import Decoder  # which the gateway installs, and the SDK alone does without

    return {name.decode("latin-1"): value.decode("latin-1") for name, value in Decoder().decode(block, raw=True)}
