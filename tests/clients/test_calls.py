"""Single calls that go together, against a real Triton whose model is held by the test."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import pytest

from newsdesk.clients import AsyncClient, Client, DeadlineExceeded, ServerFailed, TextRefused, calls
from newsdesk.clients.options import Options
from newsdesk.clients.transports import ModelFacts, ServerAnswer
from newsdesk.clients.triton_grpc import AsyncGrpcTransport, GrpcTransport
from tests.clients.texts import numbered
from tests.clients.triton_process import Ports
from tests.holding import Hold, until


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request gives up its room because the machine is slow."""
    monkeypatch.setattr(calls, "_PATIENCE", 60)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[bytes]]]:
    """The texts of each request that went to the server."""
    requests: list[list[bytes]] = []
    blocking, later = GrpcTransport.infer, AsyncGrpcTransport.infer

    def infer(
        self: Any, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float
    ) -> list[ServerAnswer]:
        requests.append(list(texts))
        return blocking(self, texts, model, options, timeout)

    async def ainfer(
        self: Any, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float
    ) -> list[ServerAnswer]:
        requests.append(list(texts))
        return await later(self, texts, model, options, timeout)

    monkeypatch.setattr(GrpcTransport, "infer", infer)
    monkeypatch.setattr(AsyncGrpcTransport, "infer", ainfer)
    return requests


Outcome = Any
Given = list[tuple[str, dict[str, Any]]]
Meanwhile = Callable[[list["asyncio.Future[Any]"]], Awaitable[object]]


class Batch(Protocol):
    """Calls (text, options) → answers or errors: the first, which the test holds, and then the others at once.

    It is released when all others wait, and after what the test awaits of them meanwhile.
    """

    def __call__(self, calls: Given, meanwhile: Meanwhile = ...) -> list[Outcome]: ...


@pytest.fixture(params=["threads", "tasks"])
def batch(request: pytest.FixtureRequest, triton: Ports, sent: list[list[bytes]], hold: Hold) -> Batch:
    async def ask(
        start: Callable[..., Any], together: Callable[[], Any], calls: Given, meanwhile: Any
    ) -> list[Outcome]:
        first = asyncio.ensure_future(start(calls[0][0], **calls[0][1]))
        await reached(lambda: len(sent) == 1)
        rest = [asyncio.ensure_future(start(text, **options)) for text, options in calls[1:]]
        await reached(lambda: len(together()._waiting) == len(rest))
        await meanwhile(rest)
        hold.release()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    async def threads(calls: Given, meanwhile: Meanwhile = _nothing) -> list[Outcome]:
        with (
            Client(triton.grpc_url, concurrency=1, micro_batching=True) as client,
            ThreadPoolExecutor(len(calls)) as pool,
        ):
            client.labels()

            def start(text: str, **options: Any) -> Any:
                return asyncio.get_running_loop().run_in_executor(pool, partial(client.classify, text, **options))

            return await ask(start, lambda: client._here().calls, calls, meanwhile)

    async def tasks(calls: Given, meanwhile: Meanwhile = _nothing) -> list[Outcome]:
        async with AsyncClient(triton.grpc_url, concurrency=1, micro_batching=True) as client:
            await client.labels()
            return await ask(client.classify, lambda: client._here().calls, calls, meanwhile)

    chosen = threads if request.param == "threads" else tasks
    return lambda calls, meanwhile=_nothing: asyncio.run(chosen(calls, meanwhile))


async def _nothing(_: object) -> None: ...


async def reached(true: Callable[[], bool]) -> None:
    """Let the loop go on until something is so."""
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.001)


def test_calls_that_come_meanwhile_go_together(batch: Batch, sent: list[list[bytes]], hold: Hold) -> None:
    texts = [hold.text, *(numbered(number)[0] for number in range(20))]
    answers = batch([(text, {"top_k": 1 + place % 4}) for place, text in enumerate(texts)])
    assert [len(request) for request in sent] == [1, 20]
    assert [answer.label for answer in answers[1:]] == [numbered(number)[1] for number in range(20)]
    assert {answer.index for answer in answers} == {0}
    assert [len(answer.probabilities) for answer in answers] == [1 + place % 4 for place in range(21)]


def test_a_bad_text_is_refused_for_its_caller_alone(batch: Batch, sent: list[list[bytes]], hold: Hold) -> None:
    answers = batch([(text, {}) for text in (hold.text, "match", "", "shares", "\udcff")])
    refused = [answer for answer in answers if isinstance(answer, TextRefused)]
    assert [isinstance(answer, TextRefused) for answer in answers] == [False, False, True, False, True]
    assert [answer.index for answer in refused] == [0, 0]
    assert len(sent) == 3  # the one that is held, the others, and these without what is refused


def test_a_text_that_makes_the_model_fail_fails_alone(batch: Batch, hold: Hold) -> None:
    answers = batch([(text, {}) for text in (f"{hold.text} match", "match", "stand-in, fail", "shares")])
    assert [getattr(answer, "label", None) for answer in answers] == ["Sports", "Sports", None, "Business"]
    assert isinstance(answers[2], ServerFailed)


def test_calls_that_want_other_things_go_apart(batch: Batch, sent: list[list[bytes]], hold: Hold) -> None:
    wanted = [{}, {"quality": "best"}, {"members": True}, {"quality": "best"}, {}]
    answers = batch([(hold.text, {}), *(("match", options) for options in wanted)])
    assert [len(request) for request in sent] == [1, 2, 2, 1]
    assert [answer.answered_by == "stand-in+careful" for answer in answers[1:]] == [False, True, False, True, False]
    assert [answer.members is not None for answer in answers[1:]] == [False, False, True, False, False]


def test_each_call_keeps_its_own_deadline(batch: Batch, hold: Hold) -> None:
    async def until_one_has_left(rest: list["asyncio.Future[Any]"]) -> None:
        await asyncio.wait(rest[:1])

    answers = batch([(hold.text, {}), ("match", {"timeout": 0.3}), ("shares", {})], until_one_has_left)
    assert isinstance(answers[1], DeadlineExceeded)
    assert answers[2].label == "Business"


def test_nobody_waits_where_there_is_room(triton: Ports, sent: list[list[bytes]], hold: Hold) -> None:
    with (
        Client(triton.grpc_url, concurrency=8, micro_batching=True) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        client.labels()
        under_way = [threads.submit(client.classify, hold.text) for _ in range(8)]
        until(lambda: len(sent) == 8)
        hold.release()
        assert all(call.result(60) for call in under_way)
        assert [len(request) for request in sent] == [1] * 8
        assert [answer.label for answer in client.classify(["match"] * 3)] == ["Sports"] * 3  # type: ignore[union-attr]


def test_close_leaves_nobody_waiting(triton: Ports, sent: list[list[bytes]], hold: Hold) -> None:
    client = Client(triton.grpc_url, concurrency=1, micro_batching=True, timeout=20)
    client.labels()
    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(client.classify, hold.text) for _ in range(5)]
        until(lambda: len(sent) == 1)
        closing = threads.submit(client.close)
        hold.release()
        closing.result(60)
        for call in calls:
            call.exception(timeout=60)


def test_calls_that_are_given_up_take_their_request_with_them(
    triton: Ports, sent: list[list[bytes]], hold: Hold
) -> None:
    async def run() -> None:
        async with AsyncClient(triton.grpc_url, concurrency=1, micro_batching=True) as client:
            await client.labels()
            first = asyncio.create_task(client.classify("match"))
            held = [asyncio.create_task(client.classify(hold.text)) for _ in range(3)]
            await first
            while len(sent) < 2:
                await asyncio.sleep(0)
            for call in held:
                call.cancel()
            shares = asyncio.create_task(client.classify("shares"))
            for _ in range(20):
                await asyncio.sleep(0)
            assert [len(request) for request in sent] == [1, 3, 1]  # the room is free at once
            hold.release()
            await shares

    asyncio.run(run())


def test_a_request_that_hangs_keeps_its_room_only_for_a_while(
    triton: Ports, monkeypatch: pytest.MonkeyPatch, sent: list[list[bytes]]
) -> None:
    infer = AsyncGrpcTransport.infer

    async def hang(
        self: Any, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float
    ) -> list[ServerAnswer]:
        if texts[0] == b"hang":
            await asyncio.sleep(timeout)
        return await infer(self, texts, model, options, timeout)

    monkeypatch.setattr(AsyncGrpcTransport, "infer", hang)
    monkeypatch.setattr(calls, "_PATIENCE", 0.3)

    async def run() -> list[str]:
        async with AsyncClient(triton.grpc_url, concurrency=1, micro_batching=True) as client:
            await client.labels()
            hanging = asyncio.create_task(client.classify("hang", timeout=60))
            await asyncio.sleep(0)
            answers = await asyncio.gather(*(client.classify(text) for text in ("match", "shares")))
            assert not hanging.done()
            hanging.cancel()
            return [answer.label for answer in answers]

    assert asyncio.run(run()) == ["Sports", "Business"]
