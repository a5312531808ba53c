"""Who calls, and whether they may: the dependency in front of every route but the health ones."""

import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from newsdesk.server.gateway import admission
from newsdesk.server.gateway.keys import KeyFile, Role
from newsdesk.server.gateway.problems import Forbidden, Unauthenticated
from newsdesk.server.gateway.rates import Rates
from newsdesk.server.gateway.settings import GatewaySettings
from newsdesk.server.gateway.tokens import Tokens


@dataclass(frozen=True)
class Caller:
    """`id` names the caller in logs and rate limits: key:<id>, token:<subject>, or address:<IP> without either."""

    id: str
    role: Role


class Gate:
    """Finds out the caller of a request and counts it against the caller's rate."""

    def __init__(self, settings: GatewaySettings, tokens: Tokens, rates: Rates) -> None:
        self.keys = KeyFile(settings.keys)
        self._open, self._tokens, self._rates = not settings.asks, tokens, rates

    async def admit(self, connection: HTTPConnection, least: Role) -> Caller:
        """Raises Unauthenticated, Forbidden and TooMany."""
        caller = await self._identify(connection)
        connection.state.caller = caller.id
        admission.caller.set(caller.id)
        await self._rates.count(caller.id)
        if caller.role < least:
            raise Forbidden(f"This needs the role {least.name}, and the caller is {caller.role.name}.")
        return caller

    async def _identify(self, connection: HTTPConnection) -> Caller:
        key = connection.headers.get("x-api-key", "")
        scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
        if scheme and scheme.lower() != "bearer":
            raise Unauthenticated("The Authorization header is of another scheme, expected Bearer and a key or token.")
        given = key or bearer.strip()
        if given.startswith("nd_"):
            if found := self.keys.find(given, time.time()):
                return Caller(f"key:{found.id}", Role[found.role])
            raise Unauthenticated("The key is not valid: unknown, expired or revoked.")
        if given and not key:
            return _of_token(await self._tokens.claims(given))
        if given:
            raise Unauthenticated("X-API-Key holds no key of this service, expected nd_…")
        if not self._open:
            raise Unauthenticated("A key or token is needed: send Authorization: Bearer …, or X-API-Key: nd_…")
        # Managing is never open to everybody, wherever the gateway listens: any page in a browser reaches loopback.
        return Caller(f"address:{connection.client.host if connection.client else ''}", Role.reader)


def _of_token(claims: dict[str, object]) -> Caller:
    role = claims.get("role", Role.reader.name)
    if not isinstance(role, str) or role not in Role.__members__:
        raise Unauthenticated(f"The token's role is {role!r:.40}, expected one of {', '.join(Role.__members__)}.")
    return Caller(f"token:{claims['sub']!s:.80}", Role[role])


@functools.cache  # one function a role: FastAPI calls it once a request, and a request counts once
def requires(least: Role) -> Callable[[HTTPConnection], Awaitable[Caller]]:
    """Return the dependency that admits callers of a role, or of one above it."""

    async def admitted(connection: HTTPConnection) -> Caller:
        return await connection.app.state.gate.admit(connection, least)

    return admitted


def only(least: Role) -> list[Any]:
    """Return `requires`, for a router's or a route's `dependencies`."""
    return [Depends(requires(least))]
