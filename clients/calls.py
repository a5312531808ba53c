"""Single calls that go together: while as many requests are in flight as may be, further calls form the next one.

A call that finds room goes at once and alone, so that nobody waits for company. When a request ends, all that waited
meanwhile and want the same quality and members go as one. Each call keeps its own deadline: it ends then, whatever
becomes of the request that its text is in. Where a request of several fails as a whole, its texts are sent again each
alone, so that one that makes the model fail fails alone.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from itertools import islice

from newsdesk.clients.articles import Text
from newsdesk.clients.chunk import Item
from newsdesk.clients.deadline import Deadline
from newsdesk.clients.errors import DeadlineExceeded, NewsdeskError, ServerUnavailable, TextRefused, late
from newsdesk.clients.options import Options

_PATIENCE = 2.0
"""Seconds after which a request under way gives up its room: where one process hangs, not all calls wait for it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One text that waits. Its item is None when it is to be sent alone.

    A request of several calls is sent in the context of the first, and so is part of that one's trace alone.
    """

    text: Text
    options: Options
    deadline: Deadline
    item: "Future[Item | None] | asyncio.Future[Item | None]"
    context: Context = field(default_factory=copy_context)


class Calls:
    """The calls of the threads of one process. `send` answers texts; `most_texts` is how many a request takes."""

    def __init__(
        self,
        most_flying: int,
        most_texts: Callable[[], int],
        send: Callable[[Sequence[Text], Options, Deadline], list[Item]],
        executor: Executor,
    ) -> None:
        self._room, self._most_texts, self._send, self._executor = most_flying, most_texts, send, executor
        self._waiting: deque[Call] = deque()
        self._lock = threading.Lock()

    def answer(self, text: Text, options: Options, deadline: Deadline) -> Item:
        """Answer a text, alone or together with others.

        Raises:
            NewsdeskError: there is no answer, or none before the deadline.
        """
        item: Future[Item | None] = Future()
        with self._lock:
            alone = self._room > 0
            if alone:
                self._room -= 1
            else:
                self._waiting.append(Call(text, options, deadline, item))
        if alone:
            try:
                return self._alone(text, options, deadline)
            finally:
                self._landed()
        try:
            answer = item.result(deadline.left())
        except TimeoutError:
            item.cancel()
            raise late(deadline.url) from None
        return self._alone(text, options, deadline) if answer is None else answer

    def _alone(self, text: Text, options: Options, deadline: Deadline) -> Item:
        (item,) = self._send([text], options, deadline)
        return item

    def _landed(self) -> None:
        """Give the room of a request that has ended to those who wait."""
        with self._lock:
            calls = _take(self._waiting, self._most_texts())
            if not calls:
                self._room += 1
                return
        try:
            self._executor.submit(calls[0].context.run, self._fly, calls).add_done_callback(
                lambda end: self._dropped(end, calls)
            )
        except RuntimeError:  # the client is being closed
            self._fly(calls)

    def _dropped(self, end: "Future[None]", calls: list[Call]) -> None:
        if end.cancelled():
            self._fly(calls)

    def _fly(self, calls: list[Call]) -> None:
        try:
            items = self._send(*_together(calls))
        except BaseException as error:
            _fail(calls, error)
        else:
            _hand_out(calls, items)
        finally:
            self._landed()


class AsyncCalls:
    """The calls of one event loop."""

    def __init__(
        self,
        most_flying: int,
        most_texts: Callable[[], int],
        send: Callable[[Sequence[Text], Options, Deadline], Awaitable[list[Item]]],
    ) -> None:
        self._room, self._most_texts, self._send = most_flying, most_texts, send
        self._waiting: deque[Call] = deque()
        self._flying: set[asyncio.Task[None]] = set()

    async def answer(self, text: Text, options: Options, deadline: Deadline) -> Item:
        """Answer a text, alone or together with others.

        Raises:
            NewsdeskError: there is no answer, or none before the deadline.
        """
        if self._room > 0:
            self._room -= 1
            landed = self._take_off()
            try:
                return await self._alone(text, options, deadline)
            finally:
                landed()
        item: asyncio.Future[Item | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(Call(text, options, deadline, item))
        try:
            answer = await asyncio.wait_for(item, deadline.left())
        except TimeoutError:
            raise late(deadline.url) from None
        return await self._alone(text, options, deadline) if answer is None else answer

    async def _alone(self, text: Text, options: Options, deadline: Deadline) -> Item:
        (item,) = await self._send([text], options, deadline)
        return item

    def _take_off(self) -> Callable[[], None]:
        """Return what gives the room of a request to those who wait, once: when it lands, or has taken too long."""
        released = False

        def landed() -> None:
            nonlocal released
            if not released:
                released = True
                timer.cancel()
                self._landed()

        timer = asyncio.get_running_loop().call_later(_PATIENCE, landed)
        return landed

    def _landed(self) -> None:
        calls = _take(self._waiting, self._most_texts())
        if not calls:
            self._room += 1
            return
        task = asyncio.create_task(self._fly(calls), context=calls[0].context)
        self._flying.add(task)  # the loop itself would not keep it
        task.add_done_callback(self._flying.discard)

        def gave_up(_: object) -> None:
            if all(call.item.cancelled() for call in calls):
                task.cancel()

        for call in calls:
            call.item.add_done_callback(gave_up)

    async def _fly(self, calls: list[Call]) -> None:
        landed = self._take_off()
        try:
            items = await self._send(*_together(calls))
        except asyncio.CancelledError:
            for call in calls:
                call.item.cancel()
            raise
        except Exception as error:
            _fail(calls, error)
        else:
            _hand_out(calls, items)
        finally:
            landed()


def _take(waiting: deque[Call], most: int) -> list[Call]:
    """Take the calls that go together with the first, those that were given up left out."""
    taken: list[Call] = []
    left: list[Call] = []
    while waiting and len(taken) < most:
        call = waiting.popleft()
        if call.item.cancelled():
            continue
        (taken if not taken or _shared(call) == _shared(taken[0]) else left).append(call)
    waiting.extendleft(reversed(left))
    return taken


def _shared(call: Call) -> Options:
    return replace(call.options, top_k=None)


def _together(calls: list[Call]) -> tuple[list[Text], Options, Deadline]:
    longest = max((call.deadline for call in calls), key=lambda deadline: deadline.end)
    return [call.text for call in calls], _shared(calls[0]), longest


def _hand_out(calls: list[Call], items: list[Item]) -> None:
    for call, item in zip(calls, items, strict=True):
        if isinstance(item, TextRefused):
            own: Item = TextRefused(0, item.reason)
        else:
            shares = dict(islice(item.probabilities.items(), call.options.top_k))
            own = replace(item, index=0, probabilities=shares)
        _settle(call, own)


def _fail(calls: list[Call], error: BaseException) -> None:
    """Fail all calls with the error where another try helps nobody; else have each sent alone."""
    common = not isinstance(error, NewsdeskError) or isinstance(error, ServerUnavailable | DeadlineExceeded)
    for call in calls:
        _settle(call, error if common or len(calls) == 1 else None)


def _settle(call: Call, result: Item | BaseException | None) -> None:
    if isinstance(call.item, Future) and not call.item.set_running_or_notify_cancel():
        return
    if call.item.done():
        return
    if isinstance(result, BaseException) and not isinstance(result, TextRefused):
        call.item.set_exception(result)
    else:
        call.item.set_result(result)
