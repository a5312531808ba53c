"""A request is in one caller's trace, when several calls share it."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from newsdesk.clients import Prediction
from newsdesk.clients.calls import AsyncCalls, Calls
from newsdesk.clients.chunk import Item
from newsdesk.clients.deadline import Deadline
from newsdesk.clients.options import Options
from newsdesk.clients.trace import carried, traceparent

LATER = [f"text {number}" for number in range(6)]
Sent = list[tuple[list[Any], dict[str, str]]]


def answers(texts: Sequence[Any]) -> list[Item]:
    return [Prediction(index, "Sports", {"Sports": 1.0}, text) for index, text in enumerate(texts)]


def check(sent: Sent) -> None:
    """The first text went alone, the others together: each request in the trace of the first call in it."""
    assert [len(texts) for texts, _ in sent] == [1, len(LATER)]
    assert [headers for _, headers in sent] == [{"traceparent": texts[0]} for texts, _ in sent]


def test_in_one_loop() -> None:
    sent: Sent = []

    async def run() -> None:
        landing = asyncio.Event()

        async def send(texts: Sequence[Any], options: Options, deadline: Deadline) -> list[Item]:
            sent.append((list(texts), carried()))
            if texts == ["first"]:
                await landing.wait()
            return answers(texts)

        calls = AsyncCalls(1, lambda: 64, send)

        async def ask(text: str) -> None:
            traceparent.set(text)
            assert await calls.answer(text, Options(), Deadline(10, "here")) == answers([text])[0]

        asked = [asyncio.create_task(ask(text)) for text in ("first", *LATER)]
        for _ in range(20):  # until each flies or waits
            await asyncio.sleep(0)
        landing.set()
        await asyncio.gather(*asked)

    asyncio.run(run())
    check(sent)


def test_in_many_threads() -> None:
    sent: Sent = []
    landing, waiting = threading.Event(), threading.Semaphore(0)

    def send(texts: Sequence[Any], options: Options, deadline: Deadline) -> list[Item]:
        sent.append((list(texts), carried()))
        if texts == ["first"]:
            waiting.release()
            landing.wait(10)
        return answers(texts)

    def ask(calls: Calls, text: str) -> None:
        traceparent.set(text)
        assert calls.answer(text, Options(), Deadline(10, "here")) == answers([text])[0]

    with ThreadPoolExecutor(2) as sending, ThreadPoolExecutor(8) as callers:
        calls = Calls(1, lambda: 64, send, sending)
        asked = [callers.submit(copy_context().run, ask, calls, "first")]
        waiting.acquire()
        asked += [callers.submit(copy_context().run, ask, calls, text) for text in LATER]
        while len(calls._waiting) < len(LATER):
            threading.Event().wait(0.01)
        landing.set()
        for call in asked:
            call.result(10)
    check(sent)
