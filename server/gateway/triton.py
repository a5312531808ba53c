"""Triton's HTTP side as the gateway uses it: requests passed through whole, and repeated while it is being healed."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
from newsdesk.server.serving.workspace import MODEL

_RETRIES = 60
_CONNECTIONS = 512
EXPIRED = "Request timeout expired"
"""Triton's words for a request whose own `timeout` parameter passed in its queue."""
# What the caller did not say, Triton is not told.
_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def error(self) -> str:
        """Return Triton's own words."""
        try:
            return str(msgspec.json.decode(self.body)["error"])
        except (msgspec.DecodeError, KeyError, TypeError):
            return self.body[:500].decode(errors="replace")


def open_session() -> aiohttp.ClientSession:
    """To be called, and closed, in the event loop that it is for. Bodies stay as they are, compressed ones too."""
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
    return aiohttp.ClientSession(connector=connector, auto_decompress=False, skip_auto_headers=_ADDED)


class Triton:
    def __init__(self, launch: Launch, session: aiohttp.ClientSession, breaker: Breaker) -> None:
        self._url, self._timeout = launch.http_url, launch.settings.request_timeout
        self._session, self._breaker = session, breaker
        self.suspects = Suspects(self._counts)

    async def ask(self, method: str, path: str) -> Any:
        """Return a JSON answer. Raises NewsdeskError."""
        reply = await self.send(method, path, {}, b"")
        if reply.status != 200:
            raise error_of(reply.status, reply.error(), self._url)
        return msgspec.json.decode(reply.body)

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Return whatever Triton answers, errors of the request's own among it. Raises NewsdeskError and Unavailable.

        Requests are repeated within the time limit while nothing answers, or a backend process is dead.
        """
        self._breaker.check()
        with self._breaker.counting():
            return await self._until_answered(method, path, headers, body, Deadline(self._timeout, self._url))

    async def infer(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Return what `send` does. A request that was in flight when a process ended is sent once more, and alone.

        Raises Poisonous for one that ends another.
        """
        deadline = Deadline(self._timeout, self._url)

        async def ask() -> Reply:
            return await self._until_answered("POST", path, headers, body, deadline, repeat_interrupted=False)

        self._breaker.check()
        with self._breaker.counting():
            return await self.suspects.request(body, ask, deadline.end)

    async def _counts(self) -> tuple[int, int]:
        reply = await self._once("GET", f"/v2/models/{MODEL}/stats", {}, b"", self._timeout)
        if reply.status != 200:
            raise error_of(reply.status, reply.error(), self._url)
        counted = [model["inference_stats"] for model in msgspec.json.decode(reply.body)["model_stats"]]
        answered, failed = (sum(of[name]["count"] for of in counted) for name in ("success", "fail"))
        return answered, failed

    async def _until_answered(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        deadline: Deadline,
        repeat_interrupted: bool = True,
    ) -> Reply:
        headers = {**headers, **carried()}
        retries = Retries(_RETRIES, deadline)
        while True:
            sent = time.monotonic()
            try:
                reply = await self._once(method, path, headers, body, deadline.left())
                error = error_of(reply.status, reply.error(), self._url) if reply.status >= 500 else None
                if not isinstance(error, ServerUnavailable) or EXPIRED in reply.error():
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
