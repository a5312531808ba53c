"""Requests in flight when a process ended, by a clock that jumps; `test_poison` has a real server."""

import asyncio
import itertools
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from newsdesk.clients import Prediction, ServerUnavailable, TextRefused
from newsdesk.clients.errors import Interrupted
from newsdesk.server.gateway import suspects
from newsdesk.server.gateway.problems import Poisonous
from newsdesk.server.gateway.suspects import Item, Suspects, Text, key, moved
from tests.server.gateway.poisoned import PROCESS, SERVER, PoisonedModel, ended, labels, later, now, run, watched

REASON = "ended the model's process twice, the second time alone: it is not tried again for 5 minutes"
BYTES = 256 * 1024
"""The longest text."""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "time", SimpleNamespace(monotonic=now))


def test_the_guilty_text_is_found_and_the_innocent_are_answered() -> None:
    async def test() -> None:
        model = PoisonedModel()
        async with watched(model) as subject:
            texts = ["a", "poison", "b", "c"]
            items = await subject.texts(texts, model.ask, later())
            assert labels(items) == [(0, "a"), (1, REASON), (2, "b"), (3, "c")]
            assert model.deaths == 2
            assert model.asked == [("a", "poison", "b", "c"), ("a",), ("poison",), ("b",), ("c",)]
            assert model.alone == [False, True, True, True, True]
            assert labels([*subject.refusals(texts).values()]) == [(1, REASON)]  # from now on at once
            assert labels(await subject.texts(["a", "b"], model.ask, later())) == [(0, "a"), (1, "b")]
            assert model.asked[5:] == [("a", "b")]

    run(test)


def test_who_is_suspect_goes_alone_and_the_others_together() -> None:
    async def test() -> None:
        model = PoisonedModel()
        async with watched(model) as subject:
            subject._strike(key("b"), 1)
            assert labels(await subject.texts(["a", "b", "c"], model.ask, later())) == [(0, "a"), (1, "b"), (2, "c")]
            assert list(zip(model.asked, model.alone, strict=True)) == [(("a", "c"), False), (("b",), True)]
            assert subject._strikes == {}
            subject._strike(key("a"), 1)
            subject._died(ended())  # one that goes alone waits for the model to be whole
            began, answering = now(), asyncio.create_task(subject.request(b"a", answered, later()))
            await asyncio.sleep(0.95)
            assert not answering.done()
            model.counts = 0, 0
            assert await answering == "answered"
            assert now() - began == pytest.approx(1, abs=0.01)

    run(test)


async def answered() -> str:
    return "answered"


def test_a_model_that_answers_too_few_is_no_answer() -> None:
    async def none(texts: Sequence[Text], alone: bool) -> list[Item]:
        return []

    async def test() -> None:
        with pytest.raises(ValueError, match="shorter"):
            await Suspects(PoisonedModel().count).texts(["a"], none, later())

    run(test)


def test_what_many_ask_at_once_is_no_guiltier_for_it() -> None:
    """One death with a text in flight three times, twice of them in one request: nobody is refused."""

    async def test() -> None:
        model = PoisonedModel()
        async with watched(model) as subject:

            async def ask(texts: Sequence[Text], alone: bool) -> list[Item]:
                if not alone:
                    await asyncio.sleep(0.01)
                    model.die()
                    raise ended(SERVER)
                return await model.ask(texts, alone)

            many, single = await asyncio.gather(
                subject.texts(["a", "a"], ask, later()),
                subject.texts(["a"], ask, later()),
            )
            assert [labels(many), labels(single)] == [[(0, "a"), (1, "a")], [(0, "a")]]
            requests = iter([ended(SERVER), ended(SERVER)])

            async def infer() -> str:
                await asyncio.sleep(0.01)
                for error in requests:
                    model.die()
                    raise error
                return "answered"

            answers = [subject.request(b"b", infer, later()) for _ in range(2)]
            assert await asyncio.gather(*answers) == ["answered"] * 2
            assert subject._strikes == {}

    run(test)


def test_a_request_that_ends_a_process_twice_is_refused_and_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(suspects, "log", lambda event, **fields: lines.append((event, fields)))

    async def test() -> None:
        model = PoisonedModel()
        async with watched(model) as subject:

            async def refusal() -> str:
                with pytest.raises(Poisonous) as error:
                    await subject.request(b"poison", lambda: model.ask(["poison"], True), later())
                return error.value.detail

            first = await asyncio.gather(refusal(), refusal())  # the second need not end a third process
            assert {*first, await refusal()} == {f"The request {REASON}."}
            assert (model.deaths, len(model.asked)) == (2, 3)
            event = "a process ended twice of one request, which is refused now"
            assert lines == [(event, {"content": key(b"poison").hex(), "seconds": 300.0})]
            with pytest.raises(Poisonous, match=REASON):
                subject.check(b"poison")
            subject._strike(key(b"a"), 1)
            for content in (b"a", b"b"):
                subject.check(content)
            assert subject.refusals(["a", "b"]) == {}

    run(test)


def test_who_meets_a_process_that_is_known_to_be_dead_is_no_suspect() -> None:
    async def test() -> None:
        model = PoisonedModel()
        async with watched(model) as subject:
            subject._died(ended())
            asked: list[float] = []

            async def ask() -> str:
                asked.append(now())
                if len(asked) < 3:
                    raise ended(ago=-0.001)  # sent after the death was seen
                return "answered"

            assert await subject.request(b"a", ask, later()) == "answered"
            assert subject._strikes == {}
            assert [time - asked[0] for time in asked] == pytest.approx([0, 0.05, 0.1], abs=0.001)

    run(test)


def test_a_suspect_waits_for_the_model_to_be_whole_within_its_deadline() -> None:
    async def test() -> None:
        model = PoisonedModel(heals=60)
        async with watched(model) as subject:
            began = now()
            with pytest.raises(ServerUnavailable, match=r"^The model does not answer: a process of it ended, and is "):
                await subject.texts(["poison"], model.ask, now() + 0.3)
            assert now() - began == pytest.approx(0.3, abs=0.001)
            assert model.asked == [("poison",)]

    run(test)


def test_nobody_is_tried_before_the_server_is_there_again() -> None:
    """A request sent over a connection to the one that has just ended would break, and be taken for guilty."""

    async def test() -> None:
        model = PoisonedModel()
        async with watched(model) as subject:
            with pytest.raises(Interrupted):
                await subject._elsewhere(lambda: fail(ended(SERVER)))
            model.counts = None
            trial = asyncio.create_task(subject._alone(b"own", lambda: model.ask(["a"], True), later()))
            await asyncio.sleep(1)
            assert model.asked == []
            model.counts = 100, 0
            assert labels(await trial) == [(0, "a")]
            assert subject._strikes == {}

    run(test)


async def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("process", "counts", "whole"),
    [
        (PROCESS, [(99, 3)], True),
        (PROCESS, [(100, 2)], True),
        (PROCESS, [(100, 3), (101, 4)], False),
        (PROCESS, [None, (100, 3)], False),
        (SERVER, [None], False),
        (SERVER, [None, (100, 3)], True),
        (SERVER, [(100, 3), (101, 4)], False),
    ],
)
def test_a_model_is_whole_once_it_counts_anew_or_its_server_is_back(
    process: str, counts: list[tuple[int, int] | None], whole: bool
) -> None:
    async def test() -> None:
        model = PoisonedModel(counts=(100, 3))
        async with watched(model) as subject:
            assert subject._died(ended(process))
            for model.counts in counts:
                await asyncio.sleep(0.11)
            assert subject._whole.is_set() is whole
            assert subject._died(ended(process, ago=0.5))  # in flight at the same death
            assert subject._whole.is_set() is whole
            if whole:
                assert subject._died(ended(process, ago=0.001))  # another death
                assert not subject._whole.is_set()

    run(test)


def test_a_server_that_died_before_the_first_look_is_not_back() -> None:
    async def test() -> None:
        subject = Suspects(PoisonedModel(counts=(0, 0)).count)
        subject._died(ended(SERVER))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(subject.watch(), 1)
        assert not subject._whole.is_set()

    run(test)


def test_a_server_that_does_not_answer_in_a_second_is_away() -> None:
    async def test() -> None:
        model = PoisonedModel()
        async with watched(model) as subject:
            subject._died(ended(SERVER))
            subject._counts = hang
            await asyncio.sleep(0.99)
            subject._counts = model.count
            assert not subject._whole.is_set()
            await asyncio.sleep(0.12)  # a second is over, and a tenth later it is asked again
            assert subject._whole.is_set()

    run(test)


async def hang() -> tuple[int, int]:
    await asyncio.sleep(60)
    return 0, 0


def test_it_looks_each_second_and_each_tenth_until_a_dead_process_is_replaced_for_15_seconds_at_most() -> None:
    async def test() -> None:
        model, began = PoisonedModel(), now()

        def looks() -> list[float]:
            times = [round(time - began, 2) for time in model.looks]
            model.looks.clear()
            return times

        async with watched(model) as subject:
            await asyncio.sleep(2.5)
            assert looks() == [0, 1, 2]
            subject._died(ended())
            await asyncio.sleep(0.25)
            assert looks() == [2.5, 2.6, 2.7]
            assert subject._died(ended(ago=0.26))  # that one is in flight at the same death makes it no younger
            await asyncio.sleep(14.7)
            assert not subject._whole.is_set()
            looks()
            await asyncio.sleep(2.6)
            assert looks() == [17.5, 18.5, 19.5]
            assert subject._whole.is_set()
            assert not subject._died(ended(ago=1))  # it may still be dead
            model.counts = 0, 0
            await asyncio.sleep(1)
            assert subject._died(ended(ago=0))  # that one was replaced: this is another

    run(test)


def test_who_meets_a_process_that_was_never_replaced_is_not_guilty() -> None:
    """Nobody replaces it for longer than suspects wait: each second request meets it, the others are answered."""

    async def test() -> None:
        model = PoisonedModel()
        async with watched(model) as subject:
            failing = itertools.cycle((True, True, False))

            async def ask(texts: Sequence[Text], alone: bool) -> list[Item]:
                if next(failing):
                    raise ended(ago=-0.001)
                return await model.ask(texts, alone)

            items = await subject.texts(["a", "b", "c"], ask, now() + 60)
            assert labels(items) == [(0, "a"), (1, "b"), (2, "c")]
            assert subject._strikes == {}

    run(test)


def test_suspects_are_forgotten_after_five_minutes_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(suspects, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(suspects, "_HELD_MOST", 4)
    subject = Suspects(PoisonedModel().count)
    for text in "ab":
        subject._strike(key(text), 2)
    clock.now = 1100.0
    for text in "ca":  # a is the youngest then, and as guilty as it was
        subject._strike(key(text), 1)
    assert subject._strikes == {key("b"): (2, 1300.0), key("a"): (2, 1400.0), key("c"): (1, 1400.0)}
    clock.now = 1300.0
    assert [subject._struck(key(text)) for text in "abc"] == [2, 2, 1]
    clock.now = 1300.5
    assert [subject._struck(key(text)) for text in "abc"] == [2, 0, 1]
    assert subject._strikes.keys() == {key("a"), key("c")}
    for text in "def":
        subject._strike(key(text), 1)
    assert subject._strikes.keys() == {key(text) for text in "adef"}


def test_texts_are_measured_in_bytes() -> None:
    subject = Suspects(PoisonedModel().count)
    longest = ["x" * BYTES, "é" * (BYTES // 2), b"x" * BYTES, "😀" * (BYTES // 4), "\ud800" * (BYTES // 3)]
    assert subject.refusals(longest) == {}
    longer = ["x" * (BYTES + 1), "x", "é" * (BYTES // 2 + 1), b"x" * (BYTES + 1), "x" * (BYTES - 1) + "é"]
    assert labels([*subject.refusals([*longer, "\ud800" * (BYTES // 3 + 1)]).values()]) == [
        (place, f"{size} bytes, expected at most 262144, send a shorter text")
        for place, size in ((0, 262145), (2, 262146), (3, 262145), (4, 262145), (5, 262146))
    ]


def test_content_is_known_by_its_blake2b() -> None:
    assert key("abc") == key(b"abc") == bytes.fromhex("cf4ab791c62b8d2b2109c90275287816")
    assert key("\ud800") == key(b"\xed\xa0\x80")


def test_an_item_is_moved_to_its_place() -> None:
    answer, refusal = Prediction(2, "World", {"World": 1.0}, "m"), TextRefused(2, "empty")
    assert moved(answer, 2) is answer
    assert moved(refusal, 2) is refusal
    assert moved(answer, 5) == Prediction(5, "World", {"World": 1.0}, "m")
    assert labels([moved(refusal, 5)]) == [(5, "empty")]
    assert isinstance(moved(refusal, 5), TextRefused)
