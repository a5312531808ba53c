"""Jobs of a gateway: files of texts that it answers behind everybody else, while nobody is connected."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

from newsdesk.clients.chunk import Item
from newsdesk.clients.deadline import Deadline
from newsdesk.clients.job import ROUTE, Job, JobRequest, Reply, Result, Source, Watch, of, read, read_all, submission
from newsdesk.clients.options import Options
from newsdesk.clients.rows import Form
from newsdesk.server.contract import Quality


class Jobs:
    """The caller's jobs at a gateway. A job is given as itself, or by its id.

    Each call may take the client's `timeout`, retries included.

    Raises:
        NewsdeskError: by any call, where there is no answer.
    """

    def __init__(self, send: Callable[[JobRequest], Reply], deadline: Callable[[float | None], Deadline]) -> None:
        self._send, self._deadline = send, deadline

    def submit(
        self,
        source: Source,
        *,
        columns: Sequence[str] = (),
        delimiter: str = "",
        form: Form | str | None = None,
        top_k: int | None = None,
        quality: Quality | None = None,
        members: bool = False,
        uncertainty: bool = False,
        model: str = "",
    ) -> Job:
        """Have the texts of a file, or rows, be answered, and return at once with the job.

        It is sent once: where the connection breaks, `all` says whether it was taken.

        Args:
            source: the path of a .csv, .tsv, .jsonl, .ndjson or .parquet file, plain or .gz; an open one; or rows
            columns: of the text, joined by a space; without, `text`
            delimiter: of a CSV's cells, a character or its name; empty: recognised
            form: csv, jsonl or parquet, where no name says it
            top_k: as of `Client.classify`, and so are the next four
            quality: of all texts
            members: as of `Client.classify`
            uncertainty: as of `Client.classify`
            model: as of `Client.classify`

        Raises:
            ValueError: the file is of another form.
            OSError: the file cannot be opened.
        """
        options = Options(top_k, quality, members, uncertainty, model=model)
        return read(self._send(submission(source, columns, delimiter, form, options))[0])

    def all(self) -> list[Job]:
        """Return the caller's jobs, the oldest first."""
        return read_all(self._send(JobRequest("GET", ROUTE))[0])

    def get(self, job: Job | str) -> Job:
        """Return how far a job is."""
        return read(self._send(of(job))[0])

    def watch(self, job: Job | str, *, timeout: float | None = None) -> Iterator[Job]:
        """Yield a job each time that it has come on, until it is over.

        Args:
            job: that is watched
            timeout: seconds; None: for as long as it takes

        Raises:
            DeadlineExceeded: it is not over then.
        """
        watch = Watch(None if timeout is None else self._deadline(timeout))
        while True:
            if watch.news(now := self.get(job)):
                yield now
            if now.over:
                return
            time.sleep(watch.pause())

    def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Return a job once it is over: done, or failed.

        Args:
            job: that is watched
            timeout: seconds; None: for as long as it takes

        Raises:
            DeadlineExceeded: it is not over then.
        """
        *_, last = self.watch(job, timeout=timeout)
        return last

    def result(self, job: Job | str) -> Iterator[Item]:
        """Yield the answers of a job that is done, in the rows' order and in constant memory.

        A gateway that is started again meanwhile loses none.

        Raises:
            RequestRefused: the job is not done.
        """
        result = Result(self.get(job))
        while request := result.request:
            yield from result.take(self._send(request))

    def cancel(self, job: Job | str) -> Job:
        """End a job, and have its file and its result removed."""
        return read(self._send(of(job, "DELETE"))[0])


class AsyncJobs:
    """`Jobs` for asyncio."""

    def __init__(
        self, send: Callable[[JobRequest], Awaitable[Reply]], deadline: Callable[[float | None], Deadline]
    ) -> None:
        self._send, self._deadline = send, deadline

    async def submit(
        self,
        source: Source,
        *,
        columns: Sequence[str] = (),
        delimiter: str = "",
        form: Form | str | None = None,
        top_k: int | None = None,
        quality: Quality | None = None,
        members: bool = False,
        uncertainty: bool = False,
        model: str = "",
    ) -> Job:
        """As `Jobs.submit`."""
        options = Options(top_k, quality, members, uncertainty, model=model)
        return read((await self._send(submission(source, columns, delimiter, form, options)))[0])

    async def all(self) -> list[Job]:
        """As `Jobs.all`."""
        return read_all((await self._send(JobRequest("GET", ROUTE)))[0])

    async def get(self, job: Job | str) -> Job:
        """As `Jobs.get`."""
        return read((await self._send(of(job)))[0])

    async def watch(self, job: Job | str, *, timeout: float | None = None) -> AsyncIterator[Job]:
        """As `Jobs.watch`."""
        watch = Watch(None if timeout is None else self._deadline(timeout))
        while True:
            if watch.news(now := await self.get(job)):
                yield now
            if now.over:
                return
            await asyncio.sleep(watch.pause())

    async def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """As `Jobs.wait`."""
        return [now async for now in self.watch(job, timeout=timeout)][-1]

    async def result(self, job: Job | str) -> AsyncIterator[Item]:
        """As `Jobs.result`."""
        result = Result(await self.get(job))
        while request := result.request:
            for item in result.take(await self._send(request)):
                yield item

    async def cancel(self, job: Job | str) -> Job:
        """As `Jobs.cancel`."""
        return read((await self._send(of(job, "DELETE")))[0])
