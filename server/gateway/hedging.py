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
        asked = [asyncio.ensure_future(ask())]
        try:
            done, _ = await asyncio.wait(asked, timeout=self._late)
            if not done and self._earned >= texts:
                self._earned -= texts
                self._hedged(texts)
                asked.append(asyncio.ensure_future(ask()))
            while waiting := [attempt for attempt in asked if not attempt.done()]:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if any(attempt.done() and not attempt.exception() for attempt in asked):
                    break
            return next((attempt for attempt in asked if attempt.done() and not attempt.exception()), asked[0]).result()
        finally:
            if waiting := [attempt for attempt in asked if not attempt.done()]:
                for attempt in waiting:
                    attempt.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)

    def _learn(self, seconds: float) -> None:
        self._seconds.append(seconds)
        self._until_measured -= 1
        if self._until_measured <= 0:
            self._until_measured = _AGAIN_EVERY
            slow = sorted(self._seconds)[int(_LATE * len(self._seconds))]
            self._late = max(_LEAST_SECONDS, slow)
