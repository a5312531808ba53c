"""The answers to the texts of a file, a line of JSON for each row, a few rows at a time."""

import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import NamedTuple

import msgspec
from starlette.concurrency import run_in_threadpool

from newsdesk.clients import TextRefused
from newsdesk.clients.rows import RowRefusal
from newsdesk.server.gateway.logs import log, request_id
from newsdesk.server.gateway.plane import CallOptions, Plane
from newsdesk.server.gateway.problems import Problem
from newsdesk.server.gateway.questions import Item, Text
from newsdesk.server.gateway.schemas import shown
from newsdesk.server.gateway.uploads import UploadedRow


class AnswerLines(NamedTuple):
    """Consecutive lines of an answer: their bytes, how many they are, and how many of them are refusals."""

    data: bytes
    texts: int
    refused: int


async def answer(
    plane: Plane, read: Iterator[list[UploadedRow]], asked: CallOptions, index: int = 0
) -> AsyncGenerator[AnswerLines]:
    """Yield the lines of each batch that is read.

    Args:
        plane: of the model that is asked
        read: yields the batches
        asked: of each text
        index: of the first text

    Raises:
        NewsdeskError: the model could not be asked.
        Problem: the reading ended with it; all that comes before is answered first.
    """
    taken: deque[list[UploadedRow]] = deque()
    failed: list[Problem] = []
    async with aclosing(plane.stream(_read(read, taken, failed), asked)) as answers:
        async for answered in answers:
            batch = taken.popleft()
            items = _placed(batch, answered, index)
            index += len(items)
            refused = sum(isinstance(item, TextRefused) for item in items)
            yield AnswerLines(b"".join(map(_line, items, batch)), len(items), refused)
    if failed:
        raise failed[0]


async def following(read: Iterator[list[UploadedRow]]) -> list[UploadedRow]:
    """Return the next batch, an empty one behind the last."""
    return await run_in_threadpool(lambda: next(read, []))


def unexpected(error: Exception) -> Problem:
    """Log an error that nobody thought of, and return what a caller is told of it."""
    log("error", logging.ERROR, exc_info=error, request_id=request_id.get())
    return Problem("An unexpected error. The server's log has more under this request_id.")


async def _read(
    read: Iterator[list[UploadedRow]], taken: deque[list[UploadedRow]], failed: list[Problem]
) -> AsyncIterator[list[Text]]:
    """Yield the texts of the batches, which are `taken`.

    An error that ends the reading is kept for when all that comes before it is answered.
    """
    try:
        while batch := await following(read):
            taken.append(batch)
            yield [text for _, text in batch if not isinstance(text, RowRefusal)]
    except Problem as problem:
        failed.append(problem)
    except Exception as error:
        failed.append(unexpected(error))


def _placed(batch: list[UploadedRow], answered: list[Item], index: int) -> list[Item]:
    """Return the items of a batch, from `index`: the answers, and the rows that were refused, in their places."""
    answers = iter(answered)
    items: list[Item] = []
    for place, (_, text) in enumerate(batch, index):
        item = TextRefused(place, text.reason) if isinstance(text, RowRefusal) else next(answers)
        items.append(TextRefused(place, item.reason) if isinstance(item, TextRefused) else replace(item, index=place))
    return items


def _line(item: Item, row: UploadedRow) -> bytes:
    """Return a line of the answer, with the line of the file that its row begins in, where it has lines."""
    return msgspec.json.encode(shown(item) | ({"line": row.line} if row.line else {})) + b"\n"
