"""The dependency in front of every route but the health ones: it tells who calls, and whether they may."""

import functools
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from newsdesk.server.gateway import admission
from newsdesk.server.gateway.keys import KeyFile, Role
from newsdesk.server.gateway.problems import Forbidden, Unauthenticated, Unavailable
from newsdesk.server.gateway.rates import Rates
from newsdesk.server.gateway.refusals import Refusals
from newsdesk.server.gateway.settings import GatewaySettings
from newsdesk.server.gateway.tokens import BearerTokens
from newsdesk.server.runtime.errors import ServerError

CHECK_SECONDS = 2.0
"""How often a caller is looked at again who stays: a key may be revoked, a token expire."""
_MOST_SUBJECT = 80


@dataclass(frozen=True)
class Caller:
    """`id` names the caller in logs and rate limits: key:<id>, token:<subject>, or address:<IP> without either."""

    id: str
    role: Role


class Authenticator:
    """Finds out the caller of a request and counts it against the caller's rate."""

    def __init__(self, settings: GatewaySettings, tokens: BearerTokens, rates: Rates, refusals: Refusals) -> None:
        self.keys = KeyFile(settings.keys)
        self._open, self._tokens, self._rates, self._refusals = not settings.asks, tokens, rates, refusals
        self._roles = Roles(settings)

    async def admit(self, connection: HTTPConnection, least: Role) -> Caller:
        """Return who makes a request, counted against the caller's rate.

        Args:
            connection: of the request
            least: the role that it needs

        Raises:
            Unauthenticated: no valid key or token.
            Forbidden: the caller's role is below `least`.
            TooMany: the caller's rate is used up.
        """
        try:
            caller = await self._identify(connection)
            connection.state.caller = caller.id
            admission.caller.set(caller.id)
            await self._rates.count(caller.id)
            _check(caller, least)
        except (Unauthenticated, Forbidden) as problem:
            self._refusals.note(connection, problem)
            raise
        return caller

    async def count(self, caller: str) -> None:
        """Count what comes over an open connection, a message for a request.

        Raises:
            TooMany: the caller's rate is used up.
        """
        await self._rates.count(caller)

    async def check(self, connection: HTTPConnection, least: Role) -> None:
        """Look again at who is on an open connection.

        Raises:
            Unauthenticated: the key or token is no longer valid.
            Forbidden: the caller's role is below `least` now.
            Unavailable: that cannot be known.
        """
        try:
            _check(await self._identify(connection), least)
        except (Unauthenticated, Forbidden) as problem:
            self._refusals.note(connection, problem)
            raise
        except ServerError as error:
            raise Unavailable("The keys cannot be read now.") from error

    async def _identify(self, connection: HTTPConnection) -> Caller:
        key = connection.headers.get("x-api-key", "")
        scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
        if scheme and scheme.lower() != "bearer":
            raise Unauthenticated("The Authorization header is of another scheme, expected Bearer and a key or token.")
        secret = key or bearer.strip()
        if secret.startswith("nd_"):
            if entry := self.keys.find(secret, time.time()):
                return Caller(f"key:{entry.id}", Role[entry.role])
            raise Unauthenticated("The key is not valid: unknown, expired or revoked.")
        if secret and not key:
            return self._roles.of_token(await self._tokens.claims(secret))
        if secret:
            raise Unauthenticated("X-API-Key holds no key of this service, expected nd_…")
        if not self._open:
            raise Unauthenticated("A key or token is needed: send Authorization: Bearer …, or X-API-Key: nd_…")
        # Managing is never open to everybody, wherever the gateway listens: any page in a browser reaches loopback.
        return Caller(f"address:{connection.client.host if connection.client else ''}", Role.reader)


class Roles:
    """The roles that tokens give their bearers."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._claim = settings.jwt_role_claim
        self._names = [role.name for role in Role if role < Role.admin or settings.jwt_admin]

    def of_token(self, claims: dict[str, object]) -> Caller:
        """Return the caller that a token's claims name.

        Raises:
            Unauthenticated: its role is none that a token may give.
        """
        role = claims.get(self._claim, Role.reader.name)
        if not isinstance(role, str) or role not in self._names:
            more = "" if role != Role.admin.name else "; --jwt-admin lets tokens be an administrator's, too"
            raise Unauthenticated(
                f"The token's {self._claim} is {role!r:.40}, expected a role, one of {', '.join(self._names)}{more}."
            )
        return Caller(f"token:{_short(str(claims['sub']))}", Role[role])


def _short(subject: str) -> str:
    """Return a subject that fits into a log, no other's."""
    if len(subject) <= _MOST_SUBJECT:
        return subject
    return f"{subject[:_MOST_SUBJECT]}…{hashlib.sha256(subject.encode(errors='replace')).hexdigest()[:16]}"


def _check(caller: Caller, least: Role) -> None:
    if caller.role < least:
        raise Forbidden(f"This needs the role {least.name}, and the caller is {caller.role.name}.")


@functools.cache  # one function a role: FastAPI calls it once a request, and a request counts once
def requires(least: Role) -> Callable[[HTTPConnection], Awaitable[Caller]]:
    """Return the dependency that admits callers of a role, or of one above it."""

    async def admitted(connection: HTTPConnection) -> Caller:
        return await connection.app.state.gate.admit(connection, least)

    return admitted


def only(least: Role) -> list[Any]:
    """Return `requires`, for a router's or a route's `dependencies`."""
    return [Depends(requires(least))]
