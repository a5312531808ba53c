"""A model whose process ends of a text, by a clock that jumps."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from newsdesk.clients import Prediction, ServerUnavailable
from newsdesk.clients.errors import Interrupted
from newsdesk.server.gateway.suspects import Item, Suspects, Text
from tests import virtual_time

PROCESS, SERVER = "ag_news_0_0", ""


def now() -> float:
    return asyncio.get_running_loop().time()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test by the clock that jumps. A test that waits for ever fails after ten minutes of that clock."""
    virtual_time.run(asyncio.wait_for(test(), 600))


class PoisonedModel:
    """Two processes, of which one ends whenever it reads "poison"; it is replaced a moment later."""

    def __init__(self, heals: float = 0.05, counts: tuple[int, int] = (100, 0)) -> None:
        self.counts: tuple[int, int] | None = counts
        self.asked: list[tuple[Text, ...]] = []
        self.alone: list[bool] = []
        self.looks: list[float] = []
        self.deaths, self._heals, self._dead = 0, heals, False

    async def count(self) -> tuple[int, int]:
        self.looks.append(now())
        if self.counts is None:
            raise ServerUnavailable("away")
        return self.counts

    async def ask(self, texts: Sequence[Text], alone: bool) -> list[Item]:
        self.asked.append(tuple(texts))
        self.alone.append(alone)
        await asyncio.sleep(0.01)
        if "poison" in texts or self._dead:
            self.deaths += not self._dead
            self.die()
            raise ended()
        self._count(len(texts), 0)
        return [Prediction(place, str(text), {str(text): 1.0}, "m") for place, text in enumerate(texts)]

    def die(self) -> None:
        self._count(0, 1)
        if not self._dead:
            self._dead = True
            asyncio.get_running_loop().call_later(self._heals, self._heal)

    def _count(self, answered: int, failed: int) -> None:
        if self.counts:
            self.counts = self.counts[0] + answered, self.counts[1] + failed

    def _heal(self) -> None:
        self._dead, self.counts = False, (0, 0)


def ended(process: str = PROCESS, ago: float = 0.01) -> Interrupted:
    """Return the error of a request that was sent so many seconds ago."""
    error = Interrupted("ended")
    error.process, error.sent = process, now() - ago
    return error


@asynccontextmanager
async def watched(model: PoisonedModel) -> AsyncIterator[Suspects]:
    subject = Suspects(model.count)
    watching = asyncio.create_task(subject.watch())
    await asyncio.sleep(0)
    yield subject
    assert not watching.done()
    watching.cancel()


def later() -> float:
    return now() + 5


def labels(items: Sequence[Item]) -> list[tuple[int, str]]:
    """Return the places and labels of answers, and the reasons of those that were refused."""
    return [(item.index, item.label if isinstance(item, Prediction) else item.reason) for item in items]
