"""The roll-out of one model: texts go to the candidate or the current version, and the rule is kept."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from newsdesk.clients import NewsdeskError, Prediction, TextRefused
from newsdesk.clients.options import Options
from newsdesk.server.gateway.logs import log
from newsdesk.server.gateway.questions import Item, Text
from newsdesk.server.gateway.rollouts import buckets
from newsdesk.server.gateway.rollouts.candidate import CandidateClient, CandidateFailed
from newsdesk.server.gateway.rollouts.shadow import Compared, Shadow
from newsdesk.server.gateway.rollouts.trial import Tally, Trial
from newsdesk.server.gateway.settings import Launch
from newsdesk.server.gateway.suspects import moved
from newsdesk.server.gateway.telemetry import Telemetry
from newsdesk.server.machine import servers
from newsdesk.server.machine.servers import Served
from newsdesk.server.rollouts import STATUS, WITHDRAW, Candidate, TrialStatus

_LOOK_SECONDS = 0.25
_NOT_THE_SAME = "not compared: the version that answered the text failed on it"

Ask = Callable[[Sequence[Text]], Awaitable[list[Item]]]
Result = TypeVar("Result")


class Rollout:
    """The roll-out of one model, for one event loop. `queued` gives the texts on their way to the current version."""

    def __init__(self, launch: Launch, candidate: Candidate, telemetry: Telemetry, queued: Callable[[], int]) -> None:
        self.candidate = candidate
        self._run, self._telemetry = launch.run, telemetry
        self.trial = Trial(launch.settings.rule, compared=not candidate.share)
        self.client = CandidateClient(launch, candidate, telemetry, self.trial)
        self.shadow = None if candidate.share else Shadow(self.client, telemetry, self.trial, queued)
        self._salt = candidate.version
        self._current, self._tried = Served(""), Served("", unready="it is being started")
        self._verdict: tuple[str, str] | None = None

    # Which version a text is for.

    @property
    def active(self) -> bool:
        """Whether the candidate is there to be asked."""
        tried = self._tried
        withdrawn = self._verdict is not None and self._verdict[0] == WITHDRAW
        return not (withdrawn or tried.outcome or tried.unloaded or tried.unready)

    @property
    def answers(self) -> bool:
        """Whether it is a canary, and answers at present."""
        return bool(self.candidate.share) and self.active and not self.client.paused

    @property
    def compares(self) -> bool:
        """Whether it is a shadow, and is asked at present."""
        return self.shadow is not None and self.active

    def chosen(self, texts: Sequence[Text]) -> list[int]:
        """Return the places of the texts that the candidate answers."""
        if not self.answers:
            return []
        share = self.candidate.share
        return [place for place, text in enumerate(texts) if buckets.place(text, self._salt) < share]

    # Texts.

    async def answer(
        self, texts: Sequence[Text], asked: Options, current: Ask, versions: Sequence[str] | None = None
    ) -> list[Item]:
        """Answer texts in their order, by `current` what the candidate is not for or fails on.

        Args:
            texts: of one request
            asked: of each
            current: asks the current version; what it raises is raised
            versions: which version each text is for; what the candidate then fails on is refused: an answer of the
                other would not be comparable
        """
        if versions is None:
            own = self.chosen(texts)
        else:
            tried = self.candidate.version if self.active else None
            own = [place for place, version in enumerate(versions) if version == tried]
        if not own:
            items = await self.noted(len(texts), current(texts))
            self._offer(texts, items, asked)
            if versions is None:
                self._spread(self.trial.current, texts, items)
            return items
        others = sorted(set(range(len(texts))).difference(own))
        trying = asyncio.create_task(self._try([texts[place] for place in own], asked))
        try:
            rest = await self.noted(len(others), current([texts[place] for place in others])) if others else []
            answers = await trying
        except BaseException:
            trying.cancel()
            await asyncio.gather(trying, return_exceptions=True)
            raise
        if versions is None:
            self._spread(self.trial.candidate, [texts[place] for place in own], answers or ())
            self._spread(self.trial.current, [texts[place] for place in others], rest)
        if answers is None:
            answers = (
                [TextRefused(place, _NOT_THE_SAME) for place in range(len(own))]
                if versions
                else await current([texts[place] for place in own])
            )
        items_of = dict(zip(own, answers, strict=True)) | dict(zip(others, rest, strict=True))
        return [moved(items_of[place], place) for place in range(len(texts))]

    async def _try(self, texts: Sequence[Text], asked: Options) -> list[Item] | None:
        try:
            return await self.client.classify(texts, asked)
        except CandidateFailed as error:
            log("the candidate failed", logging.DEBUG, candidate=self.candidate.name, reason=str(error)[:200])
            return None

    async def noted(
        self, texts: int, asking: Awaitable[Result], good: Callable[[Result], bool] = lambda _: True
    ) -> Result:
        """Return what the current version answers, and note how it does; `good` says whether an answer is no error."""
        began, outcome = time.monotonic(), "failed"
        try:
            result = await asking
            outcome = "answered" if good(result) else "failed"
            return result
        except NewsdeskError:
            raise
        except BaseException:
            outcome = ""  # turned away, or its caller is gone
            raise
        finally:
            if outcome:
                seconds = time.monotonic() - began
                self.trial.current.note(texts, seconds, outcome == "failed")
                self._telemetry.version(self.candidate.model, self._current.version, "current", outcome, seconds)

    def _offer(self, texts: Sequence[Text], items: Sequence[Item], asked: Options) -> None:
        if self.shadow and self.active:
            self.shadow.offer(
                Compared(text, asked.quality, item.label)
                for text, item in zip(texts, items, strict=True)
                if isinstance(item, Prediction)
            )

    def _spread(self, tally: Tally, texts: Sequence[Text], items: Sequence[Item]) -> None:
        """Note the labels of a version that is tried on some of the texts."""
        if self.answers:
            tally.labelled(
                (text, item.label) for text, item in zip(texts, items, strict=False) if isinstance(item, Prediction)
            )

    # What becomes of it.

    async def watch(self) -> None:
        """Look for ever how the server and the trial are, and keep the rule."""
        while True:
            served = servers.read_served(self._run)
            self._current = served.get(self.candidate.model, self._current)
            self._tried = served.get(self.candidate.name, self._tried)
            share = self.candidate.share if self.active else 0.0
            self._telemetry.trial(self.candidate.model, self.candidate.version, share)
            if self._verdict is None and self.active and (verdict := self.trial.verdict()):
                self._decide(*verdict)
            with suppress(OSError):  # a full disk
                self._write()
            await asyncio.sleep(_LOOK_SECONDS)

    def _decide(self, action: str, why: str) -> None:
        try:
            servers.wish(self._run, self.candidate.name, f"{action}: {why}")
        except OSError as error:  # a full disk: the next look tries again
            log("the rule cannot be kept", logging.ERROR, candidate=self.candidate.name, reason=str(error))
            return
        self._verdict = action, why
        log("the rule has decided", candidate=self.candidate.name, action=action, reason=why)

    def _write(self) -> None:
        file = self._run / f"{self.candidate.name}.{STATUS}"
        partial = file.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(self.status()))
        partial.replace(file)

    def status(self) -> TrialStatus:
        """Return how the trial goes."""
        tried, verdict = self._tried, self._verdict
        decided = f"{verdict[0]}: {verdict[1]}" if verdict else ""
        state = tried.outcome or decided or tried.refused or tried.unready or "tried"
        return self.trial.status(self.candidate, self._current.version, state)

    async def close(self) -> None:
        """Close the candidate's connections."""
        await self.client.close()
