"""The blocking client."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from os import PathLike
from typing import Self, TypeVar, cast, overload

from newsdesk.clients import feedback, job
from newsdesk.clients.articles import Article, Text, read_rows, read_single
from newsdesk.clients.calls import Calls
from newsdesk.clients.chunk import Chunk, Item, cut
from newsdesk.clients.deadline import Deadline, Retries
from newsdesk.clients.errors import BadResponse, NewsdeskError, RequestRefused, TextRefused
from newsdesk.clients.feedback import Correction
from newsdesk.clients.job import JobRequest, Reply, Sender
from newsdesk.clients.jobs import Jobs
from newsdesk.clients.options import Options
from newsdesk.clients.prediction import Prediction
from newsdesk.clients.schemes import connect
from newsdesk.clients.transports import Address, FeedbackTransport, ModelFacts, Transport, parse_all
from newsdesk.server.contract import Quality

_Answer = TypeVar("_Answer")
DEFAULT_URL = "grpc://127.0.0.1:8001"


@dataclass(frozen=True)
class ClientSettings:
    """The arguments of a client; `Client` says what each means.

    Raises:
        ValueError: one is out of its bounds.
    """

    addresses: tuple[Address, ...]
    timeout: float
    retries: int
    concurrency: int
    micro_batching: bool

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.retries < 0 or self.concurrency < 1:
            raise ValueError(
                f"timeout={self.timeout}, retries={self.retries}, concurrency={self.concurrency}: "
                "expected timeout > 0 seconds, retries ≥ 0 and concurrency ≥ 1"
            )

    @property
    def model(self) -> str:
        """The name of the model that is asked where a call names none."""
        return self.addresses[0].model

    def deadline(self, timeout: float | None) -> Deadline:
        """Return the deadline of a call that begins now; None is the client's own timeout."""
        url = ",".join(address.url for address in self.addresses)
        return Deadline(self.timeout if timeout is None else timeout, url)


@dataclass(frozen=True)
class _ProcessConnections:
    """The connections, threads and calls of one process."""

    transport: Transport
    executor: ThreadPoolExecutor
    calls: Calls


class Client:
    """Classifies texts with a newsdesk server.

        with Client() as client:
            client.classify("Wall Street bears claw back into the black").label

    One client may be used by any number of threads, and in processes forked from its own, which connect anew. (A
    program that imports grpc before newsdesk and forks must set GRPC_ENABLE_FORK_SUPPORT=1 first.)

    Args:
        url: grpc://host:port (Triton's gRPC, or the gateway's), http://host:port (their HTTP; tensors are binary over
            both), or gateway+http://host:port (the gateway's REST); grpcs, https and gateway+https are encrypted.
            Several servers that serve the same model, as "grpc://a:8081,b:8081" or a list, are asked as one: the one
            with the fewest requests in flight, past those that do not answer
        timeout: seconds that a call may take, retries included
        retries: how often a request is repeated, after growing pauses while the server is unavailable; 20 go on for
            about 20 seconds, longer than a server takes that is started again
        concurrency: requests in flight at once when there are more texts than one request takes
        model: name of the model at the server; without, the server's only or default one
        api_key: key or bearer token for the gateway; without, NEWSDESK_API_KEY; "" for none
        ca_file: certificates (PEM) to trust instead of the system's
        cert_file: certificate (PEM) of the caller's own, for a server that wants one
        key_file: its key
        micro_batching: send single calls that come while `concurrency` requests are in flight together as one request,
            once one of those ends; nobody waits for company
        shared_memory: hand texts over by system shared memory, over grpc:// to a Triton of the same host and user;
            where it refuses (`newsdesk serve` closes these endpoints) one RuntimeWarning says why, and texts are sent
            as ever. News texts are small: expect little of it

    Raises:
        ValueError: the URL is of another kind, or an argument is out of its bounds.
        NewsdeskError: by any call, where there is no answer.
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
        shared_memory: bool = False,
    ) -> None:
        addresses = parse_all(url, model, api_key, str(ca_file), str(cert_file), str(key_file))
        if shared_memory and (addresses[0].scheme != "grpc" or len(addresses) > 1):
            raise ValueError(f"shared_memory is given with {url!r}, expected grpc://host:port on the same host")
        addresses = tuple(replace(address, shared_memory=shared_memory) for address in addresses)
        self._settings = ClientSettings(addresses, timeout, retries, concurrency, micro_batching)
        # By process, because neither connections nor threads survive a fork; without a lock, because one held by
        # another thread while the process forks would stay held in the child.
        self._by_process: dict[int, _ProcessConnections] = {}
        self._models: dict[str, ModelFacts] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The next call opens new ones."""
        here = self._by_process.pop(os.getpid(), None)
        if here is not None:
            here.executor.shutdown(cancel_futures=True)
            here.transport.close()

    @overload  # a str, or a mapping, is an iterable of str too, so the order of the two matters
    def classify(  # type: ignore[overload-overlap]
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
    def classify(
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
    def classify(
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
        """Classify one text, or a list of any length in its order.

        Args:
            text: str, or bytes in UTF-8: an article's title, a space, its description; or {"title": …, "description":
                …} or {"text": …}. A list, a column of pandas, polars or Arrow, or any other iterable holds many of
                those
            top_k: the k highest probabilities only
            quality: "fast", "balanced" (what None means) or "best": how sure a cheap member must be to answer alone
            members: whether predictions hold what each member that was asked said by itself
            uncertainty: whether they hold how uncertain they are, where the server says that
            model: name of the model, instead of the client's
            timeout: seconds, instead of the client's

        Raises:
            TextRefused: the server refuses a text that is alone; in a list, a TextRefused stands in its place.
            TypeError: it is no text, or has no rows or no order: a table, a set.
        """
        options = Options(top_k, quality, members, uncertainty, model=model)
        deadline = self._settings.deadline(timeout)
        single = read_single(text)
        if single is not None:
            if self._settings.micro_batching:
                return only([self._here().calls.answer(single, options, deadline)])
            return only(self._send([single], options, deadline))
        return list(self._in_order(read_rows(text), options, lambda: deadline))

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
    ) -> Iterator[Item]:
        """Classify texts as they come, in their order and in constant memory.

        Args:
            texts: as `classify` takes them
            top_k: as of `classify`, and so are the next four
            quality: of all texts
            members: as of `classify`
            uncertainty: as of `classify`
            model: as of `classify`
            timeout: seconds of each request
        """
        options = Options(top_k, quality, members, uncertainty, model=model)
        return self._in_order(read_rows(texts), options, lambda: self._settings.deadline(timeout))

    def labels(self, *, model: str = "", timeout: float | None = None) -> tuple[str, ...]:
        """Return a model's labels, in the model's order."""
        return self._describe(model, self._settings.deadline(timeout)).labels

    def models(self, *, timeout: float | None = None) -> tuple[str, ...]:
        """Return the names of the models that the server has."""
        deadline = self._settings.deadline(timeout)
        return self._repeated(lambda: self._here().transport.models(deadline.left()), deadline)

    def feedback(
        self, corrections: Correction | Iterable[Correction], *, model: str = "", timeout: float | None = None
    ) -> int:
        """Have the gateway keep corrections of labels for the next build, and return how many it kept.

        `newsdesk serve --feedback FOLDER` takes them, at its REST address (gateway+http://). They are sent in requests
        of some each, and a request is kept whole or not at all. To send one twice changes nothing: of a text the last
        correction counts.

        Args:
            corrections: one, or many
            model: name of the model, instead of the client's
            timeout: seconds, instead of the client's

        Raises:
            RequestRefused: a label is none of the model's, or nothing is taken.
        """
        deadline = self._settings.deadline(timeout)
        path = feedback.path(model, self._settings.addresses[0])

        def keep(body: bytes) -> int:
            return cast(FeedbackTransport, self._here().transport).feedback(body, path, deadline.left())

        return sum([self._repeated(partial(keep, body), deadline) for body in feedback.bodies(corrections)])

    @property
    def jobs(self) -> Jobs:
        """The files that the gateway answers in its own time.

        Raises:
            RequestRefused: the address is no gateway.
        """
        job.check(self._settings.addresses)
        return Jobs(self._send_job, self._settings.deadline)

    def _send_job(self, request: JobRequest) -> Reply:
        deadline = self._settings.deadline(None)

        def send() -> Reply:
            return cast(Sender, self._here().transport).send(request, deadline.left())

        return send() if isinstance(request.body, Iterator) else self._repeated(send, deadline)

    def _repeated(self, call: Callable[[], _Answer], deadline: Deadline) -> _Answer:
        """Return what a call gives, which is made again after a failure that may pass."""
        retries = Retries(self._settings.retries, deadline)
        while True:
            try:
                return call()
            except NewsdeskError as error:
                time.sleep(retries.pause(error))

    def _in_order(
        self, texts: Iterable[Text | Article], options: Options, deadline: Callable[[], Deadline]
    ) -> Iterator[Item]:
        """Answer chunk by chunk, `concurrency` at a time; a list that is one chunk without a thread of its own."""
        chunks = cut(texts, self._describe(options.model, deadline()).max_batch)
        start = list(islice(chunks, 2))
        if len(start) == 1:
            yield from self._answer(start[0], options, deadline)
            return
        executor = self._here().executor
        flying: deque[Future[list[Item]]] = deque()
        try:
            for chunk in chain(start, chunks):
                if len(flying) >= self._settings.concurrency:
                    yield from flying.popleft().result()
                flying.append(executor.submit(copy_context().run, self._answer, chunk, options, deadline))
            while flying:
                yield from flying.popleft().result()
        finally:
            for future in flying:
                future.cancel()

    def _send(self, texts: Sequence[Text], options: Options, deadline: Deadline) -> list[Item]:
        """Answer few texts, in the calling thread."""
        items: list[Item] = []
        for chunk in cut(texts, self._most_texts(options.model)):
            items += self._answer(chunk, options, lambda: deadline)
        return items

    def _most_texts(self, name: str) -> int:
        model = self._models.get(name or self._settings.model)
        return model.max_batch if model else 1

    def _most_together(self) -> int:
        return max((model.max_batch for model in list(self._models.values())), default=1)

    def _answer(self, chunk: Chunk, options: Options, deadline: Callable[[], Deadline]) -> list[Item]:
        end = deadline()
        retries = Retries(self._settings.retries, end)
        while waiting := chunk.waiting:
            model = self._describe(options.model, end)
            transport = self._here().transport
            try:
                chunk.accept(transport.infer(waiting, model, options, end.left()), model, options)
            except NewsdeskError as error:
                if chunk.refuse(error) or chunk.pass_cache(error):
                    continue
                if isinstance(error, BadResponse | RequestRefused):
                    self._models.pop(options.model or self._settings.model, None)  # it may be another one now
                time.sleep(retries.pause(error))
        return chunk.done()

    def _describe(self, name: str, deadline: Deadline) -> ModelFacts:
        name = name or self._settings.model
        retries = Retries(self._settings.retries, deadline)
        while (model := self._models.get(name)) is None:
            try:
                model = self._models[name] = self._here().transport.describe(name, deadline.left())
            except NewsdeskError as error:
                time.sleep(retries.pause(error))
        return model

    def _here(self) -> "_ProcessConnections":
        process = os.getpid()
        if process not in self._by_process:
            executor = ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="newsdesk-client")
            calls = Calls(self._settings.concurrency, self._most_together, self._send, executor)
            here = _ProcessConnections(connect(self._settings.addresses), executor, calls)
            self._by_process.setdefault(process, here)
        return self._by_process[process]


def only(items: list[Item]) -> Prediction:
    """Return the answer to a text that was given alone.

    Raises:
        TextRefused: that is the answer.
    """
    (item,) = items
    if isinstance(item, TextRefused):
        raise item
    return item
