"""Answer the jobs, one at a time: from where the last that is surely written ends, whatever ended it."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import aclosing
from typing import BinaryIO

from msgspec.structs import replace
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from newsdesk.clients import NewsdeskError
from newsdesk.server.contract import MAX_BATCH
from newsdesk.server.gateway import admission, lines, problems
from newsdesk.server.gateway.auth import Authenticator
from newsdesk.server.gateway.jobs.record import Folder, Record
from newsdesk.server.gateway.jobs.store import Store, problem_of, remove_quietly
from newsdesk.server.gateway.logs import log, request_id
from newsdesk.server.gateway.models import Models
from newsdesk.server.gateway.problems import Forbidden
from newsdesk.server.gateway.uploads import FileForm, UploadedRow, batches
from newsdesk.server.runtime.errors import ServerError

_KEPT_ROWS = 1024
"""Rows after which what is written is made sure of."""
_LOOK_SECONDS = 1.0
_MOST_ATTEMPTS = 12
_LONGEST_PAUSE = 30.0
_COME_BACK = {429: _MOST_ATTEMPTS, 503: _MOST_ATTEMPTS, 504: _MOST_ATTEMPTS, 500: 3}
"""Statuses of problems that may be over in a while, and the attempts without a further row until a job has failed."""


class Runner:
    """The runner of a store's jobs, for one event loop."""

    def __init__(self, store: Store, models: Models, gate: Authenticator) -> None:
        self._store, self._models, self._gate = store, models, gate
        self._news = asyncio.Event()
        self._current: tuple[str, asyncio.Task[None]] | None = None

    async def run(self) -> None:
        """Answer jobs for ever, once no other gateway has them."""
        while not await run_in_threadpool(self._store.open):
            await asyncio.sleep(_LOOK_SECONDS)
        while True:
            self._store.remove_old()
            if record := self._store.next():
                self._current = record.id, asyncio.create_task(self._work(record))
                try:
                    await asyncio.wait([self._current[1]])
                finally:
                    self._current[1].cancel()
                    await asyncio.gather(self._current[1], return_exceptions=True)
                    self._current = None
                continue
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _LONGEST_PAUSE)

    def notice(self) -> None:
        """Begin with a job that has just come, where none is under way."""
        self._news.set()

    async def cancel(self, id: str) -> None:
        """End a job, and remove it."""
        self._store.forget_job(id)
        if self._current and self._current[0] == id:
            task = self._current[1]
            task.cancel()
            await asyncio.wait([task])
        await run_in_threadpool(self._store.folder(id).remove)

    async def _work(self, record: Record) -> None:
        """Answer a job, trying again what may be over in a while."""
        admission.caller.set(record.caller)
        admission.behind.set(True)
        request_id.set(record.id)
        folder, attempts = self._store.folder(record.id), 0
        log("job", job=record.id, state="running", rows=record.rows, caller=record.caller)
        while not record.ended:
            before = record.rows
            try:
                await self._answer(record, folder)
                record.state, record.ended = "done", time.time()
            except Exception as error:  # a job must end, whatever is wrong with it
                problem = _problem(error)
                attempts = attempts + 1 if record.rows == before else 1
                record.problem = problems.describe(problem, record.id)
                if attempts >= _COME_BACK.get(problem.status_code, 1):
                    record.state, record.ended = "failed", time.time()
                else:
                    record.state = "waiting"
                    await asyncio.sleep(min(2.0 ** (attempts - 1), _LONGEST_PAUSE))
        with contextlib.suppress(OSError):  # a full disk; read again, it is answered again from where it was
            await run_in_threadpool(folder.write, record)
        await run_in_threadpool(remove_quietly, folder.input)
        log("job", job=record.id, state=record.state, rows=record.rows, refused=record.refused, caller=record.caller)

    async def _answer(self, record: Record, folder: Folder) -> None:
        record.state = "running"
        plane = self._models.of(record.model).plane
        if record.total is None:
            record.total = await self._count(record, folder)
        with contextlib.ExitStack() as stack:
            read = _read(record, stack.enter_context(folder.input.open("rb")))
            await _skip(read, record.rows)
            result = stack.enter_context(await run_in_threadpool(folder.open_result, record.size))
            rows, refused = record.rows, record.refused
            async with aclosing(lines.answer(plane, read, record.asked, record.rows)) as answers:
                async for answered in answers:
                    await run_in_threadpool(result.write, answered.data)
                    rows, refused = rows + answered.texts, refused + answered.refused
                    if rows - record.rows >= _KEPT_ROWS:
                        await self._keep(record, folder, result, rows, refused)
            await self._keep(record, folder, result, rows, refused)
        record.problem = None

    async def _keep(self, record: Record, folder: Folder, result: BinaryIO, rows: int, refused: int) -> None:
        """Make sure of what is written. Raises Full, and Forbidden where the caller may no longer be here."""

        def sync() -> int:
            result.flush()
            os.fsync(result.fileno())
            self._store.check_room(0)
            return result.tell()

        self._check_caller(record)
        kept = replace(record, size=await run_in_threadpool(sync), rows=rows, refused=refused)
        await run_in_threadpool(folder.write, kept)
        # Shown only now: a caller who was told of rows finds them behind a gateway that is killed.
        record.size, record.rows, record.refused = kept.size, rows, refused

    def _check_caller(self, record: Record) -> None:
        kind, _, id = record.caller.partition(":")
        if kind != "key":
            return
        key = self._gate.keys.keys().get(id)
        if key is None or key.state(time.time()) != "valid":
            raise Forbidden("The key that the job was sent with is no longer valid.")

    async def _count(self, record: Record, folder: Folder) -> int:
        count = 0
        with folder.input.open("rb") as file:
            read = _read(record, file)
            while batch := await lines.following(read):
                count += len(batch)
        return count


def _read(record: Record, file: BinaryIO) -> Iterator[list[UploadedRow]]:
    return batches(file, FileForm(record.form), record.columns, record.delimiter, MAX_BATCH)


async def _skip(read: Iterator[list[UploadedRow]], rows: int) -> None:
    """Pass over rows, which end with a batch: a file falls into the same batches each time."""
    while rows > 0:
        rows -= len(await lines.following(read))


def _problem(error: Exception) -> HTTPException:
    """Return what the caller is told of what ended an attempt."""
    if isinstance(error, OSError):
        log("job", logging.ERROR, exc_info=error)
        return problem_of(error)
    if isinstance(error, NewsdeskError | HTTPException | ServerError):
        return problems.explained(error)[0]
    return lines.unexpected(error)
