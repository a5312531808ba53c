"""Rate limits, exact under concurrency: in memory, and by two gateways in a real Redis."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from limits.errors import ConfigurationError

from newsdesk.server.gateway import rates
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.problems import TooMany, Unavailable
from newsdesk.server.gateway.rates import Rates
from newsdesk.server.gateway.settings import GatewaySettings, GatewaySettingsError
from tests.brokers import redis_server
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served

LIMIT, ASKED = 25, 60


def test_no_password_of_redis_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_redis(*_: object, **__: object) -> None:
        raise ConfigurationError("'redis' prerequisite not available")

    monkeypatch.setattr(rates, "storage_from_string", without_redis)
    settings = GatewaySettings(keys=tmp_path / "keys.json", rate_storage="redis://:sesame@redis:6379/0")
    assert "sesame" not in repr(settings)
    with pytest.raises(GatewaySettingsError, match=r"RATE_STORAGE\) is 'redis://…@redis:6379/0': .* pip install redis"):
        rates.Rates(settings)


async def ask(urls: Sequence[str], keys: Sequence[str]) -> list[tuple[str, int, dict[str, str]]]:
    """Ask ASKED times with each key, all at once; return key, status and headers."""
    async with aiohttp.ClientSession() as session:

        async def request(url: str, key: str) -> tuple[str, int, dict[str, str]]:
            async with session.get(f"{url}/v1/labels", headers={"X-API-Key": key}) as answer:
                return key, answer.status, dict(answer.headers)

        return await asyncio.gather(*(request(urls[i % len(urls)], key) for i in range(ASKED) for key in keys))


def check(urls: Sequence[str], keys: Sequence[str]) -> None:
    answers = asyncio.run(ask(urls, keys))
    expected = {(key, status): n for key in keys for status, n in ((200, LIMIT), (429, ASKED - LIMIT))}
    assert Counter((key, status) for key, status, _ in answers) == expected
    wait = next(headers["Retry-After"] for _, status, headers in answers if status == 429)
    assert 30 <= int(wait) <= 60


def counting(folder: Path, **settings: Any) -> Rates:
    return Rates(GatewaySettings(keys=folder / "keys.json", **settings))


def test_who_comes_too_often_is_told_when_there_is_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two in a minute: the third is turned away until the first is a minute old, and does not count itself."""
    clock = SimpleNamespace(now=1_000_000.0)
    monkeypatch.setattr(time, "time", lambda: clock.now)

    async def run() -> None:
        subject = counting(tmp_path, rate_limit="2/minute")
        await subject.count("one")
        clock.now += 12.5
        await subject.count("one")
        for _ in range(3):
            with pytest.raises(TooMany, match=r"The limit of 2 per 1 minute is reached\.") as refused:
                await subject.count("one")
            assert refused.value.headers == {"Retry-After": "48"}  # 47.5 s, and no fractions
        await subject.count("another")

    asyncio.run(run())


def test_without_a_limit_nobody_is_counted(tmp_path: Path) -> None:
    async def run() -> None:
        subject = counting(tmp_path)
        for _ in range(1000):
            await subject.count("one")

    asyncio.run(run())


def test_a_storage_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    async def run() -> None:
        with pytest.raises(Unavailable) as refused:
            await counting(tmp_path, rate_limit="2/minute", rate_storage="redis://127.0.0.1:1").count("one")
        assert refused.value.detail == "The rate limits cannot be counted now: their storage does not answer."

    asyncio.run(run())


def test_redis_is_asked_with_the_password_of_its_file_and_tells_of_its_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def opened(url: str, **options: str) -> None:
        asked.append((url, options))
        raise ConfigurationError("enough")

    monkeypatch.setattr(rates, "storage_from_string", opened)
    monkeypatch.setattr(GatewaySettings, "rate_storage_password", lambda _: "sesame")
    with pytest.raises(GatewaySettingsError):
        counting(tmp_path, rate_storage="redis://127.0.0.1:1")
    options = {"implementation": "redispy", "wrap_exceptions": "true", "password": "sesame"}
    assert asked == [("async+redis://127.0.0.1:1", options)]


def test_redis_without_its_client_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ConfigurationError("redis prerequisite not available")

    monkeypatch.setattr(rates, "storage_from_string", missing)
    with pytest.raises(GatewaySettingsError) as refused:
        counting(tmp_path, rate_storage="redis://127.0.0.1:1")
    assert str(refused.value) == (
        "--rate-storage (NEWSDESK_RATE_STORAGE) is 'redis://127.0.0.1:1': redis prerequisite not available. "
        "pip install redis"
    )


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    return [gateways.key(tmp_path, Role.reader) for _ in range(2)]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    with redis_server(tmp_path) as url:
        yield f"{url}/0"


def limited(served: Served, folder: Path, **settings: Any) -> contextlib.AbstractContextManager[Any]:
    return gateways.gateway(folder, served.server.ports, auth=True, rate_limit=f"{LIMIT}/minute", **settings)


def test_in_memory(served: Served, tmp_path: Path, keys: list[str]) -> None:
    with limited(served, tmp_path) as client:
        check([str(client.base_url).rstrip("/")], keys)
        assert client.get("/health/ready").status_code == 200
        problem = client.get("/v1/labels", headers={"X-API-Key": keys[0]}).json()
    assert problem["type"] == "urn:newsdesk:problem:too-many-requests"


def test_by_two_gateways_in_redis(served: Served, tmp_path: Path, keys: list[str], redis: str) -> None:
    with limited(served, tmp_path, rate_storage=redis) as first, limited(served, tmp_path, rate_storage=redis) as other:
        check([str(client.base_url).rstrip("/") for client in (first, other)], keys)


def test_a_storage_that_is_away_is_said_so(served: Served, tmp_path: Path, keys: list[str]) -> None:
    with limited(served, tmp_path, rate_storage="redis://127.0.0.1:1") as client:
        answer = client.get("/v1/labels", headers={"X-API-Key": keys[0]})
    assert answer.status_code == 503
    assert "storage does not answer" in answer.json()["detail"]
