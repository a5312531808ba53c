"""The candidate as the gateway asks it: once, within a time of its own, and what came of it is noted."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from newsdesk.clients import (
    AsyncClient,
    DeadlineExceeded,
    NewsdeskError,
    ServerUnavailable,
)
from newsdesk.clients.errors import Interrupted
from newsdesk.clients.options import Options
from newsdesk.server.gateway import questions
from newsdesk.server.gateway.admission import Portion, Turns, of_body, portions
from newsdesk.server.gateway.problems import Late, Problem
from newsdesk.server.gateway.questions import Item, Text
from newsdesk.server.gateway.rollouts.trial import Trial
from newsdesk.server.gateway.settings import Launch
from newsdesk.server.gateway.suspects import moved
from newsdesk.server.gateway.telemetry import Telemetry
from newsdesk.server.gateway.upstream import RpcReply, Upstream
from newsdesk.server.rollouts import Candidate
from newsdesk.server.runtime.cores import FEWEST_INSTANCES

_SHARE_OF_TIME = 0.25
"""The candidate's share of the time that a request may take: enough is left to ask the current version."""
_FAILURES, _PAUSE_SECONDS = 3, 2.0
"""After so many failures in a row it is not asked for a while: texts do not wait for what is being healed."""
_REFUSED = "INVALID_ARGUMENT"

Result = TypeVar("Result")


class CandidateFailed(Exception):
    """It gave no answer: the current version is to be asked. Only an event of the roll-out, and nobody's error."""


class CandidateClient:
    """The ways to ask a candidate, for one event loop.

    No text is asked for twice, and none is suspect for what becomes of the candidate.
    """

    def __init__(self, launch: Launch, candidate: Candidate, telemetry: Telemetry, trial: Trial) -> None:
        self.candidate, self._telemetry, self._trial = candidate, telemetry, trial
        self._seconds = launch.settings.request_timeout * _SHARE_OF_TIME
        self._url = launch.grpc_url
        self._turns = Turns(FEWEST_INSTANCES)
        self._client = AsyncClient(
            launch.grpc_url,
            timeout=self._seconds,
            retries=0,
            model=candidate.name,
            api_key="",
            micro_batching=True,
            repeat_interrupted=False,
            lean=True,
        )
        self.upstream = Upstream(launch.grpc_url)
        self._failures, self._resumes = 0, 0.0

    @property
    def paused(self) -> bool:
        """Whether it is not asked for a while."""
        return time.monotonic() < self._resumes

    async def classify(self, texts: Sequence[Text], asked: Options) -> list[Item]:
        """Answer texts in their order.

        Raises:
            CandidateFailed: it gave no answer within its time.
        """

        async def ask(end: float) -> list[Item]:
            cut = portions(texts, asked.quality)
            parts = await asyncio.gather(*(self._ask(texts, asked, portion, end) for portion in cut))
            return [
                moved(item, item.index + portion.start)
                for portion, items in zip(cut, parts, strict=True)
                for item in items
            ]

        return await self._noted(len(texts), ask)

    async def _ask(self, texts: Sequence[Text], asked: Options, portion: Portion, end: float) -> list[Item]:
        own = texts[portion.start : portion.end]
        async with self._turns.turn(portion, end):
            return await questions.ask(self._client, own, asked, end, single=len(own) == 1 and not portion.long)

    async def pass_on(self, message: bytes, texts: int, seconds: float | None = None) -> RpcReply:
        """Return what it answers to a request of the Open Inference Protocol, or that it refuses it.

        Args:
            message: a ModelInferRequest
            texts: how many it holds
            seconds: that the caller waits, of which a share is the candidate's

        Raises:
            CandidateFailed: it gave no answer within its time.
        """

        async def ask(end: float) -> RpcReply:
            async with self._turns.turn(of_body(len(message)), end):
                reply = await self.upstream.once("ModelInfer", message)(questions.left(end))
            if reply.good or reply.code == _REFUSED:
                return reply
            raise reply.away(self._url) or CandidateFailed(reply.reason)

        return await self._noted(texts, ask, self._seconds if seconds is None else seconds * _SHARE_OF_TIME)

    async def _noted(self, texts: int, ask: Callable[[float], Awaitable[Result]], seconds: float = math.inf) -> Result:
        """Ask until the time is up (monotonic, which `ask` is given), and note what came of it."""
        began, seconds = time.monotonic(), min(seconds, self._seconds)
        try:
            async with asyncio.timeout(seconds):
                result = await ask(began + seconds)
        except (TimeoutError, DeadlineExceeded, Late) as error:
            self._note(texts, time.monotonic() - began, "late")
            raise CandidateFailed("no answer within its time") from error
        except ServerUnavailable as error:
            # The server itself may be away, and the current version with it: that is not the candidate's fault.
            own = isinstance(error, Interrupted) and error.process
            self._note(texts, time.monotonic() - began, "failed" if own else "away")
            raise CandidateFailed(str(error)) from error
        except (NewsdeskError, Problem, CandidateFailed) as error:
            self._note(texts, time.monotonic() - began, "failed")
            raise CandidateFailed(str(error)) from error
        self._note(texts, time.monotonic() - began, "answered")
        return result

    def _note(self, texts: int, seconds: float, outcome: str) -> None:
        answered = outcome == "answered"
        if outcome != "away":
            # A shadow may be late: it computes when nobody else wants the cores.
            failed = outcome == "failed" or (outcome == "late" and bool(self.candidate.share))
            self._trial.candidate.note(texts, seconds, failed)
        self._telemetry.version(self.candidate.model, self.candidate.version, self.candidate.kind, outcome, seconds)
        self._failures = 0 if answered else self._failures + 1
        if self._failures >= _FAILURES:
            self._resumes = time.monotonic() + _PAUSE_SECONDS

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        await self.upstream.close()
