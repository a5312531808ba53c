"""Triton's HTTP side as the gateway uses it: requests passed through whole, and repeated while it is being healed."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from newsdesk.clients.deadline import Deadline, Retries
from newsdesk.clients.errors import NewsdeskError, ServerUnavailable, error_of, late, unavailable
from newsdesk.clients.trace import carried
from newsdesk.server.gateway.breaker import Breaker
from newsdesk.server.gateway.settings import Launch

_RETRIES = 60
_CONNECTIONS = 512
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
        headers = {**headers, **carried()}
        self._breaker.check()
        with self._breaker.counting():
            return await self._until_answered(method, path, headers, body)

    async def _until_answered(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        deadline = Deadline(self._timeout, self._url)
        retries = Retries(_RETRIES, deadline)
        while True:
            try:
                reply = await self._once(method, path, headers, body, deadline.left())
                found = error_of(reply.status, reply.error(), self._url) if reply.status >= 500 else None
                if not isinstance(found, ServerUnavailable):
                    return reply
                raise found
            except NewsdeskError as error:
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
        except aiohttp.ClientError as error:
            raise unavailable(self._url, error) from error
