"""Hedging: what is late for no reason of its own is asked for a second time, and the first answer counts.

It is there for the backend process that hangs, and is healed in some ten seconds: another one answers meanwhile. It is
no use against load, for the second request waits in the same queue as the first; hence what is late is measured by the
slowest hundredth of the requests before, and a second request must have been earned by many first ones, so that it can
add no more than a small share to any overload. Dean and Barroso, The Tail at Scale, 2013.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from newsdesk.server.contract import MAX_BATCH

_KEPT = 512
_LEARNT = 64
_LATE = 0.99
# Triton takes a second to say that a process has died: what is asked again before would end the next one, too.
_LEAST_SECONDS = 1.5
_AGAIN_EVERY = 64

Result = TypeVar("Result")


class Hedging:
    """The hedging of one model, for one event loop. `share` of the texts may be asked for twice; at 0 none is."""

    def __init__(self, share: float, hedged: Callable[[int], None]) -> None:
        """`hedged` is told how many texts are asked for again."""
        self._share, self._hedged = share, hedged
        self._earned = 0.0
        self._seconds: deque[float] = deque(maxlen=_KEPT)
        self._late, self._until_measured = float("inf"), _LEARNT

    async def answer(self, texts: int, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Ask, and where that takes long ask once more. The one that loses is cancelled.

        Args:
            texts: how many the request holds; one of more than MAX_BATCH is asked for once
            ask: sends the request
        """
        if not 0 < texts <= MAX_BATCH or not self._share:
            return await ask()
        self._earned = min(self._earned + self._share * texts, MAX_BATCH)
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self._late == float("inf") or self._earned < texts:
            result = await ask()
        else:
            result = await self._race(texts, ask)
        self._learn(loop.time() - began)
        return result

    async def _race(self, texts: int, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Ask here, without a task of its own, which would cost each request; the second has one.

        Where the second answers, it cancels the caller's own task, as asyncio's timeouts do.
        """
        loop, here = asyncio.get_running_loop(), asyncio.current_task()
        assert here is not None
        cancelled_before = here.cancelling()
        asking, answered = True, False
        second: asyncio.Task[Result] | None = None

        def end_first(ended: asyncio.Task[Result]) -> None:
            nonlocal answered
            if asking and not ended.cancelled() and not ended.exception():
                answered = True
                here.cancel()

        def ask_again() -> None:
            nonlocal second
            if self._earned >= texts:
                self._earned -= texts
                self._hedged(texts)
                second = loop.create_task(_awaited(ask))
                second.add_done_callback(end_first)

        timer = loop.call_later(self._late, ask_again)
        try:
            try:
                return await ask()
            finally:
                asking = False
                timer.cancel()
                others = (here.uncancel() if answered else here.cancelling()) > cancelled_before
        except asyncio.CancelledError:
            if second is None or not answered or others:
                raise
            return second.result()
        except Exception:
            if second is None:
                raise
            await asyncio.wait([second])
            if second.exception():
                raise
            return second.result()
        finally:
            if second and not second.done():
                second.cancel()
                await asyncio.gather(second, return_exceptions=True)

    def _learn(self, seconds: float) -> None:
        self._seconds.append(seconds)
        self._until_measured -= 1
        if self._until_measured <= 0:
            self._until_measured = _AGAIN_EVERY
            slow = sorted(self._seconds)[int(_LATE * len(self._seconds))]
            self._late = max(_LEAST_SECONDS, slow)


async def _awaited(ask: Callable[[], Awaitable[Result]]) -> Result:
    return await ask()
