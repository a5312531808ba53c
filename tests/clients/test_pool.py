"""Several servers asked as one: which is asked, which is put aside and tried again, and what callers see of it."""

import asyncio
import json
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from newsdesk.clients import (
    AccessDenied,
    AsyncClient,
    Client,
    DeadlineExceeded,
    NewsdeskError,
    ServerFailed,
    ServerUnavailable,
    TooManyRequests,
    pool,
    web,
)
from newsdesk.clients.deadline import Deadline, Retries
from newsdesk.clients.pool import Pool
from newsdesk.clients.transports import parse_all
from tests.clients.cli.command import run
from tests.clients.texts import numbered
from tests.clients.triton_process import Triton
from tests.launching import Callers

GONE = ServerUnavailable("refused")


class PoolClock:
    """Time that passes when the test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PoolClock:
    clock = PoolClock()
    monkeypatch.setattr(pool, "time", clock)
    return clock


@pytest.fixture
def three(clock: PoolClock) -> Pool[str]:
    return Pool(["a", "b", "c"])


def ask(servers: Pool[str], server: str = "", error: NewsdeskError = GONE) -> str:
    """Return who was asked; that server's requests end with the error."""
    try:
        with servers.attempt(20) as attempt:
            if attempt.transport == server:
                raise error
    except NewsdeskError:
        pass
    return attempt.transport


def asked(servers: Pool[str], server: str = "", error: NewsdeskError = GONE) -> Counter[str]:
    """Return how often each was asked in many requests, one at a time."""
    return Counter(ask(servers, server, error) for _ in range(50))


def test_the_server_with_the_fewest_requests_in_flight_is_asked(three: Pool[str]) -> None:
    with ExitStack() as flying:
        chosen = Counter(flying.enter_context(three.attempt(20)).transport for _ in range(9))
    assert chosen == {"a": 3, "b": 3, "c": 3}
    assert asked(three).keys() == {"a", "b", "c"}  # a lone caller's requests, too, go to all


def test_who_cannot_be_reached_is_tried_again_after_growing_pauses(three: Pool[str], clock: PoolClock) -> None:
    assert asked(three, "b")["b"] == 1
    pauses = []
    for _ in range(8):
        start = clock.now
        while asked(three, "b")["b"] == 0:
            clock.now += 0.1
        pauses.append(clock.now - start)
    assert all(later > 1.3 * earlier for earlier, later in pairwise(pauses[:5]))
    assert 7 < pauses[-1] <= 10.1
    clock.now += 11
    assert asked(three)["b"] > 1  # it answers, and is one of three again
    assert asked(three, "b")["b"] == 1  # and its pauses begin anew
    clock.now += 0.3
    assert asked(three)["b"] > 1


def test_one_request_alone_tries_who_was_put_aside(three: Pool[str], clock: PoolClock) -> None:
    asked(three, "b")
    clock.now += 1
    with ExitStack() as flying:
        chosen = Counter(flying.enter_context(three.attempt(20)).transport for _ in range(9))
    assert chosen == {"a": 4, "b": 1, "c": 4}


def test_requests_that_fail_together_count_once(three: Pool[str], clock: PoolClock) -> None:
    flying = [three.attempt(20) for _ in range(48)]  # 16 at each
    for attempt in flying:
        attempt.__enter__()
    for attempt in flying:
        assert not attempt.__exit__(ServerUnavailable, ServerUnavailable("gone"), None)
    clock.now += 0.3
    assert asked(three).keys() == {"a", "b", "c"}


def test_what_was_sent_before_says_nothing_of_a_server_put_aside_since(three: Pool[str]) -> None:
    with ExitStack() as flying:
        while flying.enter_context(three.attempt(20)).transport != "b":
            pass
        while asked(three, "b")["b"] == 0:
            flying.enter_context(three.attempt(20))
    assert asked(three)["b"] == 0


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), ServerFailed("500")])
def test_what_may_be_the_requests_fault_counts_three_times_in_a_row(three: Pool[str], error: NewsdeskError) -> None:
    def until(server: str, failing: bool) -> None:
        while ask(three, server if failing else "", error) != server:
            pass

    for _ in range(5):
        until("b", failing=True)
        until("b", failing=True)
        until("b", failing=False)
    assert asked(three)["b"] > 1
    assert asked(three, "b", error)["b"] == 3


def test_who_refuses_the_caller_answers(three: Pool[str]) -> None:
    assert asked(three, "b", AccessDenied("401"))["b"] > 1


def test_who_is_full_is_left_alone_as_long_as_it_asks_and_the_call_waits(three: Pool[str], clock: PoolClock) -> None:
    full = TooManyRequests("429")
    full.retry_after = 7
    assert asked(three, "b", full)["b"] == 1
    assert not full.elsewhere
    clock.now += 6
    assert asked(three)["b"] == 0
    clock.now += 2
    assert asked(three)["b"] > 1


def test_the_call_goes_elsewhere_at_once_while_another_may_answer(three: Pool[str]) -> None:
    retries = Retries(9, Deadline(60, "grpc://a,b,c"))
    pauses = {}
    for _ in range(3):
        error = ServerUnavailable("503")
        error.retry_after = 5
        with pytest.raises(ServerUnavailable), three.attempt(20) as attempt:
            raise error
        pauses[attempt.transport] = retries.pause(error)
    assert [*pauses.values()][:2] == [0, 0]
    assert [*pauses.values()][2] > 5  # nobody is left
    assert pauses.keys() == {"a", "b", "c"}


def test_where_all_are_put_aside_the_first_to_be_tried_again_is_asked(three: Pool[str], clock: PoolClock) -> None:
    for server, seconds in {"a": 5, "b": 3, "c": 7}.items():
        away = ServerUnavailable("503")
        away.retry_after = seconds
        while ask(three, server, away) != server:
            pass
    assert asked(three).keys() == {"b"}  # it answers, and is used at once
    clock.now += 8
    assert asked(three).keys() == {"a", "b", "c"}


def test_who_is_tried_again_has_a_part_of_the_time(three: Pool[str], clock: PoolClock) -> None:
    asked(three, "b")
    clock.now += 1
    contexts = [three.attempt(20) for _ in "abc"]
    attempts = {attempt.transport: (context, attempt) for context in contexts for attempt in [context.__enter__()]}
    assert {server: attempt.timeout for server, (_, attempt) in attempts.items()} == {"a": 20, "b": 5, "c": 20}
    with pytest.raises(ServerUnavailable) as caught:
        attempts["b"][0].__exit__(DeadlineExceeded, DeadlineExceeded("late"), None)
    assert caught.value.elsewhere
    assert not attempts["a"][0].__exit__(DeadlineExceeded, DeadlineExceeded("late"), None)  # it goes on as it is


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("grpc://a:1,b:2", ["grpc://a:1", "grpc://b:2"]),
        ("grpc://a, b,a:8001", ["grpc://a:8001", "grpc://b:8001"]),
        (["http://a", "http://b:9"], ["http://a:8000", "http://b:9"]),
        ("gateway+http://a/x,gateway+http://[::1]:5/y", ["gateway+http://a:8080/x", "gateway+http://[::1]:5/y"]),
        (["https://a,b", "https://c"], ["https://a:443", "https://b:443", "https://c:443"]),
    ],
)
def test_several_urls_are_taken_apart(url: str | list[str], urls: list[str]) -> None:
    assert [address.url for address in parse_all(url, "")] == urls


@pytest.mark.parametrize("url", ["grpc://a,", ",grpc://a", "grpc://a,,b", [], "a,grpc://b", "grpc://a,http://b"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_is_not_several_urls_is_a_value_error(kind: Callable[..., object], url: str | list[str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        kind(url)


def test_one_that_is_away_costs_no_call(any_url: str, nowhere: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One repetition is enough, for every call of both clients and of the command."""
    url = [f"{any_url.partition('://')[0]}://127.0.0.1:{nowhere}", any_url]
    with Client(url, retries=1) as client:
        assert [client.classify("match").label for _ in range(20)] == ["Sports"] * 20
        assert client.models() == ("ag_news",)

    async def ask_at_once() -> list[str]:
        async with AsyncClient(url, retries=1) as client:
            return [answer.label for answer in await asyncio.gather(*(client.classify("match") for _ in range(20)))]

    assert asyncio.run(ask_at_once()) == ["Sports"] * 20
    answered = run("classify", "match", NEWSDESK_URL=",".join(url))
    assert answered.exit_code == 0, answered.output
    assert "Sports" in answered.output
    assert "expected one: versions" in run("models", "--url", ",".join(url)).output


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a machine that is gone: no connection comes about, and none is refused."""
    with ExitStack() as held:
        server = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = server.getsockname()[1]
        for _ in range(3):  # the queue takes no more
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize("scheme", ["grpc", "http", "gateway+http"])
def test_a_machine_that_is_gone_leaves_time_for_another(
    scheme: str, silent: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_LONGEST_CONNECTING", 0.3)
    fixture = "gateway" if scheme.startswith("gateway") else "triton"
    sound = request.getfixturevalue(fixture)
    sound = sound if isinstance(sound, str) else sound.grpc_url if scheme == "grpc" else sound.http_url
    url = f"{scheme}://127.0.0.1:{silent},{sound}"
    with Client(url, timeout=20) as client:
        assert [client.classify("match").label for _ in range(10)] == ["Sports"] * 10

    async def ask_all() -> list[str]:
        async with AsyncClient(url, timeout=20) as client:
            return [(await client.classify("match")).label for _ in range(10)]

    assert asyncio.run(ask_all()) == ["Sports"] * 10


class PoolCallers(Callers):
    """Eight threads over HTTP and eight tasks over gRPC that ask until told to stop, and what came of it."""

    def __init__(self, servers: list[Triton]) -> None:
        super().__init__(*[self._ask] * 8, lambda: asyncio.run(self._ask_by_tasks()))
        self.outcomes = Counter[str]()
        self.asked = self._numbers = 0
        self._lock = threading.Lock()
        self._client = Client([server.ports.http_url for server in servers], timeout=60)
        self._grpc = [server.ports.grpc_url for server in servers]

    def _next(self) -> tuple[str, str, float]:
        with self._lock:
            self.asked += 1
            return numbered(self.asked % 10_000)

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1

    def _ask(self) -> None:
        while not self._over.is_set():
            text, label, probability = self._next()
            try:
                answer = self._client.classify(text)
                right = answer.label == label and abs(answer.probability - probability) < 1e-5
                self._count("right" if right else f"{text!r} is {answer}")
            except Exception as error:
                self._count(repr(error))
            time.sleep(0.03)

    async def _ask_by_tasks(self) -> None:
        async def ask() -> None:
            while not self._over.is_set():
                text, label, probability = self._next()
                try:
                    answer = await client.classify(text)
                    right = answer.label == label and abs(answer.probability - probability) < 1e-5
                    self._count("right" if right else f"{text!r} is {answer}")
                except Exception as error:
                    self._count(repr(error))
                await asyncio.sleep(0.03)

        async with AsyncClient(self._grpc, timeout=60) as client:
            await asyncio.gather(*(ask() for _ in range(8)))


def answered(server: Triton) -> int:
    with urllib.request.urlopen(f"{server.ports.http_url}/v2/models/ag_news/stats", timeout=20) as response:
        (model,) = json.load(response)["model_stats"]
    return int(model["inference_stats"]["success"]["count"])


def until_answered(more: int, *servers: Triton) -> None:
    """Wait until each has answered so many more requests."""
    goals = [answered(server) + more for server in servers]
    end = time.monotonic() + 120
    while any(answered(server) < goal for server, goal in zip(servers, goals, strict=True)):
        assert time.monotonic() < end, "the load does not reach every server"
        time.sleep(0.1)


@pytest.fixture
def three_servers(tmp_path: Path) -> Iterator[list[Triton]]:
    servers = [Triton(tmp_path / name, processes=1) for name in "abc"]
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait(120)
        yield servers
    finally:
        for server in servers:
            server.stop()


def test_one_of_three_is_killed_under_load_and_nothing_is_lost(
    three_servers: list[Triton], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_LONGEST_PAUSE", 0.5)
    *others, killed = three_servers
    with PoolCallers(three_servers) as load:
        until_answered(30, *three_servers)
        killed.kill()
        until_answered(100, *others)
        killed.start()
        killed.wait(120)
        until_answered(30, *three_servers)
    assert load.outcomes == {"right": load.asked}
