"""Single calls of threads that go together, without a server: each request is answered when the test says so."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from newsdesk.clients import DeadlineExceeded, ServerFailed, ServerUnavailable, TextRefused
from newsdesk.clients.calls import Calls
from newsdesk.clients.chunk import Item, Text
from newsdesk.clients.deadline import Deadline
from newsdesk.clients.options import Options
from tests.clients.asked import PLACE, PLAIN, URL, Request, answer

SECONDS = 10
"""How long a test waits for what is to come at once. A test of changed code waits as long for what never comes."""


class Leaving(Deadline):
    """The deadline of one that leaves when the test says so."""

    def __init__(self) -> None:
        super().__init__(0, URL)
        self.over = threading.Event()

    def left(self) -> float:
        assert self.over.wait(SECONDS)
        return 0.0


class Blocking:
    """Takes requests. A request is answered when the test sets its future."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._came = threading.Condition()

    def send(self, texts: Sequence[Text], options: Options, deadline: Deadline) -> list[Item]:
        request = Request(list(texts), options, deadline, PLACE.get(), Future())
        with self._came:
            self.requests.append(request)
            self._came.notify_all()
        items: list[Item] = request.result.result(SECONDS)
        return items

    def request(self, place: int) -> Request:
        """Return a request, as soon as it has come."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.requests) > place, SECONDS)
        return self.requests[place]


class Threads:
    """Calls of threads of their own."""

    def __init__(self, most_flying: int = 1, most_texts: int = 64) -> None:
        self.model = Blocking()
        self.executor, self.callers = ThreadPoolExecutor(4), ThreadPoolExecutor(16)
        self.subject = Calls(most_flying, lambda: most_texts, self.model.send, self.executor)

    def ask(self, text: str, options: Options = PLAIN, deadline: Deadline | None = None) -> "Future[Item]":
        """Start a call, and return it when it flies or waits."""
        before = len(self.model.requests) + len(self.subject._waiting)
        call = self.callers.submit(self.subject.answer, text, options, deadline or Deadline(SECONDS, URL))
        while len(self.model.requests) + len(self.subject._waiting) == before and not call.done():
            threading.Event().wait(0.001)
        return call

    def close(self) -> None:
        for request in self.model.requests:
            if not request.result.done():
                request.result.set_result(request.answers())
        self.callers.shutdown()
        self.executor.shutdown()


@pytest.fixture
def threads() -> Any:
    made = Threads()
    yield made
    made.close()


def test_threads_who_find_no_room_go_together(threads: Threads) -> None:
    first = threads.ask("first")
    started = [threads.ask("a", Options(top_k=1)), threads.ask("bad"), threads.ask("c", Options(top_k=2))]
    apart = threads.ask("d", Options(quality="best"))
    model = threads.model
    assert len(model.requests) == 1
    model.request(0).result.set_result(model.requests[0].answers())
    assert first.result(SECONDS) == answer("first")
    together = model.request(1)
    assert (together.texts, together.options) == (["a", "bad", "c"], PLAIN)
    together.result.set_result(together.answers())
    after_first, refused, after_bad = [call.result(SECONDS) for call in started]
    assert (after_first, after_bad) == (answer("a", top_k=1), answer("c", top_k=2))
    assert isinstance(refused, TextRefused)
    assert refused.index == 0
    assert (model.request(2).texts, model.requests[2].options) == (["d"], Options(quality="best"))
    model.requests[2].result.set_result(model.requests[2].answers())
    assert apart.result(SECONDS) == answer("d")


def test_threads_of_a_request_that_fails_go_each_alone(threads: Threads) -> None:
    threads.ask("first")
    started = {text: threads.ask(text) for text in ("a", "poison")}
    model = threads.model
    model.request(0).result.set_result(model.requests[0].answers())
    model.request(1).result.set_exception(ServerFailed("no finite answer"))
    model.request(3)
    assert sorted(str(request.texts[0]) for request in model.requests[2:]) == ["a", "poison"]
    for request in model.requests[2:]:
        if request.texts == ["a"]:
            request.result.set_result(request.answers())
        else:
            request.result.set_exception(ServerFailed("no finite answer"))
    assert started["a"].result(SECONDS) == answer("a")
    with pytest.raises(ServerFailed):
        started["poison"].result(SECONDS)


def test_a_thread_that_goes_alone_has_its_own_options_and_deadline(threads: Threads) -> None:
    best, two = Options(quality="best"), Options(quality="best", top_k=2)
    own = [(text, options, Deadline(SECONDS, URL)) for text, options in (("a", two), ("b", best), ("c", two))]
    started = [threads.ask(*call) for call in own]
    model = threads.model
    model.request(0).result.set_result(model.requests[0].answers())
    model.request(1).result.set_exception(ServerFailed("no finite answer"))
    alone = [model.requests[0], *sorted([model.request(2), model.request(3)], key=lambda request: str(request.texts))]
    assert [(*request.texts, request.options, request.deadline) for request in alone] == own
    for request in alone[1:]:
        request.result.set_result(request.answers())
    assert [call.result(SECONDS).label for call in started] == [*"abc"]  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [ServerUnavailable("away"), RuntimeError("a bug"), KeyboardInterrupt("stop")])
def test_threads_all_fail_where_another_try_helps_nobody(error: BaseException, threads: Threads) -> None:
    threads.ask("first")
    started = [threads.ask("a"), threads.ask("b")]
    model = threads.model
    model.request(0).result.set_result(model.requests[0].answers())
    model.request(1).result.set_exception(error)
    for call in started:
        with pytest.raises(type(error), match=str(error)):
            call.result(SECONDS)
    threads.ask("c")
    assert model.request(2).texts == ["c"]


def test_a_thread_that_leaves_is_not_asked_for(threads: Threads) -> None:
    threads.ask("first")
    leaving = Leaving()
    short, long = threads.ask("short", deadline=leaving), threads.ask("long")
    leaving.over.set()
    with pytest.raises(DeadlineExceeded, match=URL):
        short.result(SECONDS)
    model = threads.model
    model.request(0).result.set_result(model.requests[0].answers())
    assert model.request(1).texts == ["long"]
    model.requests[1].result.set_result(model.requests[1].answers())
    assert long.result(SECONDS) == answer("long")


def test_a_thread_that_leaves_meanwhile_spoils_nothing(threads: Threads) -> None:
    threads.ask("first")
    leaving = Leaving()
    short, long = threads.ask("short", deadline=leaving), threads.ask("long")
    model = threads.model
    model.request(0).result.set_result(model.requests[0].answers())
    assert model.request(1).texts == ["short", "long"]
    leaving.over.set()
    with pytest.raises(DeadlineExceeded):
        short.result(SECONDS)
    model.requests[1].result.set_result(model.requests[1].answers())
    assert long.result(SECONDS) == answer("long")


def test_a_room_that_nobody_waits_for_is_free_again(threads: Threads) -> None:
    model = threads.model
    for place, text in enumerate("abc"):
        call = threads.ask(text)
        model.request(place).result.set_result(model.requests[place].answers())
        assert call.result(SECONDS) == answer(text)
    assert threads.subject._room == 1
    with closing(Threads(most_flying=2)) as double:
        started = [double.ask(text) for text in "ab"]
        assert double.subject._room == 0
        for place in range(2):
            double.model.request(place).result.set_result(double.model.requests[place].answers())
        assert [call.result(SECONDS) for call in started] == [answer("a"), answer("b")]
        assert double.subject._room == 2


@pytest.mark.parametrize("cancel", [True, False])
def test_who_waits_while_the_client_is_closed_is_answered(cancel: bool, threads: Threads) -> None:
    """The executor takes nothing more, or drops what it has taken: the thread that lands sends the others' texts."""
    threads.ask("first")
    started = [threads.ask("a"), threads.ask("b")]
    model = threads.model
    if cancel:  # busy with others, and then told to drop what waits
        busy, begun = threading.Event(), threading.Barrier(5)
        for _ in range(4):
            threads.executor.submit(lambda: (begun.wait(SECONDS), busy.wait(SECONDS)))
        begun.wait(SECONDS)
        model.request(0).result.set_result(model.requests[0].answers())
        while not threads.executor._work_queue.qsize():
            threading.Event().wait(0.001)
        dropping = threads.callers.submit(threads.executor.shutdown, True, cancel_futures=True)
        model.request(1).result.set_result(model.requests[1].answers())
        busy.set()
        dropping.result(SECONDS)
    else:
        threads.executor.shutdown()
        model.request(0).result.set_result(model.requests[0].answers())
        model.request(1).result.set_result(model.requests[1].answers())
    assert model.requests[1].texts == ["a", "b"]
    assert [call.result(SECONDS) for call in started] == [answer("a"), answer("b")]


def test_a_threads_request_is_sent_in_the_context_of_its_first_call(threads: Threads) -> None:
    def ask(place: str) -> Item:
        PLACE.set(place)
        return threads.subject.answer(place, PLAIN, Deadline(SECONDS, URL))

    threads.ask("first")
    started = []
    for count, place in enumerate(("here", "there"), start=1):
        started.append(threads.callers.submit(ask, place))
        while len(threads.subject._waiting) < count:
            threading.Event().wait(0.001)
    model = threads.model
    model.request(0).result.set_result(model.requests[0].answers())
    assert (model.request(1).texts, model.requests[1].place) == (["here", "there"], "here")
