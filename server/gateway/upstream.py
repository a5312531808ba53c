"""Triton's gRPC side as the gateway's asks it: messages go to and fro as they are."""

from dataclasses import dataclass

from newsdesk.clients.errors import ServerUnavailable, late
from newsdesk.clients.http2 import CallFailed, Channel
from newsdesk.clients.trace import carried
from newsdesk.clients.triton_grpc import PREFIX
from newsdesk.server.gateway.triton import Once, away

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
        self._url, self._channel = url, Channel(url.removeprefix("grpc://"))

    def once(self, method: str, body: bytes) -> Once[RpcReply]:
        """Return what sends a message. It is given up, in Triton, too, when whoever waits for it is cancelled."""

        async def send(timeout: float) -> RpcReply:
            try:
                return RpcReply(_OK, "", await self._channel.call(PREFIX + method, body, timeout, [*carried().items()]))
            except CallFailed as error:
                if error.code == _LATE:
                    raise late(self._url) from error
                return RpcReply(error.code, error.details, b"")

        return send

    async def close(self) -> None:
        """Close the connection."""
        self._channel.close()
