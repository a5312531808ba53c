"""Connections: how large a request's head may be, how long it may take, and how many connections one address holds.

A connection too many takes the place of its address's oldest that has no request under way: heads that are never sent
to their end keep nobody out.
"""

import asyncio
import resource
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 10.0
_SEPARATORS = len(": \r\n")


class Connection(Protocol):
    """A connection that `Connections` counts."""

    transport: asyncio.Transport

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""


class Connections:
    """Those that are open, of each address the oldest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_address: dict[str, dict[Connection, None]] = {}

    def enter(self, connection: Connection) -> None:
        """Count a connection, and end one where its address has too many: an idle one, else this."""
        held = self._by_address.setdefault(_address(connection.transport), {})
        held[connection] = None
        if len(held) > self._most:
            victim = next((other for other in held if other.idle), connection)
            del held[victim]
            victim.transport.abort()

    def leave(self, connection: Connection) -> None:
        """Count a connection no more."""
        address = _address(connection.transport)
        held = self._by_address.get(address, {})
        held.pop(connection, None)
        if not held:
            self._by_address.pop(address, None)


def raise_files_limit() -> None:
    """Allow this process as many open files, and so connections, as the system lets it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Http(HttpToolsProtocol):
    """uvicorn's protocol, within limits. A head that is too large is answered with 431, one that is late with 408."""

    def __init__(self, *args: Any, within: Connections, **named: Any) -> None:
        super().__init__(*args, **named)
        self._within = within
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = self._unparsed = 0
        self._refused = 400, ""

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and expect its first head."""
        super().connection_made(transport)
        self._expect()
        self._within.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection no more."""
        self._within.leave(self)
        self._expected()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over: a WebSocket is counted as one."""
        self._within.leave(self)
        self._expected()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Parse what has come, and refuse a head that goes on too long."""
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > HEAD_BYTES + len(data):
            self._refuse(431, "The head of the request is too large.")

    def on_message_begin(self) -> None:
        """Expect a head."""
        super().on_message_begin()
        self._head_bytes = self._unparsed = 0
        self._expect()

    def on_url(self, url: bytes) -> None:
        """Take a part of the URL, which counts for the head."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or one of the trailers of a body in chunks."""
        self._count(len(name) + len(value) + _SEPARATORS)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Expect no head any more."""
        self._expected()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, which does not count for the head."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect nothing more, where the request is answered."""
        if self.idle:
            self._expected()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Expect the rest of a body whose request is answered before its end."""
        super().on_response_complete()
        if self.cycle.more_body and not self.pipeline:  # nobody reads it any more
            self._expect()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, or is too large."""
        self._refuse(*(self._refused if self._refused[1] else (400, msg)))

    def _count(self, size: int) -> None:
        self._unparsed = 0
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._refused = 431, f"The head of the request is larger than {HEAD_BYTES // 1024} KiB."
            raise ValueError(self._refused[1])

    def _expect(self) -> None:
        """Expect the end of a head, or of what follows an answered request."""
        self._expected()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def _expected(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        if self.flow.read_paused:  # the gateway itself does not read on
            self._expect()
        elif self.cycle is not None and self.cycle.more_body:
            self.transport.abort()
        else:
            self._refuse(408, f"The request's head did not come within {HEAD_SECONDS:.0f} s.")

    def _refuse(self, status: int, reason: str) -> None:
        if self.transport.is_closing():
            return
        if self.idle:
            head = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head % len(reason) + reason.encode())
        self.transport.close()


class WebSockets(WebSocketsSansIOProtocol):
    """uvicorn's protocol, counted."""

    idle = False

    def __init__(self, *args: Any, within: Connections, **named: Any) -> None:
        super().__init__(*args, **named)
        self._within = within

    def connection_made(self, transport: Any) -> None:
        """Count the connection."""
        super().connection_made(transport)
        self._within.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection no more."""
        self._within.leave(self)
        super().connection_lost(exc)


def _address(transport: asyncio.Transport) -> str:
    remote = get_remote_addr(transport)
    return remote[0] if remote else ""
