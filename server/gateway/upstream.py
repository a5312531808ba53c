"""Triton's gRPC side as the gateway's asks it: messages go to and fro as they are."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import grpc.aio

from newsdesk.clients.errors import ServerUnavailable, late
from newsdesk.clients.trace import carried
from newsdesk.clients.triton_grpc import CHANNEL_OPTIONS
from newsdesk.server.gateway.triton import Once, away

PREFIX = "/inference.GRPCInferenceService/"
_OK, _LATE = "OK", "DEADLINE_EXCEEDED"


@dataclass(frozen=True)
class RpcReply:
    """`code` is the name of a gRPC code; `reason` is Triton's own words where it is not OK."""

    code: str
    reason: str
    body: bytes

    @property
    def good(self) -> bool:
        """Whether the request was answered, and not with an error."""
        return self.code == _OK

    def away(self, url: str) -> ServerUnavailable | None:
        """Return why the request is to be sent again, None for an answer, be it an error of the request's own."""
        return None if self.good else away(self.code, self.reason, url)


class Upstream:
    """One connection to Triton, for one event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._channel = grpc.aio.insecure_channel(url.removeprefix("grpc://"), options=CHANNEL_OPTIONS)
        self._methods: dict[str, Callable[..., Awaitable[bytes]]] = {}

    def once(self, method: str, body: bytes) -> Once[RpcReply]:
        """Return what sends a message. It is given up, in Triton, too, when whoever waits for it is cancelled."""
        call = self._methods.get(method) or self._methods.setdefault(method, self._channel.unary_unary(PREFIX + method))

        async def send(timeout: float) -> RpcReply:
            try:
                return RpcReply(_OK, "", await call(body, timeout=timeout, metadata=tuple(carried().items())))
            except grpc.aio.AioRpcError as error:
                code = error.code().name
                if code == _LATE:
                    raise late(self._url) from error
                return RpcReply(code, error.details() or "", b"")

        return send

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()
