"""Single calls that go together, against a real Triton whose model is slow when told so."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from newsdesk.clients import AsyncClient, Client, DeadlineExceeded, NewsdeskError, ServerFailed, TextRefused, calls
from newsdesk.clients.options import Options
from newsdesk.clients.transports import Answer, Model
from newsdesk.clients.triton_grpc import AsyncGrpcTransport, GrpcTransport
from tests.clients.texts import numbered
from tests.clients.triton_process import Ports

SLOW = "stand-in, be slow: match"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[bytes]]]:
    """The texts of each request that went to the server."""
    requests: list[list[bytes]] = []
    blocking, later = GrpcTransport.infer, AsyncGrpcTransport.infer

    def infer(self: Any, texts: Sequence[bytes], model: Model, options: Options, timeout: float) -> list[Answer]:
        requests.append(list(texts))
        return blocking(self, texts, model, options, timeout)

    async def ainfer(self: Any, texts: Sequence[bytes], model: Model, options: Options, timeout: float) -> list[Answer]:
        requests.append(list(texts))
        return await later(self, texts, model, options, timeout)

    monkeypatch.setattr(GrpcTransport, "infer", infer)
    monkeypatch.setattr(AsyncGrpcTransport, "infer", ainfer)
    return requests


def until(reached: Callable[[], bool]) -> None:
    while not reached():
        time.sleep(0.005)


Outcome = Any
Batch = Callable[[list[tuple[str, dict[str, Any]]]], list[Outcome]]


@pytest.fixture(params=["threads", "tasks"])
def batch(request: pytest.FixtureRequest, triton: Ports, sent: list[list[bytes]]) -> Batch:
    """Return calls (text, options) → answers or errors: all at once, the first a moment before the others."""

    def threads(calls: list[tuple[str, dict[str, Any]]], **given: Any) -> list[Outcome]:
        with Client(triton.grpc_url, concurrency=1, micro_batching=True, **given) as client:
            client.labels()

            def call(text: str, options: dict[str, Any]) -> Outcome:
                try:
                    return client.classify(text, **options)
                except NewsdeskError as error:
                    return error

            with ThreadPoolExecutor(len(calls)) as pool:
                first = pool.submit(call, *calls[0])
                until(lambda: len(sent) == 1)
                return [one.result() for one in [first, *(pool.submit(call, *one) for one in calls[1:])]]

    async def tasks(calls: list[tuple[str, dict[str, Any]]], **given: Any) -> list[Outcome]:
        async with AsyncClient(triton.grpc_url, concurrency=1, micro_batching=True, **given) as client:
            await client.labels()
            first = asyncio.create_task(client.classify(calls[0][0], **calls[0][1]))
            while not sent:
                await asyncio.sleep(0)
            rest = (client.classify(text, **options) for text, options in calls[1:])
            return await asyncio.gather(first, *rest, return_exceptions=True)

    if request.param == "threads":
        return threads
    return lambda calls, **given: asyncio.run(tasks(calls, **given))


def test_calls_that_come_meanwhile_go_together(batch: Batch, sent: list[list[bytes]]) -> None:
    texts = [SLOW, *(numbered(number)[0] for number in range(20))]
    answers = batch([(text, {"top_k": 1 + place % 4}) for place, text in enumerate(texts)])
    assert [len(request) for request in sent] == [1, 20]
    assert [answer.label for answer in answers[1:]] == [numbered(number)[1] for number in range(20)]
    assert {answer.index for answer in answers} == {0}
    assert [len(answer.probabilities) for answer in answers] == [1 + place % 4 for place in range(21)]


def test_a_bad_text_is_refused_for_its_caller_alone(batch: Batch, sent: list[list[bytes]]) -> None:
    answers = batch([(text, {}) for text in (SLOW, "match", "", "shares", "\udcff")])
    refused = [answer for answer in answers if isinstance(answer, TextRefused)]
    assert [isinstance(answer, TextRefused) for answer in answers] == [False, False, True, False, True]
    assert [answer.index for answer in refused] == [0, 0]
    assert len(sent) == 3  # the slow one, the others, and these without what is refused


def test_a_text_that_makes_the_model_fail_fails_alone(batch: Batch) -> None:
    answers = batch([(text, {}) for text in (SLOW, "match", "stand-in, fail", "shares")])
    assert [getattr(answer, "label", None) for answer in answers] == ["Sports", "Sports", None, "Business"]
    assert isinstance(answers[2], ServerFailed)


def test_calls_that_want_other_things_go_apart(batch: Batch, sent: list[list[bytes]]) -> None:
    wanted = [{}, {"quality": "best"}, {"members": True}, {"quality": "best"}, {}]
    answers = batch([(SLOW, {}), *(("match", options) for options in wanted)])
    assert [len(request) for request in sent] == [1, 2, 2, 1]
    assert [answer.answered_by == "stand-in+careful" for answer in answers[1:]] == [False, True, False, True, False]
    assert [answer.members is not None for answer in answers[1:]] == [False, False, True, False, False]


def test_each_call_keeps_its_own_deadline(batch: Batch) -> None:
    answers = batch([(SLOW, {}), ("match", {"timeout": 0.3}), ("shares", {}), (SLOW, {"timeout": 1.2})])
    assert isinstance(answers[1], DeadlineExceeded)
    assert answers[2].label == "Business"
    assert isinstance(answers[3], DeadlineExceeded)


def test_nobody_waits_where_there_is_room(triton: Ports, sent: list[list[bytes]]) -> None:
    with (
        Client(triton.grpc_url, concurrency=8, micro_batching=True) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        client.labels()
        list(threads.map(client.classify, [SLOW] * 8))
        assert [len(request) for request in sent] == [1] * 8
        assert [answer.label for answer in client.classify(["match"] * 3)] == ["Sports"] * 3  # type: ignore[union-attr]


def test_close_leaves_nobody_waiting(triton: Ports, sent: list[list[bytes]]) -> None:
    client = Client(triton.grpc_url, concurrency=1, micro_batching=True, timeout=20)
    client.labels()
    with ThreadPoolExecutor(5) as threads:
        calls = [threads.submit(client.classify, SLOW) for _ in range(5)]
        until(lambda: len(sent) == 1)
        client.close()
        for call in calls:
            call.exception(timeout=60)


def test_calls_that_are_given_up_take_their_request_with_them(triton: Ports, sent: list[list[bytes]]) -> None:
    async def run() -> None:
        async with AsyncClient(triton.grpc_url, concurrency=1, micro_batching=True) as client:
            await client.labels()
            first = asyncio.create_task(client.classify("match"))
            slow = [asyncio.create_task(client.classify(SLOW)) for _ in range(3)]
            await first
            while len(sent) < 2:
                await asyncio.sleep(0)
            for call in slow:
                call.cancel()
            shares = asyncio.create_task(client.classify("shares"))
            for _ in range(20):
                await asyncio.sleep(0)
            assert [len(request) for request in sent] == [1, 3, 1]  # the room is free at once
            await shares

    asyncio.run(run())


def test_a_request_that_hangs_keeps_its_room_only_for_a_while(
    triton: Ports, monkeypatch: pytest.MonkeyPatch, sent: list[list[bytes]]
) -> None:
    infer = AsyncGrpcTransport.infer

    async def hang(self: Any, texts: Sequence[bytes], model: Model, options: Options, timeout: float) -> list[Answer]:
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
