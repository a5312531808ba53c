"""Tokens by themselves: whose are taken, and when a provider's keys are read; the clock is ours."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from newsdesk.server.gateway import tokens
from newsdesk.server.gateway.problems import Unauthenticated, Unavailable
from newsdesk.server.gateway.settings import GatewaySettings
from newsdesk.server.gateway.tokens import BearerTokens, PublicKeys
from tests.server.gateway.gateways import SECRET, token

NEWSDESK = {"iss": "https://id.example", "aud": "newsdesk"}
"""The claims of a provider's tokens for newsdesk."""
ES256 = {kid: ec.generate_private_key(ec.SECP256R1()) for kid in ("one", "two", "forged")}


class Provider:
    """A file of public keys, counting how often it is read; its clock moves when it is told."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.now, self.reads = path, 1000.0, 0
        monkeypatch.setattr(tokens, "time", SimpleNamespace(monotonic=lambda: self.now))
        read = Path.read_bytes

        def counting(of: Path) -> bytes:
            self.reads += of == path
            return read(of)

        monkeypatch.setattr(Path, "read_bytes", counting)

    def publish(self, *kids: str, **more: str) -> None:
        published = [jwt.algorithms.ECAlgorithm.to_jwk(ES256[kid].public_key(), as_dict=True) for kid in kids]
        keys = [{**key, "kid": kid, **more} if kid else key for kid, key in zip(kids, published, strict=True)]
        self.path.write_text(json.dumps({"keys": keys}))


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Provider:
    made = Provider(tmp_path / "jwks.json", monkeypatch)
    made.publish("one")
    return made


def settings(folder: Path, **more: Any) -> GatewaySettings:
    if "jwks" in more:
        more = {"jwt_issuer": NEWSDESK["iss"], "jwt_audience": NEWSDESK["aud"]} | more
    return GatewaySettings(keys=folder / "keys.json", **more)


def run(use: Callable[[aiohttp.ClientSession], Awaitable[Any]]) -> Any:
    async def using() -> Any:
        async with aiohttp.ClientSession() as session:
            return await use(session)

    return asyncio.run(using())


def claims(settings: GatewaySettings, text: str) -> Any:
    return run(lambda session: BearerTokens(settings, session).claims(text))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(f" {SECRET}\n")
    return tmp_path / "secret"


def test_a_token_of_the_shared_secret_says_who_it_is(secret: Path, tmp_path: Path) -> None:
    payload = claims(settings(tmp_path, jwt_secret_file=secret), token(sub="the desk", role="operator"))
    assert (payload["sub"], payload["role"]) == ("the desk", "operator")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, 'missing the "exp"'),
        ({"sub": None}, 'missing the "sub"'),
        ({"nbf": 10**11}, "not yet valid"),
        ({"secret": "another secret, which is long enough, too"}, "Signature"),
        ({"algorithm": "HS512", "secret": SECRET * 2}, "'HS512', is not accepted here"),
    ],
)
def test_a_token_that_is_not_as_expected_is_refused_with_the_reason(
    change: dict[str, Any], reason: str, secret: Path, tmp_path: Path
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        claims(settings(tmp_path, jwt_secret_file=secret), token(**change))
    assert refused.value.detail.startswith("The token is refused: ")
    assert reason in refused.value.detail


def test_ten_seconds_of_another_clock_are_forgiven(secret: Path, tmp_path: Path) -> None:
    configured = settings(tmp_path, jwt_secret_file=secret)
    assert claims(configured, token(exp=time.time() - 5))["sub"] == "somebody"
    with pytest.raises(Unauthenticated, match="expired"):
        claims(configured, token(exp=time.time() - 15))


@pytest.mark.parametrize("text", ["", "a.b.c", "nd_012345678901_x", "e30.e30."])
def test_what_is_no_token_is_refused(text: str, secret: Path, tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated, match="The token is refused"):
        claims(settings(tmp_path, jwt_secret_file=secret), text)


def test_issuer_and_audience_count_where_they_are_set(secret: Path, tmp_path: Path) -> None:
    lax = settings(tmp_path, jwt_secret_file=secret)
    strict = settings(tmp_path, jwt_secret_file=secret, jwt_issuer="https://id.example", jwt_audience="newsdesk")
    right = token(iss="https://id.example", aud="newsdesk")
    assert claims(strict, right)["aud"] == "newsdesk"
    assert claims(lax, right)["aud"] == "newsdesk"
    for wrong in (
        token(iss="https://id.example"),
        token(aud="newsdesk"),
        token(iss="https://id.example", aud="another"),
        token(iss="https://another.example", aud="newsdesk"),
    ):
        assert claims(lax, wrong)["sub"] == "somebody"
        with pytest.raises(Unauthenticated):
            claims(strict, wrong)


def test_a_public_key_is_no_secret(provider: Provider, secret: Path, tmp_path: Path) -> None:
    """Without a secret no HS256 token is taken, and without a provider no signed one."""
    with pytest.raises(Unauthenticated, match="'HS256', is not accepted"):
        claims(settings(tmp_path, jwks=str(provider.path)), token(headers={"kid": "one"}))
    with pytest.raises(Unauthenticated, match="'ES256', is not accepted"):
        claims(settings(tmp_path, jwt_secret_file=secret), token(ES256["one"], "ES256", {"kid": "one"}, **NEWSDESK))


def test_a_signed_token_is_checked_with_the_key_of_its_id(provider: Provider, tmp_path: Path) -> None:
    provider.publish("one", "two")
    configured = settings(tmp_path, jwks=str(provider.path))
    for kid in ("one", "two"):
        assert claims(configured, token(ES256[kid], "ES256", {"kid": kid}, **NEWSDESK))["sub"] == "somebody"
    for key, kid, reason in (
        ("forged", "one", "Signature"),
        ("one", "two", "Signature"),
        ("forged", "forged", "a key that the identity provider does not publish"),
        ("one", "", "a key that the identity provider does not publish"),  # which of the two?
    ):
        with pytest.raises(Unauthenticated, match=reason):
            claims(configured, token(ES256[key], "ES256", {"kid": kid} if kid else None, **NEWSDESK))


def test_a_token_without_an_id_is_checked_with_the_only_key(provider: Provider, tmp_path: Path) -> None:
    configured = settings(tmp_path, jwks=str(provider.path))
    assert claims(configured, token(ES256["one"], "ES256", **NEWSDESK))["sub"] == "somebody"


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'])
def test_without_any_key_nobody_is_called_a_liar(raw: bytes, provider: Provider, tmp_path: Path) -> None:
    """Whoever has a token comes again; a provider that is away says nothing of it."""
    provider.path.write_bytes(raw)
    with pytest.raises(Unavailable, match="keys of the identity provider cannot be read now"):
        claims(settings(tmp_path, jwks=str(provider.path)), token(ES256["one"], "ES256", {"kid": "one"}, **NEWSDESK))


def test_keys_are_read_when_they_are_old_or_lack_one_and_never_more_than_every_ten_seconds(provider: Provider) -> None:
    async def use(session: aiohttp.ClientSession) -> None:
        keys = PublicKeys(str(provider.path), session)

        async def has(kid: str) -> bool:
            try:
                return (await keys.find(kid)).key_id == kid
            except jwt.InvalidKeyError:
                return False

        assert await has("one")
        provider.publish("two")
        provider.now += 10
        assert not await has("two")  # ten seconds are not over: a forged id must not have it read each time
        assert await has("one")
        assert provider.reads == 1
        provider.now += 0.5
        assert await has("two")
        assert not await has("one")  # it is published no longer
        assert provider.reads == 2
        provider.now += 300
        assert await has("two")
        assert provider.reads == 2
        provider.now += 0.5  # more than five minutes old
        assert await has("two")
        assert provider.reads == 3
        provider.now += 11
        for _ in range(5):
            assert not await has("forged")
        assert provider.reads == 4

    run(use)


def test_what_was_read_serves_on_while_the_provider_is_away(provider: Provider) -> None:
    async def use(session: aiohttp.ClientSession) -> None:
        keys = PublicKeys(str(provider.path), session)
        await keys.find("one")
        for raw in (b"<html>", None):
            provider.path.write_bytes(raw) if raw else provider.path.unlink()
            provider.now += 400
            assert (await keys.find("one")).key_id == "one"
        provider.publish("two")
        assert (await keys.find("one")).key_id == "one"  # ten seconds after the last try at the earliest
        provider.now += 11
        with pytest.raises(jwt.InvalidKeyError):
            await keys.find("one")

    run(use)


def test_those_who_come_together_read_the_keys_once_and_none_is_turned_away(provider: Provider) -> None:
    """At the start, and when the keys have changed: who comes while they are read waits for them."""

    async def use(session: aiohttp.ClientSession) -> None:
        keys = PublicKeys(str(provider.path), session)
        for reads, kid in enumerate(("one", "two"), start=1):
            provider.publish(kid)
            provider.now += 11
            matching = await asyncio.gather(*(keys.find(kid) for _ in range(20)))
            assert {key.key_id for key in matching} == {kid}
            assert provider.reads == reads

    run(use)


def test_whose_key_is_known_does_not_wait_for_a_provider_that_hangs(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(session: aiohttp.ClientSession) -> None:
        keys = PublicKeys(str(provider.path), session)
        await keys.find("one")
        provider.now += 400
        hanging, released = asyncio.Event(), asyncio.Event()

        async def hang(read: Callable[[], bytes]) -> bytes:
            hanging.set()
            await released.wait()
            return read()

        monkeypatch.setattr(tokens.asyncio, "to_thread", hang)
        first = asyncio.create_task(keys.find("one"))
        await hanging.wait()
        assert (await keys.find("one")).key_id == "one"
        released.set()
        assert (await first).key_id == "one"

    run(use)


def test_of_several_keys_the_one_without_an_id_checks_tokens_without(provider: Provider, tmp_path: Path) -> None:
    provider.publish("two", "one")
    raw = json.loads(provider.path.read_text())
    del raw["keys"][1]["kid"]
    provider.path.write_text(json.dumps(raw))
    configured = settings(tmp_path, jwks=str(provider.path))
    assert claims(configured, token(ES256["one"], "ES256", **NEWSDESK))["sub"] == "somebody"
    with pytest.raises(Unauthenticated, match="Signature"):
        claims(configured, token(ES256["two"], "ES256", **NEWSDESK))


class Session:
    """Answers as the provider's address does."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        self._body, self._status = body, status
        self.asked: list[tuple[str, float | None]] = []

    @contextlib.asynccontextmanager
    async def get(self, url: str, *, timeout: aiohttp.ClientTimeout, raise_for_status: bool) -> AsyncIterator[Any]:
        self.asked.append((url, timeout.total))
        if raise_for_status and self._status != 200:
            raise aiohttp.ClientError(self._status)
        yield self

    async def read(self) -> bytes:
        return self._body


@pytest.mark.parametrize(("status", "published"), [(200, True), (500, False)])
def test_an_address_is_asked_for_five_seconds_and_its_errors_are_no_keys(
    status: int, published: bool, provider: Provider, tmp_path: Path
) -> None:
    url = "https://id.example/jwks"
    session = Session(provider.path.read_bytes(), status)
    checking = BearerTokens(settings(tmp_path, jwks=url), session)  # type: ignore[arg-type]
    text = token(ES256["one"], "ES256", {"kid": "one"}, **NEWSDESK)
    if published:
        assert asyncio.run(checking.claims(text))["sub"] == "somebody"
        with pytest.raises(Unauthenticated) as unknown:
            asyncio.run(checking.claims(token(ES256["two"], "ES256", {"kid": "two"}, **NEWSDESK)))
        assert unknown.value.detail == (
            "The token is refused: it is signed with a key that the identity provider does not publish."
        )
    else:
        with pytest.raises(Unavailable) as unread:
            asyncio.run(checking.claims(text))
        assert unread.value.detail == "The keys of the identity provider cannot be read now. Send the request again."
    assert session.asked == [(url, 5)]


def test_a_secret_among_the_published_keys_is_passed_over(provider: Provider, tmp_path: Path) -> None:
    published = json.loads(provider.path.read_text())["keys"]
    shared = {"kty": "oct", "alg": "HS256", "kid": "shared", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}
    provider.path.write_text(json.dumps({"keys": [shared, *published]}))
    configured = settings(tmp_path, jwks=str(provider.path))
    assert (
        claims(configured, token(ES256["one"], "ES256", **NEWSDESK))["sub"] == "somebody"
    )  # of the public keys it is the only one


def test_a_providers_token_for_another_application_is_refused(provider: Provider, tmp_path: Path) -> None:
    configured = settings(tmp_path, jwks=str(provider.path))
    for wrong in ({"aud": "another"}, {"iss": "https://another.example"}, {"aud": None}, {"iss": None}):
        with pytest.raises(Unauthenticated, match="The token is refused"):
            claims(configured, token(ES256["one"], "ES256", {"kid": "one"}, **NEWSDESK | wrong, role="operator"))
