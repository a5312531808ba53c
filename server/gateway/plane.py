"""The data plane of a model, under every protocol: texts to answers, over the SDK, within one queue's limit."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from newsdesk.clients import AsyncClient, BadResponse, NewsdeskError, Prediction, TextRefused
from newsdesk.clients.options import Options
from newsdesk.server.contract import PROBE
from newsdesk.server.gateway import explain, questions
from newsdesk.server.gateway.admission import Portion, Queue, QueuePlace, Turns, load, of_body, portions
from newsdesk.server.gateway.breaker import Breaker
from newsdesk.server.gateway.hedging import Hedging
from newsdesk.server.gateway.logs import log, request_id
from newsdesk.server.gateway.problems import TooLarge
from newsdesk.server.gateway.questions import Item, Text
from newsdesk.server.gateway.rollouts.rollout import Rollout
from newsdesk.server.gateway.settings import Launch
from newsdesk.server.gateway.suspects import Suspects, moved
from newsdesk.server.gateway.telemetry import Telemetry

if TYPE_CHECKING:
    from newsdesk.server.gateway.tracing import Tracing

_PROBE_SECONDS = 1.0
_PROBE_TIMEOUT = 5.0
# The supervisor heals in seconds: within a request's time limit, keep trying.
_RETRIES = 60
_STREAM_REQUESTS = 4


@dataclass(frozen=True, slots=True)
class CallOptions(Options):
    """The caller's wishes for each text, whatever the protocol.

    Attributes:
        explain: which words mattered: the model reads up to explain.MOST_SPANS more texts for it, of the same quality

    Raises:
        ValueError: a wish cannot be met.
    """

    explain: bool = False


class Plane:
    """The data plane of one model, for one event loop.

    Raises:
        NewsdeskError: by any call, where the model is not asked or fails.
        TooMany: by any call, where the queue is full.
    """

    def __init__(
        self,
        launch: Launch,
        model: str,
        telemetry: Telemetry,
        breaker: Breaker,
        suspects: Suspects,
        tracing: "Tracing | None" = None,
    ) -> None:
        self.model, self.timeout = model, launch.settings.request_timeout
        self._most_texts = launch.settings.max_texts
        self._queue, self._turns = Queue(launch.settings.max_queue), Turns(launch.models[model])
        telemetry.queued.labels(model).set_function(lambda: self._queue.texts)
        self._client = AsyncClient(
            launch.grpc_url,
            timeout=self.timeout,
            retries=_RETRIES,
            model=model,
            api_key="",
            micro_batching=True,
            repeat_interrupted=False,
            lean=True,
        )
        self._prober = AsyncClient(
            launch.grpc_url, timeout=_PROBE_TIMEOUT, retries=0, model=model, api_key="", lean=True
        )
        self._telemetry, self._breaker, self._suspects, self._tracing = telemetry, breaker, suspects, tracing
        self._hedging = Hedging(launch.settings.hedge_share, telemetry.hedged.labels(model).inc)
        self._log_texts = launch.settings.log_texts
        self.rollout: Rollout | None = None
        """The version that is tried beside this one."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        await self._prober.close()

    async def labels(self) -> tuple[str, ...]:
        """Return the model's labels, in their order."""
        with self._breaker.counting():
            return await self._client.labels()

    async def classify(self, texts: Sequence[str], asked: CallOptions, wait: bool = False) -> list[Item]:
        """Answer texts in their order; a text that is refused has a TextRefused in its place.

        Args:
            texts: of one request
            asked: of each
            wait: for room where the queue is full, instead of raising TooMany

        Raises:
            TooLarge: more texts than may be taken, or explained, at once.
        """
        self._check(len(texts), asked)
        async with self._room(texts, wait):
            items = await self._answer(texts, asked, wait)
        return await self._explain(texts, items, asked, wait) if asked.explain else items

    def _check(self, count: int, asked: CallOptions) -> None:
        if count > self._most_texts:
            raise TooLarge(
                f"{count} texts are given, at most {self._most_texts} are taken at once. Files have no limit: "
                "/v1/classify/file."
            )
        most = max(1, self._most_texts // (1 + explain.MOST_SPANS))
        if asked.explain and count > most:
            raise TooLarge(f"{count} texts are given, at most {most} are explained at once: send fewer.")

    async def stream(self, batches: AsyncIterator[list[Text]], asked: CallOptions) -> AsyncGenerator[list[Item]]:
        """Answer batches in their order, a few at a time; a further one is taken only when the first is answered.

        It waits for room in the queue. The items' indices count through all batches.
        """
        flying: deque[asyncio.Task[list[Item]]] = deque()
        first = 0
        try:
            async for batch in batches:
                flying.append(asyncio.create_task(self._answer_later(batch, asked, first)))
                first += len(batch)
                if len(flying) >= _STREAM_REQUESTS:
                    yield await flying.popleft()
            while flying:
                yield await flying.popleft()
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)

    async def _answer_later(self, texts: list[Text], asked: CallOptions, first: int) -> list[Item]:
        async with self._room(texts, wait=True):
            return [moved(item, item.index + first) for item in await self._answer(texts, asked, wait=True)]

    async def _answer(self, texts: Sequence[Text], asked: CallOptions, wait: bool) -> list[Item]:
        if self._log_texts:
            await _log(texts)
        items = await self._ask(texts, asked, wait)
        refused = sum(isinstance(item, TextRefused) for item in items)
        self._telemetry.texts(self.model, len(items) - refused, refused)
        if refused < len(items):
            self.answered()
        return items

    async def _ask(
        self, texts: Sequence[Text], asked: CallOptions, wait: bool, versions: Sequence[str] | None = None
    ) -> list[Item]:
        """Answer the texts that the model may be asked for, and refuse the others in their places.

        `versions` says which version each is for, where it is not the roll-out's choice.
        """
        refused = self._suspects.refusals(texts)
        if not refused:
            return await self._ask_versions(texts, asked, wait, versions)
        left = [place for place in range(len(texts)) if place not in refused]
        chosen = versions and [versions[place] for place in left]
        answers = await self._ask_versions([texts[place] for place in left], asked, wait, chosen)
        items = refused | {place: moved(item, place) for place, item in zip(left, answers, strict=True)}
        return [items[place] for place in range(len(texts))]

    async def _ask_versions(
        self, texts: Sequence[Text], asked: CallOptions, wait: bool, versions: Sequence[str] | None
    ) -> list[Item]:
        if self.rollout is None:
            return await self._ask_in_portions(texts, asked, wait)
        return await self.rollout.answer(texts, asked, lambda some: self._ask_in_portions(some, asked, wait), versions)

    async def _ask_in_portions(self, texts: Sequence[Text], asked: CallOptions, wait: bool) -> list[Item]:
        """Answer texts in portions, each in its turn. With `wait` a portion's time begins with its turn."""
        end = None if wait else time.monotonic() + self.timeout
        cut = portions(texts, asked.quality)
        if len(cut) == 1:
            return await self._ask_in_turn(texts, asked, cut[0], end)
        tasks = [
            asyncio.create_task(self._ask_in_turn(texts[portion.start : portion.end], asked, portion, end))
            for portion in cut
        ]
        try:
            parts = await asyncio.gather(*tasks)
        except BaseException:  # what is left of the request is for nobody
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return [
            moved(item, item.index + portion.start) for portion, items in zip(cut, parts, strict=True) for item in items
        ]

    async def _ask_in_turn(
        self, texts: Sequence[Text], asked: CallOptions, portion: Portion, end: float | None
    ) -> list[Item]:
        async with self._turns.turn(portion, end):
            return await self._ask_portion(texts, asked, portion.long, end or time.monotonic() + self.timeout)

    async def _ask_portion(self, texts: Sequence[Text], asked: CallOptions, long: bool, end: float) -> list[Item]:
        with self._breaker.counting(), self._tracing.question(len(texts)) if self._tracing else nullcontext():
            return await self._suspects.texts(
                texts, lambda some, alone: self._ask_model(some, asked, long or alone, end), end
            )

    async def _ask_model(self, texts: Sequence[Text], asked: CallOptions, apart: bool, end: float) -> list[Item]:
        # Where many come at once, single texts share requests; a request that is traced is its caller's own, and in one
        # with a long text others would wait for that.
        sharing = len(texts) == 1 and not self._tracing and not apart

        async def ask() -> list[Item]:
            nonlocal sharing
            shared, sharing = sharing, False  # asked again, it goes alone: what it shares may be what hangs
            return await questions.ask(self._client, texts, asked, end, single=shared)  # one deadline for all tries

        try:
            if apart:  # its lateness is its own, and to ask again would double it
                return await ask()
            return await self._hedging.answer(len(texts), ask)
        except BadResponse:  # a reload has brought other labels, which the client reads when it is asked again
            return await ask()

    async def _explain(self, texts: Sequence[str], items: list[Item], asked: CallOptions, wait: bool) -> list[Item]:
        """Add its words to each answer. The texts without them count in the queue, but not among those answered."""
        answered = [isinstance(item, Prediction) for item in items]
        places = [explain.spans(text) if good else [] for text, good in zip(texts, answered, strict=True)]
        variants = [explain.without(text, place) for text, here in zip(texts, places, strict=True) for place in here]
        versions = [
            item.version for item, here in zip(items, places, strict=True) if isinstance(item, Prediction) for _ in here
        ]
        async with self._room(variants, wait):
            answers = iter(await self._ask(variants, CallOptions(quality=asked.quality), wait, versions))
        return [
            explain.explained(text, item, here, list(islice(answers, len(here))))
            if isinstance(item, Prediction)
            else item
            for text, item, here in zip(texts, items, places, strict=True)
        ]

    @asynccontextmanager
    async def passing(self, size: int) -> AsyncIterator[None]:
        """Take the turn of a request of `size` bytes that is passed through.

        Raises:
            TooMany: the queue is full.
            Late: the turn did not come in time.
            Unavailable: the circuit breaker is open.
        """
        end = time.monotonic() + self.timeout
        self._breaker.check()
        async with self._queue.place(1, wait=False), self._turns.turn(of_body(size), end):
            yield

    def _room(self, texts: Sequence[Text], wait: bool) -> QueuePlace:
        """Return a place in the queue. Raises Unavailable while the circuit breaker is open."""
        self._breaker.check()
        return self._queue.place(load(texts), wait, len(texts))

    @property
    def queued(self) -> int:
        """Texts on their way to the model."""
        return self._queue.texts

    def answered(self) -> None:
        """Note that the model has just answered a real request."""
        self._breaker.answered()

    @property
    def age(self) -> float:
        """Seconds since the model last answered a real request."""
        return self._breaker.age

    @property
    def ready(self) -> bool:
        """Whether the model has answered lately."""
        return self._breaker.ready

    @property
    def breaks(self) -> bool:
        """Whether the model is not asked at present."""
        return self._breaker.open

    async def probe(self) -> None:
        """Ask the model for ever, where nobody else does."""
        while True:
            if self.age > _PROBE_SECONDS:
                with suppress(NewsdeskError):
                    await self._prober.classify(PROBE)
                    self.answered()
            self._telemetry.ready.labels(self.model).set(self.ready)
            self._telemetry.open.labels(self.model).set(self.breaks)
            await asyncio.sleep(_PROBE_SECONDS)


async def _log(texts: Sequence[Text]) -> None:
    from newsdesk.server.gateway.masking import mask

    decoded = [text if isinstance(text, str) else text.decode(errors="replace") for text in texts]
    masked = await asyncio.to_thread(lambda: [mask(text) for text in decoded])
    log("texts", request_id=request_id.get(), texts=masked)
