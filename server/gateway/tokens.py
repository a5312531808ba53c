"""JWT bearer tokens: HS256 with a shared secret, and asymmetric ones with the public keys of an identity provider."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import jwt

from newsdesk.server.gateway.problems import Unauthenticated, Unavailable
from newsdesk.server.gateway.settings import GatewaySettings

# The algorithm is ours to choose, by the kind of key, and never the token's: a public key must not become a secret.
_SHARED = ("HS256",)
_PUBLIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_LEEWAY = 10
_FRESH_SECONDS = 300
_REFETCH_SECONDS = 10
_FETCH_SECONDS = 5


class BearerTokens:
    """Checks tokens.

    Raises:
        GatewaySettingsError: the secret cannot be used.
    """

    def __init__(self, settings: GatewaySettings, session: aiohttp.ClientSession) -> None:
        self._secret = settings.secret()
        self._public = PublicKeys(settings.jwks, session) if settings.jwks else None
        self._expected: dict[str, Any] = {
            "issuer": settings.jwt_issuer or None,
            "audience": settings.jwt_audience or None,
            "leeway": _LEEWAY,
            "options": {"require": ["exp", "sub"], "verify_aud": bool(settings.jwt_audience)},
        }

    async def claims(self, token: str) -> dict[str, Any]:
        """Return what a valid token says.

        Raises:
            Unauthenticated: it is refused, with the reason.
            Unavailable: there are no public keys yet.
        """
        try:
            head = jwt.get_unverified_header(token)
            if head.get("alg") in _SHARED and self._secret:
                return jwt.decode(token, self._secret, algorithms=_SHARED, **self._expected)
            if head.get("alg") in _PUBLIC and self._public:
                key = await self._public.find(str(head.get("kid", "")))
                return jwt.decode(token, key, algorithms=[key.algorithm_name], **self._expected)
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"The token is refused: {error}.") from None
        raise Unauthenticated(f"The token is refused: its algorithm, {head.get('alg')!r:.20}, is not accepted here.")


class PublicKeys:
    """A JWK set, fetched again when it is old or lacks a key, and used on while the provider is away."""

    def __init__(self, where: str, session: aiohttp.ClientSession) -> None:
        self._where, self._session = where, session
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, kid: str) -> jwt.PyJWK:
        """Return the key with an id, or the only one for a token without.

        Raises:
            jwt.PyJWTError: there is no such key.
            Unavailable: no keys could be read yet.
        """
        # Who needs what is being fetched waits for it; whose key is known goes on.
        if self._wanted(kid) and not (kid in self._keys and self._fetching.locked()):
            async with self._fetching:
                if self._wanted(kid):
                    await self._fetch()
        if not self._keys:
            raise Unavailable("The keys of the identity provider cannot be read now. Send the request again.")
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if kid not in self._keys:
            raise jwt.InvalidKeyError("it is signed with a key that the identity provider does not publish")
        return self._keys[kid]

    def _wanted(self, kid: str) -> bool:
        """Whether to fetch: not at every forged key id."""
        now = time.monotonic()
        stale = now > self._fetched + _FRESH_SECONDS or (kid and kid not in self._keys)
        return bool(stale) and now > self._tried + _REFETCH_SECONDS

    async def _fetch(self) -> None:
        try:
            if "://" in self._where:
                timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
                async with self._session.get(self._where, timeout=timeout, raise_for_status=True) as response:
                    raw = await response.read()
            else:
                raw = await asyncio.to_thread(Path(self._where).read_bytes)
            keys = jwt.PyJWKSet.from_dict(json.loads(raw)).keys
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, AttributeError, jwt.PyJWTError):
            return
        finally:
            self._tried = time.monotonic()  # not before: those who wait would take it for a try that failed
        self._keys = {key.key_id or "": key for key in keys if key.algorithm_name in _PUBLIC}
        self._fetched = self._tried
