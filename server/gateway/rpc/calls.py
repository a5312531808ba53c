"""A call as the HTTP/2 request that it is, so that gate, logs, metrics and traces know it as they know any other."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import grpc.aio
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from newsdesk.clients.triton_grpc import PREFIX
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.problems import Problem, TooMany

CALL = "newsdesk.call"
"""The key under which a scope holds its call."""
_HOP_BY_HOP = frozenset({"connection", "www-authenticate"})


@dataclass(frozen=True)
class Method:
    """A method of the protocol. `least` is the role that it needs; None is open to everybody."""

    name: str
    least: Role | None
    run: Callable[["RpcCall"], Awaitable[bytes]]
    streams: bool = False


class RpcCall:
    """One call of a method, and what became of it."""

    def __init__(self, method: Method, context: grpc.aio.ServicerContext, state: State) -> None:
        self.method, self.context, self.state = method, context, state
        self.response = b""
        self.problem: HTTPException | None = None
        self.caller = ""
        self._scope: dict[str, Any] = {}

    def scope(self, app: Any) -> dict[str, Any]:
        """Return the ASGI scope of a POST to the method's path, with the metadata as its headers."""
        pairs = ((name, value) for name, value in self.context.invocation_metadata() or () if isinstance(value, str))
        self._scope = {
            "type": "http",
            "method": "POST",
            "path": PREFIX + self.method.name,
            "query_string": b"",
            "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in pairs],
            "client": _client(self.context.peer()),
            "app": app,
            "route": SimpleNamespace(path=PREFIX + self.method.name),
            CALL: self,
        }
        return self._scope

    @property
    def connection(self) -> HTTPConnection:
        """The call as Starlette's connection."""
        return HTTPConnection(self._scope)

    @property
    def address(self) -> str:
        """The caller's address."""
        return str(self._scope["client"][0])

    def trailers(self) -> tuple[tuple[str, str], ...]:
        """Return what goes with the end of the call: the request's id and, of a problem, its kind and its headers."""
        trailers = {"x-request-id": str(self._scope["state"]["request_id"])}
        if isinstance(self.problem, Problem):
            trailers["newsdesk-problem"] = self.problem.kind
            headers = {name.lower(): value for name, value in (self.problem.headers or {}).items()}
            trailers |= {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
        return tuple(trailers.items())


class Concurrency:
    """How many calls of one address may be under way at once."""

    def __init__(self, most: int) -> None:
        self._most, self._by_address = most, Counter[str]()

    @contextmanager
    def counted(self, address: str) -> Iterator[None]:
        """Count a call of an address while the block runs.

        Raises:
            TooMany: as many as may be are under way.
        """
        if self._by_address[address] >= self._most:
            raise TooMany(f"{self._most} calls of {address} are under way, the most that may be.")
        self._by_address[address] += 1
        try:
            yield
        finally:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]


def _client(peer: str) -> tuple[str, int]:
    """Return address and port of gRPC's "ipv4:127.0.0.1:50000" or "ipv6:%5B::1%5D:50000"."""
    host, _, port = unquote(peer.partition(":")[2]).rpartition(":")
    return host.strip("[]"), int(port) if port.isdigit() else 0
