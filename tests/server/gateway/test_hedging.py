"""Hedging and the circuit breaker: by themselves, and before a real server that hangs or is gone."""

import asyncio
import concurrent.futures
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from newsdesk.clients import DeadlineExceeded, ServerFailed, ServerUnavailable
from newsdesk.clients.errors import TooManyRequests
from newsdesk.server.contract import MAX_BATCH
from newsdesk.server.gateway import breaker
from newsdesk.server.gateway import hedging as hedging_module
from newsdesk.server.gateway.breaker import Breaker
from newsdesk.server.gateway.hedging import Hedging
from newsdesk.server.gateway.problems import Unavailable
from tests import virtual_time
from tests.holding import Hold, until
from tests.launching import Server, write_repository
from tests.server.gateway import gateways
from tests.server.gateway.conftest import STAND_IN, Served

QUICK, SLOW = 0.0, 60.0


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take less for late than Triton takes to say that a process has died."""
    monkeypatch.setattr(hedging_module, "_LEAST_SECONDS", 0.1)


class SlowModel:
    """Takes as long as it is told, call by call, then at once."""

    def __init__(self, *seconds: float | Exception) -> None:
        self._seconds = list(seconds)
        self.asked = self.cancelled = 0

    async def ask(self) -> int:
        self.asked += 1
        asked = self.asked
        takes = self._seconds.pop(0) if self._seconds else QUICK
        try:
            if isinstance(takes, Exception):
                raise takes
            await asyncio.sleep(takes)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return asked


async def learnt(share: float, hedged: Callable[[int], None], texts: int = 200) -> Hedging:
    """Return hedging that has seen texts answered at once."""
    hedging = Hedging(share, hedged)
    for _ in range(texts):
        await hedging.answer(1, SlowModel().ask)
    return hedging


def test_the_second_answers_and_the_first_is_cancelled() -> None:
    async def run() -> None:
        again: list[int] = []
        hedging, model = await learnt(0.1, again.append), SlowModel(SLOW)
        assert await asyncio.wait_for(hedging.answer(2, model.ask), 5) == 2
        assert (again, model.cancelled) == ([2], 1)
        model = SlowModel(0.3, SLOW)  # the first still wins where it is first
        assert await asyncio.wait_for(hedging.answer(1, model.ask), 5) == 1
        assert (again, model.cancelled) == ([2, 1], 1)

    virtual_time.run(run())


def test_one_failure_waits_for_the_other_and_two_are_the_first() -> None:
    async def run() -> None:
        hedging = await learnt(0.1, lambda _: None)
        assert await hedging.answer(1, SlowModel(0.3, ServerFailed("second")).ask) == 1
        with pytest.raises(ServerFailed, match="alone"):
            await hedging.answer(1, SlowModel(ServerFailed("alone")).ask)
        model = SlowModel(SLOW, SLOW)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hedging.answer(1, model.ask), 0.5)
        assert model.cancelled == 2  # nothing is left behind by a caller who goes

    virtual_time.run(run())


def test_what_is_late_is_the_slowest_hundredth_measured_every_64(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    loop = SimpleNamespace(time=lambda: clock.now)
    monkeypatch.setattr(hedging_module, "asyncio", SimpleNamespace(get_running_loop=lambda: loop))
    hedging = Hedging(1.0, lambda _: None)
    monkeypatch.setattr(hedging, "_race", lambda _, ask: ask())

    async def late_after(seconds: float, requests: int) -> float:
        async def take() -> None:
            clock.now += seconds

        for _ in range(requests):
            await hedging.answer(1, take)
        return hedging._late

    async def run() -> None:
        assert await late_after(0.02, 63) == float("inf")  # nobody knows yet
        assert await late_after(0.02, 1) == 0.1  # the least
        assert await late_after(0.4, 2) == 0.1
        assert await late_after(0.02, 61) == 0.1
        assert await late_after(0.02, 1) == pytest.approx(0.4)  # the 127th of 128
        assert await late_after(0.02, 64) == pytest.approx(0.4)  # the 191st of 192
        assert await late_after(0.02, 64) == 0.1  # the 254th of 256

    virtual_time.run(run())


def test_a_share_is_of_texts_and_as_many_as_were_earned_may_be_asked_for_again() -> None:
    """A hundred texts at a tenth, and its own two at a tenth: ten and a fifth are earned, of which two go."""

    async def run() -> None:
        again: list[int] = []
        hedging = await learnt(0.1, again.append, texts=100)
        assert await hedging.answer(2, SlowModel(SLOW, QUICK).ask) == 2
        assert hedging._earned == pytest.approx(10 + 0.2 - 2)
        assert await hedging.answer(MAX_BATCH, SlowModel(QUICK).ask) == 1
        assert hedging._earned == pytest.approx(8.2 + 6.4)
        assert await hedging.answer(0, SlowModel(QUICK).ask) == 1
        assert await hedging.answer(MAX_BATCH + 1, SlowModel(QUICK).ask) == 1
        assert hedging._earned == pytest.approx(14.6)
        assert again == [2]

    virtual_time.run(run())


@pytest.mark.parametrize("sooner", ["first", "second"])
def test_where_both_fail_the_error_of_the_first_counts(sooner: str) -> None:
    """Whichever of the two fails sooner: the first was asked for the caller, the second to help it."""

    async def run() -> None:
        hedging = await learnt(0.1, lambda _: None)
        both, failed, asked = asyncio.Event(), asyncio.Event(), 0

        async def ask() -> int:
            nonlocal asked
            asked += 1
            mine = "first" if asked == 1 else "second"
            if mine == "second":
                both.set()
            await (both if mine == sooner else failed).wait()
            failed.set()
            raise ServerFailed("of the first") if mine == "first" else ServerUnavailable("of the second")

        with pytest.raises(ServerFailed, match="of the first"):
            await hedging.answer(1, ask)
        assert asked == 2

    virtual_time.run(run())


def test_no_more_is_earned_than_one_large_request_costs() -> None:
    """A thousand texts at a half earn 500, of which 64 are kept: two late 40s leave 64 − 40 + 20 − 40 = 4."""

    async def run() -> None:
        again: list[int] = []
        hedging = await learnt(0.5, again.append, texts=1000)
        late = SlowModel(SLOW, QUICK), SlowModel(SLOW, QUICK), SlowModel(0.3, QUICK)
        answers = [await hedging.answer(40, model.ask) for model in late]
        assert again == [40, 40]
        assert answers == [2, 2, 1]

    virtual_time.run(run())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1])
def test_it_cannot_amplify_an_overload(share: float) -> None:
    """Every request is late from one moment on: no more than the share is asked for again."""

    async def run() -> int:
        again: list[int] = []
        hedging = await learnt(share, again.append)
        late = [SlowModel(0.2, 0.2) for _ in range(800)]
        await asyncio.gather(*(hedging.answer(1, request.ask) for request in late))
        assert sum(request.asked for request in late) == 800 + sum(again)
        return sum(again)

    again = virtual_time.run(run())
    assert again <= share * (200 + 800)
    assert again == 0 or share > 0
    assert again >= share * 500


def test_large_requests_and_beginners_are_asked_once() -> None:
    async def run() -> None:
        again: list[int] = []
        hedging = await learnt(0.1, again.append)
        await hedging.answer(MAX_BATCH + 1, SlowModel(0.3).ask)
        assert await hedging.answer(40, SlowModel(0.3).ask) == 1  # more than was earned
        await Hedging(0.1, again.append).answer(1, SlowModel(0.3).ask)
        assert again == []

    virtual_time.run(run())


def test_a_process_that_hangs_is_not_waited_for(served: Served, tmp_path: Path, hold: Hold) -> None:
    """The real server: one of its two backend processes stalls until another has answered."""
    with gateways.gateway(tmp_path, served.server.ports, hedge_share=0.1) as client:
        for _ in range(2):
            client.post("/v1/classify", json={"text": ["shares"] * 30})
        for _ in range(70):
            ask(client)
        answer = client.post("/v1/classify", json={"text": f"shares, {hold.stalling}"})
        assert answer.json()["items"][0]["label"] == "Business"
        assert 1 <= hedged(client) <= 0.1 * 131


def test_a_process_that_hangs_is_waited_for_without_hedging(served: Served, tmp_path: Path, hold: Hold) -> None:
    with (
        gateways.gateway(tmp_path, served.server.ports, hedge_share=0.0, request_timeout=2.0) as client,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        for _ in range(70):
            ask(client)
        stalled = pool.submit(client.post, "/v1/classify", json={"text": f"shares, {hold.stalling}"})
        hold.until_computing()
        assert stalled.result().status_code == 504
        assert hedged(client) == 0


def hedged(client: httpx.Client) -> float:
    """Return how many texts the gateway has asked for again."""
    return float(re.findall(r"^newsdesk_gateway_hedged_texts_total\{.*\} (.*)", client.get("/metrics").text, re.M)[0])


def failing(error: Exception, subject: Breaker) -> None:
    with pytest.raises(type(error)), subject.counting():
        raise error


def test_the_breaker_opens_after_failures_in_a_row_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(breaker.time, "monotonic", lambda: now)
    subject = Breaker()
    subject.answered()
    now += 60
    for _ in range(4):
        failing(ServerUnavailable("away"), subject)
    for other in TooManyRequests("full"), ServerFailed("failed"):
        for _ in range(9):
            failing(other, subject)
    subject.check()
    failing(DeadlineExceeded("late"), subject)
    with pytest.raises(Unavailable, match="5 requests in a row") as refused:
        subject.check()
    assert (refused.value.status_code, refused.value.headers) == (503, {"Retry-After": "1"})
    subject.answered()
    subject.check()
    for _ in range(9):  # some are late, but others have just been answered: it is slow, not gone
        failing(DeadlineExceeded("late"), subject)
    subject.check()


def test_ready_is_an_answer_within_the_last_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(breaker, "time", SimpleNamespace(monotonic=lambda: clock.now))
    subject = Breaker()
    assert (subject.ready, subject.age, subject.open) == (False, float("inf"), False)
    subject.answered()
    assert (subject.ready, subject.age) == (True, 0.0)
    clock.now += 4.5
    assert (subject.ready, subject.age) == (True, 4.5)
    clock.now += 0.5
    assert (subject.ready, subject.age) == (False, 5.0)


def test_five_failures_open_it_and_one_answer_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(breaker, "time", SimpleNamespace(monotonic=lambda: clock.now))
    subject = Breaker()
    for failures in range(5):
        assert subject.open is False, failures
        failing(ServerUnavailable("away"), subject)
    assert subject.open is True
    with pytest.raises(Unavailable) as refused:
        subject.check()
    assert refused.value.detail == (
        "The model has not answered 5 requests in a row: the gateway asks on by itself, and passes requests on again "
        "once it is answered. Send it again later."
    )
    subject.answered()
    clock.now += 60
    assert subject.open is False
    for _ in range(4):
        failing(DeadlineExceeded("late"), subject)
    assert subject.open is False
    failing(DeadlineExceeded("late"), subject)
    assert subject.open is True


def test_it_opens_when_the_server_is_gone_for_good_and_closes_by_itself(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "models", STAND_IN.read_text())
    options = ["--target", "openvino:int8", "--instances", "1", "--no-gateway"]
    server = Server(repository, tmp_path / "state", options=options).start()
    try:
        server.until("Ctrl-C stops it")
        with gateways.gateway(tmp_path, server.ports, request_timeout=1.0) as client:
            assert ask(client).status_code == 200
            server.process.kill()
            server.wait()
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                failed = list(pool.map(lambda _: ask(client), range(8)))
            assert {answer.status_code for answer in failed} == {503}
            until(lambda: 'newsdesk_gateway_breaker_open{model="ag_news"} 1.0' in client.get("/metrics").text)
            oip = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["shares"]}]}
            for answer in ask(client), client.post("/v2/models/ag_news/infer", json=oip), client.get("/v1/models"):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert "requests in a row" in answer.json()["detail"]
            lines = client.post(
                "/v1/classify/file", content='{"text": "a"}\n', headers={"Content-Type": "application/x-ndjson"}
            )
            assert lines.json()["problem"]["status"] == 503
            server.start().until("Ctrl-C stops it")
            until(lambda: ask(client).status_code == 200)
            until(lambda: 'newsdesk_gateway_breaker_open{model="ag_news"} 0.0' in client.get("/metrics").text)
    finally:
        server.stop()


def ask(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/classify", json={"text": "shares"})
