"""Say what a build does, on stderr, so that stdout stays for what was asked for."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")

console = Console(stderr=True, highlight=False, soft_wrap=True)
_shown: list[Progress] = []
"""The bars on the screen: those of a stage stand below that of the build."""


def say(line: str) -> None:
    """Write a line to stderr."""
    console.print(line, markup=False)


class _Left(TimeRemainingColumn):
    """The time that is left: as the task says it by itself, where it does."""

    def render(self, task: Task) -> Text:
        left: Callable[[], str] | None = task.fields.get("left")
        return Text(left(), style="progress.remaining") if left else super().render(task)


@contextlib.contextmanager
def bars() -> Iterator[Progress]:
    """Show bars on a terminal; without one nothing is drawn. Inside of other bars, theirs are joined."""
    if _shown:
        yield _shown[-1]
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Left()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        _shown.append(progress)
        try:
            yield progress
        finally:
            _shown.pop()


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Yield the items under a progress bar; without a terminal nothing is drawn."""
    with bars() as progress:
        length = len(items) if isinstance(items, Sized) else None
        task = progress.add_task(title, total=length if total is None else total)
        try:
            for item in items:
                yield item
                progress.advance(task)
        finally:
            progress.remove_task(task)
