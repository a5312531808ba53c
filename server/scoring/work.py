"""Answer the chunks by processes of this machine, or by the tasks of a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from newsdesk.server.scoring.answers import ScoredTexts, Text

Key = TypeVar("Key")
Texts = Sequence[Text | None]
AHEAD = 2
"""Chunks for each worker that are read before their turn, so that none waits for the reader."""


class Workers(Protocol):
    """The workers of a job. `count` of them answer at once."""

    count: int

    def answers(self, questions: Iterator[tuple[Key, Texts]]) -> Iterator[tuple[Key, ScoredTexts]]:
        """Yield the answers to the texts of each key, as they are there; no more is read than is needed for that.

        Raises:
            ScoreError: nobody can go on.
        """


def ask(
    questions: Iterator[tuple[Key, Texts]],
    most: int,
    submit: Callable[[Texts], Any],
    first: Callable[[list[Any]], Any],
    result: Callable[[Any], ScoredTexts],
) -> Iterator[tuple[Key, ScoredTexts]]:
    """Yield the answers to questions, `most` of which are under way at once.

    Args:
        questions: keys and their texts
        most: that are handed out before the first is waited for
        submit: hands out texts; returns what stands for their answers, to be hashed
        first: waits for one of several of those, and returns it
        result: returns the answers that one stands for
    """
    waiting: dict[Any, Key] = {}
    for key, texts in questions:
        waiting[submit(texts)] = key
        if len(waiting) >= most:
            done = first(list(waiting))
            yield waiting.pop(done), result(done)
    while waiting:
        done = first(list(waiting))
        yield waiting.pop(done), result(done)
