"""The shadow's queue: texts that were answered, asked for again when there is time, and compared.

Nobody waits for it. It is bounded, and what it has no room for is dropped and counted.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from newsdesk.clients import Prediction
from newsdesk.clients.options import Options
from newsdesk.server.contract import DEFAULT_QUALITY, Quality
from newsdesk.server.gateway.admission import LONG
from newsdesk.server.gateway.rollouts.candidate import CandidateClient, CandidateFailed
from newsdesk.server.gateway.rollouts.trial import Trial
from newsdesk.server.gateway.telemetry import Telemetry

MOST_WAITING = 256
_TOGETHER = 8
"""Texts of one request: few, so that it is short whatever else waits for the cores."""
_BUSY = 32
"""Texts on their way to the current version above which the shadow stands back, but for a request a second."""
_LOOK_SECONDS, _PATIENCE_SECONDS = 0.02, 1.0


@dataclass(frozen=True, slots=True)
class Compared:
    """A text, with the label that the current version gave it at a quality."""

    text: str | bytes
    quality: Quality | None
    label: str


class Shadow:
    """The queue of one shadow, for one event loop. `queued` gives the texts on their way to the current version."""

    def __init__(self, client: CandidateClient, telemetry: Telemetry, trial: Trial, queued: Callable[[], int]) -> None:
        self._client, self._telemetry, self._trial, self._queued = client, telemetry, trial, queued
        self._waiting: deque[Compared] = deque()
        self._arrived = asyncio.Event()

    def offer(self, answered: Iterable[Compared]) -> None:
        """Take what there is room for."""
        dropped = 0
        for each in answered:
            if len(self._waiting) < MOST_WAITING and len(each.text) <= LONG:
                self._waiting.append(each)
            else:
                dropped += 1
        if dropped:
            self._count("dropped", dropped)
        self._arrived.set()

    def drop(self, texts: int) -> None:
        """Count texts that are not asked for."""
        self._count("dropped", texts)

    async def run(self) -> None:
        """Ask for ever, one request at a time."""
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            await self._stand_back()
            await self._compare(self._take())

    async def _stand_back(self) -> None:
        """Let the current version be asked first."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE_SECONDS
        while (self._queued() > _BUSY and loop.time() < end) or self._client.paused:
            await asyncio.sleep(_LOOK_SECONDS)

    def _take(self) -> list[Compared]:
        """Return neighbours of one quality."""
        taken = [self._waiting.popleft()]
        while self._waiting and len(taken) < _TOGETHER and self._waiting[0].quality == taken[0].quality:
            taken.append(self._waiting.popleft())
        return taken

    async def _compare(self, answered: list[Compared]) -> None:
        try:
            items = await self._client.classify(
                [each.text for each in answered], Options(quality=answered[0].quality or DEFAULT_QUALITY, top_k=1)
            )
        except CandidateFailed:
            self._count("failed", len(answered))
            return
        for each, item in zip(answered, items, strict=True):
            agreed = isinstance(item, Prediction) and item.label == each.label
            self._trial.compare(agreed)
            self._count("agreed" if agreed else "disagreed", 1)

    def _count(self, outcome: str, texts: int) -> None:
        candidate = self._client.candidate
        self._telemetry.shadowed(candidate.model, candidate.version, outcome, texts)
