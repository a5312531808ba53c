"""The asyncio client."""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Self, TypeVar, cast, overload

from newsdesk.clients import feedback, job
from newsdesk.clients.articles import Article, Text, read_rows, read_single
from newsdesk.clients.calls import AsyncCalls
from newsdesk.clients.chunk import Chunk, Item, cut
from newsdesk.clients.client import DEFAULT_URL, ClientSettings, only
from newsdesk.clients.deadline import Deadline, Retries
from newsdesk.clients.errors import BadResponse, Interrupted, NewsdeskError, RequestRefused
from newsdesk.clients.feedback import Correction
from newsdesk.clients.job import AsyncSender, JobRequest, Reply
from newsdesk.clients.jobs import AsyncJobs
from newsdesk.clients.options import Options
from newsdesk.clients.prediction import Prediction
from newsdesk.clients.schemes import connect_async
from newsdesk.clients.transports import AsyncKeeper, AsyncTransport, ModelFacts, parse_all
from newsdesk.server.contract import Quality

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class _LoopConnections:
    """The connections and calls of one event loop."""

    transport: AsyncTransport
    calls: AsyncCalls


class AsyncClient:
    """A `Client` for asyncio, with the same arguments and errors.

        async with AsyncClient() as client:
            (await client.classify("Wall Street bears claw back into the black")).label

    One client may be used in several event loops, of several threads, at once or after another: each has connections
    of its own. `close` closes those of the running loop.
    """

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        timeout: float = 30.0,
        retries: int = 20,
        concurrency: int = 8,
        model: str = "",
        api_key: str | None = None,
        ca_file: str | PathLike[str] = "",
        cert_file: str | PathLike[str] = "",
        key_file: str | PathLike[str] = "",
        micro_batching: bool = False,
        repeat_interrupted: bool = True,
        lean: bool = False,
    ) -> None:
        """Make a client with the arguments of `Client`, but shared memory.

        Args:
            url: of the server, or of several
            timeout: seconds that a call may take
            retries: of a request
            concurrency: requests in flight at once
            model: that is asked where a call names none
            api_key: key or bearer token
            ca_file: certificates to trust
            cert_file: the caller's own certificate
            key_file: its key
            micro_batching: whether single calls go together
            repeat_interrupted: whether what was in flight when a process ended is sent again, too
            lean: whether grpc:// is Triton's own port, and is asked without gRPC's core, for a third of the CPU
        """
        addresses = parse_all(url, model, api_key, str(ca_file), str(cert_file), str(key_file))
        self._repeat_interrupted, self._lean = repeat_interrupted, lean
        self._settings = ClientSettings(addresses, timeout, retries, concurrency, micro_batching)
        self._by_loop: dict[tuple[int, asyncio.AbstractEventLoop], _LoopConnections] = {}
        self._models: dict[str, ModelFacts] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the running loop's connections. The next call opens new ones."""
        here = self._by_loop.pop((os.getpid(), asyncio.get_running_loop()), None)
        if here is not None:
            await here.transport.close()

    @overload  # a str, or a mapping, is an iterable of str too, so the order of the two matters
    async def classify(  # type: ignore[overload-overlap]
        self,
        text: Text | Article,
        *,
        top_k: int | None = None,
        quality: Quality | None = None,
        members: bool = False,
        uncertainty: bool = False,
        model: str = "",
        timeout: float | None = None,
    ) -> Prediction: ...
    @overload
    async def classify(
        self,
        text: Iterable[Text | Article],
        *,
        top_k: int | None = None,
        quality: Quality | None = None,
        members: bool = False,
        uncertainty: bool = False,
        model: str = "",
        timeout: float | None = None,
    ) -> list[Item]: ...
    async def classify(
        self,
        text: Text | Article | Iterable[Text | Article],
        *,
        top_k: int | None = None,
        quality: Quality | None = None,
        members: bool = False,
        uncertainty: bool = False,
        model: str = "",
        timeout: float | None = None,
    ) -> Prediction | list[Item]:
        """As `Client.classify`."""
        options = Options(top_k, quality, members, uncertainty, model=model)
        deadline = self._settings.deadline(timeout)
        single = read_single(text)
        if single is not None:
            if self._settings.micro_batching:
                return only([await self._here().calls.answer(single, options, deadline)])
            return only(await self._send([single], options, deadline))
        return [item async for item in self._in_order(read_rows(text), options, lambda: deadline)]

    def stream(
        self,
        texts: Iterable[Text | Article],
        *,
        top_k: int | None = None,
        quality: Quality | None = None,
        members: bool = False,
        uncertainty: bool = False,
        model: str = "",
        timeout: float | None = None,
    ) -> AsyncIterator[Item]:
        """As `Client.stream`."""
        options = Options(top_k, quality, members, uncertainty, model=model)
        return self._in_order(read_rows(texts), options, lambda: self._settings.deadline(timeout))

    async def labels(self, *, model: str = "", timeout: float | None = None) -> tuple[str, ...]:
        """As `Client.labels`."""
        return (await self._describe(model, self._settings.deadline(timeout))).labels

    async def models(self, *, timeout: float | None = None) -> tuple[str, ...]:
        """As `Client.models`."""
        deadline = self._settings.deadline(timeout)
        return await self._repeated(lambda: self._here().transport.models(deadline.left()), deadline)

    async def feedback(
        self, corrections: Correction | Iterable[Correction], *, model: str = "", timeout: float | None = None
    ) -> int:
        """As `Client.feedback`."""
        deadline = self._settings.deadline(timeout)
        path = feedback.path(model, self._settings.addresses[0])

        def keep(body: bytes) -> Awaitable[int]:
            return cast(AsyncKeeper, self._here().transport).feedback(body, path, deadline.left())

        return sum([await self._repeated(partial(keep, body), deadline) for body in feedback.bodies(corrections)])

    @property
    def jobs(self) -> AsyncJobs:
        """As `Client.jobs`."""
        job.check(self._settings.addresses)
        return AsyncJobs(self._send_job, self._settings.deadline)

    async def _send_job(self, request: JobRequest) -> Reply:
        deadline = self._settings.deadline(None)

        def send() -> Awaitable[Reply]:
            return cast(AsyncSender, self._here().transport).send(request, deadline.left())

        return await (send() if isinstance(request.body, Iterator) else self._repeated(send, deadline))

    async def _repeated(self, call: Callable[[], Awaitable[_Answer]], deadline: Deadline) -> _Answer:
        """As `Client._repeated`."""
        retries = Retries(self._settings.retries, deadline)
        while True:
            try:
                return await call()
            except NewsdeskError as error:
                await asyncio.sleep(retries.pause(error))

    async def _in_order(
        self, texts: Iterable[Text | Article], options: Options, deadline: Callable[[], Deadline]
    ) -> AsyncIterator[Item]:
        model = await self._describe(options.model, deadline())
        flying: deque[asyncio.Task[list[Item]]] = deque()
        try:
            for chunk in cut(texts, model.max_batch):
                if len(flying) >= self._settings.concurrency:
                    for item in await flying.popleft():
                        yield item
                flying.append(asyncio.create_task(self._answer(chunk, options, deadline)))
            while flying:
                for item in await flying.popleft():
                    yield item
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)

    async def _send(self, texts: Sequence[Text], options: Options, deadline: Deadline) -> list[Item]:
        """Answer few texts, a request after another."""
        items: list[Item] = []
        for chunk in cut(texts, self._most_texts(options.model)):
            items += await self._answer(chunk, options, lambda: deadline)
        return items

    def _most_texts(self, name: str) -> int:
        model = self._models.get(name or self._settings.model)
        return model.max_batch if model else 1

    def _most_together(self) -> int:
        return max((model.max_batch for model in list(self._models.values())), default=1)

    async def _answer(self, chunk: Chunk, options: Options, deadline: Callable[[], Deadline]) -> list[Item]:
        end = deadline()
        retries = Retries(self._settings.retries, end)
        while waiting := chunk.waiting:
            model = await self._describe(options.model, end)
            sent = time.monotonic()
            try:
                answers = await self._here().transport.infer(waiting, model, options, end.left())
                chunk.accept(answers, model, options)
            except NewsdeskError as error:
                if chunk.refuse(error) or chunk.pass_cache(error):
                    continue
                if isinstance(error, BadResponse | RequestRefused):
                    self._models.pop(options.model or self._settings.model, None)  # it may be another one now
                if isinstance(error, Interrupted) and not self._repeat_interrupted:
                    error.sent = sent
                    raise
                await asyncio.sleep(retries.pause(error))
        return chunk.done()

    async def _describe(self, name: str, deadline: Deadline) -> ModelFacts:
        name = name or self._settings.model
        retries = Retries(self._settings.retries, deadline)
        while (model := self._models.get(name)) is None:
            try:
                model = self._models[name] = await self._here().transport.describe(name, deadline.left())
            except NewsdeskError as error:
                await asyncio.sleep(retries.pause(error))
        return model

    def _here(self) -> "_LoopConnections":
        loop = asyncio.get_running_loop()
        here = self._by_loop.get((os.getpid(), loop))
        if here is None:
            for key in [key for key in list(self._by_loop) if key[1].is_closed()]:
                if (left := self._by_loop.pop(key, None)) is not None:
                    left.transport.abandon()
            calls = AsyncCalls(self._settings.concurrency, self._most_together, self._send)
            transport = connect_async(self._settings.addresses, self._lean)
            here = self._by_loop[os.getpid(), loop] = _LoopConnections(transport, calls)
        return here
