"""Single calls of tasks that go together, without a server: each request is answered when the test says so."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from newsdesk.clients import DeadlineExceeded, ServerFailed, ServerUnavailable, calls
from newsdesk.clients.calls import AsyncCalls
from newsdesk.clients.chunk import Item, Text
from newsdesk.clients.deadline import Deadline
from newsdesk.clients.options import Options
from tests import virtual_time
from tests.clients.asked import PLACE, PLAIN, URL, Request, answer


@dataclass
class HeldModel:
    """Takes requests, and answers when the test does."""

    requests: list[Request] = field(default_factory=list)

    async def send(self, texts: Sequence[Text], options: Options, deadline: Deadline) -> list[Item]:
        future: asyncio.Future[list[Item]] = asyncio.get_running_loop().create_future()
        request = Request(list(texts), options, deadline, PLACE.get(), future)
        self.requests.append(request)
        try:
            return await future
        except asyncio.CancelledError:
            request.cancelled = True
            raise

    def sent(self) -> list[list[Text]]:
        return [request.texts for request in self.requests]

    async def answer(self, place: int, result: BaseException | None = None) -> None:
        request = self.requests[place]
        if result is None:
            request.result.set_result(request.answers())
        else:
            request.result.set_exception(result)
        await settle()


async def settle() -> None:
    """Let everything go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(
    use: Callable[[HeldModel, AsyncCalls], Coroutine[Any, Any, None]], most_flying: int = 1, most_texts: int = 64
) -> None:
    """Run a test by a clock that jumps. A test that waits for ever fails after ten minutes of that clock."""

    async def using() -> None:
        model = HeldModel()
        await use(model, AsyncCalls(most_flying, lambda: most_texts, model.send))

    virtual_time.run(asyncio.wait_for(using(), 600))


async def asked(subject: AsyncCalls, *texts: str, options: Options = PLAIN, seconds: float = 60) -> list[Any]:
    """Start a call for each text, and return them under way."""
    started = [asyncio.create_task(subject.answer(text, options, Deadline(seconds, URL))) for text in texts]
    await settle()
    return started


def test_who_finds_room_goes_alone_and_who_does_not_goes_with_the_others() -> None:
    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        started = await asked(subject, "a", "b", "c", "d", "e")
        assert model.sent() == [["a"], ["b"]]
        await model.answer(1)
        assert model.sent()[2:] == [["c", "d", "e"]]
        later = await asked(subject, "f")
        assert len(model.sent()) == 3
        await model.answer(0)
        assert model.sent()[3:] == [["f"]]
        await model.answer(2)
        await model.answer(3)
        assert [await call for call in [*started, *later]] == [answer(text) for text in "abcdef"]
        await asked(subject, "g", "h", "i")  # both rooms are free again, and no more than both
        assert model.sent()[4:] == [["g"], ["h"]]

    run(use, most_flying=2)


def test_who_goes_alone_has_its_own_options_and_deadline() -> None:
    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        best, two = Options(quality="best"), Options(quality="best", top_k=2)
        own = [("a", two, Deadline(60, URL)), ("b", best, Deadline(70, URL)), ("c", two, Deadline(80, URL))]
        started = [asyncio.create_task(subject.answer(*call)) for call in own]
        await settle()
        await model.answer(0)
        await model.answer(1, ServerFailed("no finite answer"))
        alone = [model.requests[0], *model.requests[2:]]
        assert [(*request.texts, request.options, request.deadline) for request in alone] == own
        for place in (2, 3):
            await model.answer(place)
        assert [(await call).label for call in started] == [*"abc"]

    run(use)


def test_no_more_go_together_than_a_request_takes() -> None:
    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        await asked(subject, *"abcdef")
        for place in range(3):
            await model.answer(place)
        assert model.sent() == [["a"], ["b", "c"], ["d", "e"], ["f"]]

    run(use, most_texts=2)


def test_who_wants_another_quality_goes_apart_and_keeps_the_order() -> None:
    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        await asked(subject, "first")
        best, members = Options(quality="best"), Options(members=True)
        started = []
        for text, options in [("a", PLAIN), ("b", best), ("c", PLAIN), ("d", members), ("e", best), ("f", PLAIN)]:
            started += await asked(subject, text, options=options)
        for place in range(4):
            await model.answer(place)
        assert [(request.texts, request.options) for request in model.requests[1:]] == [
            (["a", "c", "f"], PLAIN),
            (["b", "e"], best),
            (["d"], members),
        ]
        assert [(await call).label for call in started] == [*"abcdef"]

    run(use)


def test_each_gets_as_many_labels_as_it_asked_for_and_its_own_place() -> None:
    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        await asked(subject, "first")
        started = []
        for text, top_k in [("a", 1), ("b", None), ("bad", 2), ("d", 2)]:
            started += await asked(subject, text, options=Options(top_k=top_k))
        await model.answer(0)
        assert model.requests[1].options == PLAIN  # all labels, of which each caller gets its own
        await model.answer(1)
        first, every, refused, two = [await call for call in started]
        assert (first, every, two) == (answer("a", top_k=1), answer("b"), answer("d", top_k=2))
        assert (refused.index, refused.reason) == (0, "empty")

    run(use)


def test_a_request_has_the_time_of_the_most_patient_and_each_call_its_own() -> None:
    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        await asked(subject, "first")
        (short,) = await asked(subject, "short", seconds=0.05)
        (long,) = await asked(subject, "long", seconds=90)
        (middle,) = await asked(subject, "middle", seconds=40)
        (gone,) = await asked(subject, "gone", seconds=0.05)
        gone.cancel()
        with pytest.raises(DeadlineExceeded, match=URL):
            await short
        await model.answer(0)
        assert model.sent()[1:] == [["long", "middle"]]  # nobody waits for those who have left
        assert 80 < model.requests[1].deadline.left() <= 90
        await model.answer(1)
        assert [(await call).label for call in (long, middle)] == ["long", "middle"]

    run(use)


def test_a_request_that_fails_as_a_whole_is_sent_again_text_by_text() -> None:
    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        await asked(subject, "first")
        started = await asked(subject, "a", "poison")
        await model.answer(0)
        await model.answer(1, ServerFailed("no finite answer"))
        assert model.sent() == [["first"], ["a", "poison"], ["a"], ["poison"]]
        await model.answer(2)
        await model.answer(3, ServerFailed("no finite answer"))
        assert (await started[0]) == answer("a")
        with pytest.raises(ServerFailed):
            await started[1]

    run(use)


@pytest.mark.parametrize("error", [ServerUnavailable("away"), DeadlineExceeded("late"), RuntimeError("a bug")])
def test_where_another_try_helps_nobody_all_fail(error: Exception) -> None:
    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        await asked(subject, "first")
        started = await asked(subject, "a", "b")
        await model.answer(0)
        assert [flying.done() for flying in subject._flying] == [False]  # the loop itself would not keep it
        await model.answer(1, error)
        assert subject._flying == set()
        for call in started:
            with pytest.raises(type(error), match=str(error)):
                await call
        assert len(model.requests) == 2
        await asked(subject, "c")  # the room is free again
        assert model.sent()[2:] == [["c"]]

    run(use)


def test_a_request_of_one_call_fails_with_its_own_error() -> None:
    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        await asked(subject, "first")
        (lone,) = await asked(subject, "lone")
        await model.answer(0)
        await model.answer(1, ServerFailed("no finite answer"))
        with pytest.raises(ServerFailed):
            await lone
        assert model.sent() == [["first"], ["lone"]]

    run(use)


def test_a_request_that_nobody_waits_for_is_cancelled() -> None:
    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        await asked(subject, "first")
        started = await asked(subject, "a", "b")
        await model.answer(0)
        started[0].cancel()
        await settle()
        assert not model.requests[1].cancelled  # one waits yet
        started[1].cancel()
        await settle()
        assert model.requests[1].cancelled
        (lone,) = await asked(subject, "c")  # whose room is free
        assert model.sent()[2:] == [["c"]]
        lone.cancel()
        await settle()
        assert model.requests[2].cancelled
        await asked(subject, "d")
        assert model.sent()[3:] == [["d"]]

    run(use)


def test_a_request_that_hangs_gives_its_room_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_PATIENCE", 0.02)

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.005)

    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        await asked(subject, "hangs")
        await asked(subject, "a", "b")
        await until(lambda: len(model.requests) == 2)  # the room is given up
        assert model.sent()[1:] == [["a", "b"]]
        await until(lambda: subject._room == 1)  # by the second, too, for which nobody waits
        monkeypatch.setattr(calls, "_PATIENCE", 60)
        await asked(subject, "c", "d")
        assert model.sent()[2:] == [["c"]]
        await model.answer(0)  # those that have given it up have none to give when they land
        await model.answer(1)
        assert len(model.requests) == 3
        await model.answer(2)
        assert model.sent()[3:] == [["d"]]

    run(use)


def test_a_request_is_sent_in_the_context_of_its_first_call() -> None:
    async def use(model: HeldModel, subject: AsyncCalls) -> None:
        await asked(subject, "first")
        for place in ("here", "there"):
            PLACE.set(place)
            await asked(subject, place)
        await model.answer(0)
        assert (model.requests[1].texts, model.requests[1].place) == (["here", "there"], "here")

    run(use)
