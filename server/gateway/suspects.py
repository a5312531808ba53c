"""Send again, once and alone, what was in flight when a process ended; refuse it for a while if that ends one.

A process that ends takes its whole batch with it, so all of that is suspect, and one text of it may be guilty. They are
tried one after another, each by itself, once the model is whole again: the innocent are answered, the guilty one is
found. It ends a process twice at most.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from newsdesk.clients import NewsdeskError, Prediction, TextRefused
from newsdesk.clients.errors import Interrupted, unavailable
from newsdesk.server.contract import MAX_TEXT_BYTES
from newsdesk.server.gateway.logs import log
from newsdesk.server.gateway.problems import Poisonous

Text = str | bytes
Item = Prediction | TextRefused
Counts = tuple[int, int]
"""Requests that the loaded model has answered, and that it has failed on."""

HELD_SECONDS = 300.0
_HELD_MOST = 4096
_STRIKES = 2
_LOOK_SECONDS, _LOOK_OFTEN_SECONDS = 1.0, 0.1
_PATIENCE = 15.0
"""Seconds after which suspects are tried though nobody saw the dead process replaced; it may still be dead."""
_AGAIN_SECONDS = 0.05
_SERVER = ""
"""The name of the process whose end takes all others with it."""
_UTF8_MOST = 4
_REASON = (
    f"ended the model's process twice, the second time alone: it is not tried again for {HELD_SECONDS / 60:.0f} minutes"
)

Result = TypeVar("Result")


class Suspects:
    """The suspects of one model, for one event loop.

    `counts` asks Triton; a model that is loaded anew, as after each death, counts from zero.
    """

    def __init__(self, counts: Callable[[], Awaitable[Counts]]) -> None:
        self._counts = counts
        self._strikes: dict[bytes, tuple[int, float]] = {}
        self._lane = asyncio.Lock()
        self._dead: dict[str, float] = {}
        self._unseen: dict[str, float] = {}
        self._replaced = 0.0
        self._whole, self._noticed = asyncio.Event(), asyncio.Event()
        self._whole.set()

    def check(self, content: bytes) -> None:
        """Let a request pass that has not ended a process twice.

        Raises:
            Poisonous: it has.
        """
        if self._strikes and self._struck(key(content)) >= _STRIKES:
            raise Poisonous(f"The request {_REASON}.")

    def refusals(self, texts: Sequence[Text]) -> dict[int, Item]:
        """Return those of the texts that the model is not asked for, by place."""
        reasons = {place: reason for place, text in enumerate(texts) if (reason := self._refusal(text))}
        return {place: TextRefused(place, reason) for place, reason in reasons.items()}

    async def texts(
        self, texts: Sequence[Text], ask: Callable[[Sequence[Text], bool], Awaitable[list[Item]]], end: float
    ) -> list[Item]:
        """Answer texts in their order. A text that ended a process twice is refused in its place.

        Args:
            texts: of one request
            ask: asks the model for some of them, and is told whether for one alone
            end: of the time that they may take, in monotonic seconds

        Raises:
            NewsdeskError: any but Interrupted.
        """
        together = [place for place, text in enumerate(texts) if not self._strikes or not self._struck(key(text))]
        items: dict[int, Item] = {}
        if together:
            try:
                answers = await self._elsewhere(lambda: ask([texts[place] for place in together], False))
                items = {place: moved(item, place) for place, item in zip(together, answers, strict=True)}
            except Interrupted:
                for place in together:
                    self._strike(key(texts[place]), 1)
        for place, text in enumerate(texts):
            if place not in items:
                items[place] = await self._text_alone(place, text, ask, end)
        return [items[place] for place in range(len(texts))]

    async def request(self, content: bytes, ask: Callable[[], Awaitable[Result]], end: float) -> Result:
        """Answer a request that cannot be taken apart.

        Args:
            content: what it is known by
            ask: sends it
            end: of the time that it may take, in monotonic seconds

        Raises:
            Poisonous: it ended a process twice.
            NewsdeskError: any but Interrupted.
        """
        own = key(content)
        if not self._struck(own):
            try:
                return await self._elsewhere(ask)
            except Interrupted:
                self._strike(own, 1)
        return await self._alone(own, ask, end)

    async def watch(self) -> None:
        """Look for ever whether the model was loaded anew, often while a process of it is dead."""
        before: Counts = 0, 0
        away = False
        while True:
            counts, now = await self._look(), time.monotonic()
            if counts is None:
                away = True
            else:
                if counts[0] < before[0] or counts[1] < before[1] or (away and _SERVER in self._dead):
                    self._replaced = now
                    self._dead.clear()
                    self._unseen.clear()
                before, away = counts, False
            for process in [process for process, since in self._dead.items() if now - since > _PATIENCE]:
                self._unseen[process] = self._dead.pop(process)
            if self._dead:
                await asyncio.sleep(_LOOK_OFTEN_SECONDS)
                continue
            self._whole.set()
            self._noticed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._noticed.wait(), _LOOK_SECONDS)

    async def _look(self) -> Counts | None:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                return await self._counts()
        except (NewsdeskError, TimeoutError):
            return None

    async def _elsewhere(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Ask, and again where the process was known to be dead before. Raises Interrupted for one that died since."""
        while True:
            try:
                return await ask()
            except Interrupted as error:
                if self._died(error):
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _text_alone(
        self, place: int, text: Text, ask: Callable[[Sequence[Text], bool], Awaitable[list[Item]]], end: float
    ) -> Item:
        try:
            (item,) = await self._alone(key(text), lambda: ask([text], True), end)
        except Poisonous:
            return TextRefused(place, _REASON)
        return moved(item, place)

    async def _alone(self, own: bytes, ask: Callable[[], Awaitable[Result]], end: float) -> Result:
        """Ask once the model is whole, while no other suspect is asked for. Raises Poisonous."""
        try:
            async with asyncio.timeout(end - time.monotonic()), self._lane:
                if self._struck(own) >= _STRIKES:
                    raise Poisonous(f"The request {_REASON}.")
                await self._whole.wait()
                result = await self._elsewhere(ask)
        except TimeoutError:
            raise unavailable("The model", "a process of it ended, and is not replaced yet") from None
        except Interrupted as error:
            self._strike(own, _STRIKES)
            log("a process ended twice of one request, which is refused now", content=own.hex(), seconds=HELD_SECONDS)
            raise Poisonous(f"The request {_REASON}.") from error
        self._strikes.pop(own, None)
        return result

    def _died(self, error: Interrupted) -> bool:
        """Note the death that an error tells of. Return False where it was known when the request was sent."""
        since = self._dead.get(error.process, self._unseen.get(error.process))
        if since is not None and since < error.sent:
            return False
        if since is None and self._replaced < error.sent:
            self._dead[error.process] = time.monotonic()
            self._whole.clear()
            self._noticed.set()
        return True

    def _strike(self, own: bytes, strikes: int) -> None:
        """Note that it was in flight at a death: 1 in company, however often it was asked for then, 2 alone."""
        strikes = max(strikes, self._struck(own))
        self._strikes.pop(own, None)
        while len(self._strikes) >= _HELD_MOST:
            del self._strikes[next(iter(self._strikes))]
        self._strikes[own] = strikes, time.monotonic() + HELD_SECONDS

    def _struck(self, own: bytes) -> int:
        strikes, until = self._strikes.get(own, (0, 0.0))
        if strikes and until < time.monotonic():
            del self._strikes[own]
            return 0
        return strikes

    def _refusal(self, text: Text) -> str:
        size = len(text)
        if size <= MAX_TEXT_BYTES < _UTF8_MOST * size and isinstance(text, str):
            size = len(text.encode(errors="surrogatepass"))
        if size > MAX_TEXT_BYTES:
            return f"{size} bytes, expected at most {MAX_TEXT_BYTES}, send a shorter text"
        return _REASON if self._strikes and self._struck(key(text)) >= _STRIKES else ""


def key(content: Text) -> bytes:
    """Return what content is known by, 16 bytes."""
    encoded = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    return hashlib.blake2b(encoded, digest_size=16).digest()


def moved(item: Item, place: int) -> Item:
    """Return the item with its place among all texts."""
    if item.index == place:
        return item
    return TextRefused(place, item.reason) if isinstance(item, TextRefused) else replace(item, index=place)
