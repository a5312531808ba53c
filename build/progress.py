"""Say what a build does, on stderr, so that stdout stays for what was asked for."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    console.print(line, markup=False)


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Yield the items under a progress bar; without a terminal nothing is drawn."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=total, description=title)
