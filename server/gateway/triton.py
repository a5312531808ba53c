"""Triton as the gateway asks it: requests passed through whole, and repeated while it is being healed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import aiohttp
import msgspec

from newsdesk.clients.deadline import Deadline, Retries
from newsdesk.clients.errors import (
    Interrupted,
    NewsdeskError,
    ServerUnavailable,
    error_of,
    interrupted,
    late,
    unavailable,
)
from newsdesk.clients.trace import carried
from newsdesk.server.gateway.breaker import Breaker
from newsdesk.server.gateway.settings import Launch
from newsdesk.server.gateway.suspects import Suspects

_RETRIES = 60
_CONNECTIONS = 512
EXPIRED = "Request timeout expired"
"""Triton's words for a request whose own `timeout` parameter passed in its queue."""
# What the caller did not say, Triton is not told.
_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class TritonReply(Protocol):
    """A reply of Triton's, over either protocol."""

    @property
    def good(self) -> bool:
        """Whether the request was answered, and not with an error."""

    def away(self, url: str) -> ServerUnavailable | None:
        """Return why the request is to be sent again, None for an answer, be it an error of the request's own."""


AnyReply = TypeVar("AnyReply", bound=TritonReply)
Once = Callable[[float], Awaitable[AnyReply]]
"""Sends a request one time, within so many seconds. Raises NewsdeskError where nothing is answered."""


@dataclass(frozen=True)
class Reply:
    """A reply of Triton's HTTP side."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def error(self) -> str:
        """Return Triton's own words."""
        try:
            return str(msgspec.json.decode(self.body)["error"])
        except (msgspec.DecodeError, KeyError, TypeError):
            return self.body[:500].decode(errors="replace")

    @property
    def good(self) -> bool:
        """Whether the request was answered, and not with an error."""
        return self.status < 400

    def away(self, url: str) -> ServerUnavailable | None:
        """Return why the request is to be sent again, None for an answer, be it an error of the request's own."""
        if self.status < 500:
            return None
        return away(self.status, self.error(), url)


def away(status: int | str, reason: str, url: str) -> ServerUnavailable | None:
    """Return why an answer of Triton's, an HTTP status or the name of a gRPC code, is to be had again by asking."""
    error = error_of(status, reason, url)
    return error if isinstance(error, ServerUnavailable) and EXPIRED not in reason else None


def open_session() -> aiohttp.ClientSession:
    """Return a session, to be made and closed in the event loop that it is for. Packed bodies stay packed."""
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
    return aiohttp.ClientSession(connector=connector, auto_decompress=False, skip_auto_headers=_ADDED)


class TritonHttp:
    """Triton's HTTP side, as asked for one model."""

    def __init__(self, launch: Launch, session: aiohttp.ClientSession, breaker: Breaker, model: str) -> None:
        """`model` is the one whose requests these are: its suspects, and its breaker."""
        self._model = model
        self._url, self._timeout = launch.http_url, launch.settings.request_timeout
        self._session, self._breaker = session, breaker
        self.suspects = Suspects(self._counts)

    async def ask(self, method: str, path: str) -> Any:
        """Return a JSON answer.

        Raises:
            NewsdeskError: Triton answered with an error, or not.
            Unavailable: the circuit breaker is open.
        """
        reply = await self.send(method, path, {}, b"")
        if reply.status != 200:
            raise error_of(reply.status, reply.error(), self._url)
        return msgspec.json.decode(reply.body)

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Return whatever Triton answers, errors of the request's own among it.

        Raises:
            NewsdeskError: nothing answered within the time limit.
            Unavailable: the circuit breaker is open.
        """
        return await self.ask_until_answered(self.once(method, path, headers, body))

    def once(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Once[Reply]:
        """Return what sends a request over HTTP."""
        return lambda timeout: self._once(method, path, {**headers, **carried()}, body, timeout)

    async def ask_until_answered(self, once: Once[AnyReply]) -> AnyReply:
        """Return an answer; the request is repeated while nothing answers, or a backend process is dead.

        Raises:
            NewsdeskError: nothing answered within the time limit.
            Unavailable: the circuit breaker is open.
        """
        self._breaker.check()
        with self._breaker.counting():
            return await self._until_answered(once, Deadline(self._timeout, self._url))

    async def infer(self, content: bytes, once: Once[AnyReply], seconds: float | None = None) -> AnyReply:
        """Return what `ask_until_answered` does.

        A request that was in flight when a process ended is sent once more, and alone.

        Args:
            content: what the request is known by
            once: sends it
            seconds: that the caller waits; None: as long as a request may take

        Raises:
            Poisonous: it ended a process twice.
            NewsdeskError: nothing answered within the time limit.
            Unavailable: the circuit breaker is open.
        """
        timeout = self._timeout if seconds is None else min(seconds, self._timeout)
        deadline = Deadline(timeout, self._url)

        async def ask() -> AnyReply:
            return await self._until_answered(once, deadline, repeat_interrupted=False)

        self._breaker.check()
        with self._breaker.counting():
            return await self.suspects.request(content, ask, deadline.end)

    async def _counts(self) -> tuple[int, int]:
        reply = await self._once("GET", f"/v2/models/{self._model}/stats", {}, b"", self._timeout)
        if reply.status != 200:
            raise error_of(reply.status, reply.error(), self._url)
        counted = [model["inference_stats"] for model in msgspec.json.decode(reply.body)["model_stats"]]
        answered, failed = (sum(of[name]["count"] for of in counted) for name in ("success", "fail"))
        return answered, failed

    async def _until_answered(
        self, once: Once[AnyReply], deadline: Deadline, repeat_interrupted: bool = True
    ) -> AnyReply:
        retries = Retries(_RETRIES, deadline)
        while True:
            sent = time.monotonic()
            try:
                reply = await once(deadline.left())
                if (error := reply.away(self._url)) is None:
                    return reply
                raise error
            except NewsdeskError as error:
                if isinstance(error, Interrupted) and not repeat_interrupted:
                    error.sent = sent
                    raise
                await asyncio.sleep(retries.pause(error))

    async def _once(self, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Reply:
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.request(
                method, f"{self._url}{path}", headers=headers, data=body or None, timeout=limit, allow_redirects=False
            ) as response:
                return Reply(response.status, response.headers, await response.read())
        except TimeoutError as error:
            raise late(self._url) from error
        except aiohttp.ClientConnectorError as error:
            raise unavailable(self._url, error) from error
        except aiohttp.ClientError as error:
            raise interrupted(self._url, error) from error
