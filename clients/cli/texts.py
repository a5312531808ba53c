"""The texts that a command is given: files and standard input, refused rows among them, and their answers in order."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from newsdesk.clients.articles import Text
from newsdesk.clients.chunk import Item
from newsdesk.clients.cli.options import ReaderOptions
from newsdesk.clients.client import Client
from newsdesk.clients.errors import TextRefused
from newsdesk.clients.options import AnswerOptions
from newsdesk.clients.rows import Reader, RowRefusal, RowsError

FIRST_RETRIES = 5
"""A user who mistyped the address learns it within seconds, and a long file still outlasts a restart."""
_MOST_REFUSED = 1000
"""Refused rows that are kept until the texts before them are answered."""

T = TypeVar("T")


class AnswersInOrder:
    """The answers to texts, in their order, with those rows that are refused before they are sent in their places.

    What ends the reading of the texts is raised when all that came before it is answered.
    """

    def __init__(self, client: Client, texts: Iterable[Text | RowRefusal], options: AnswerOptions) -> None:
        self._client, self._texts, self._options = client, iter(texts), options
        self._sent: deque[Text | RowRefusal] = deque()
        self._refused = 0
        self._ended = False
        self._error: RowsError | OSError | None = None

    def __iter__(self) -> Iterator[tuple[Item, Text]]:
        index = 0
        while not self._ended:
            for item in self._client.stream(self._sending(), **self._options):
                for refused in self._refusals(index):
                    yield refused, b""
                    index += 1
                text = self._sent.popleft()
                moved = TextRefused(index, item.reason) if isinstance(item, TextRefused) else replace(item, index=index)
                yield moved, text if not isinstance(text, RowRefusal) else b""
                index += 1
            for refused in self._refusals(index):
                yield refused, b""
                index += 1
        if self._error:
            raise self._error

    def _sending(self) -> Iterator[Text]:
        while True:
            try:
                text = next(self._texts)
            except StopIteration:
                break
            except (RowsError, OSError) as error:
                self._error = error
                break
            self._sent.append(text)
            if not isinstance(text, RowRefusal):
                yield text
                continue
            self._refused += 1
            if self._refused >= _MOST_REFUSED:
                return
        self._ended = True

    def _refusals(self, index: int) -> Iterator[TextRefused]:
        """Take the refusals that are next in order."""
        while self._sent and isinstance(refusal := self._sent[0], RowRefusal):
            self._sent.popleft()
            self._refused -= 1
            yield TextRefused(index, refusal.reason)
            index += 1


@contextmanager
def opened(file: Path, how: ReaderOptions) -> Iterator[Reader]:
    """Open a file, or standard input for "-".

    Args:
        file: its path
        how: it is read: arguments of `Reader`

    Raises:
        ValueError: standard input is a terminal.
    """
    if str(file) != "-":
        with file.open("rb") as source:
            yield Reader(source, str(file), **how)
    elif sys.stdin.isatty():
        raise ValueError("no texts: give them as arguments, with --file, or on standard input, one a line")
    else:
        yield Reader(sys.stdin.buffer, "-", **how)


@contextmanager
def shown_progress(reader: Reader, rows: Iterator[T]) -> Iterator[Iterator[T]]:
    """Show how far the file is read, when somebody watches standard error. `rows` are what is read of it."""
    if not sys.stderr.isatty():
        yield rows
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TextColumn("{task.fields[texts]} texts, {task.fields[rate]:.0f}/s"),
        TimeRemainingColumn(),
    )
    # Answers on the same terminal are printed above the bar; elsewhere they must not pass through it.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task("", total=reader.size, texts=0, rate=0.0)
        start = time.monotonic()

        def counted() -> Iterator[T]:
            for texts, row in enumerate(rows, 1):
                yield row
                rate = texts / (time.monotonic() - start)
                progress.update(task, completed=reader.position, texts=texts, rate=rate)

        yield counted()
