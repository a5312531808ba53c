"""The words that mattered, by occlusion: the change of the answered label's probability without them.

The method of Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4.2, with words
for patches, left out instead of greyed, as Li, Monroe and Jurafsky did in "Understanding Neural Networks through
Representation Erasure" (2016).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from newsdesk.clients import Prediction, TextRefused

MOST_SPANS = 64
"""Spans of one text. If it has more words, as many neighbours as needed share a span."""
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class WordEffect:
    """A span of a text, and its effect.

    text         the word, or neighbouring words of a long text
    start, end   where it stands, in characters (Unicode code points)
    drop         what the answered label's probability loses when the span is left out; negative where it gains
    """

    text: str
    start: int
    end: int
    drop: float


@dataclass(frozen=True, slots=True)
class Explained(Prediction):
    """A prediction with the words of its text, in their order."""

    words: tuple[WordEffect, ...] = ()


def spans(text: str) -> list[tuple[int, int]]:
    """Return where each span stands, at most MOST_SPANS. None where there is one word: without it, nothing is left."""
    words = [match.span() for match in _WORD.finditer(text)]
    if len(words) < 2:
        return []
    size = math.ceil(len(words) / MOST_SPANS)
    groups = [words[at : at + size] for at in range(0, len(words), size)]
    return [(group[0][0], group[-1][1]) for group in groups]


def without(text: str, span: tuple[int, int]) -> str:
    """Return a text without a span of it."""
    return text[: span[0]] + text[span[1] :]


def explained(
    text: str, prediction: Prediction, places: Sequence[tuple[int, int]], items: Sequence[Prediction | TextRefused]
) -> Explained:
    """Return the prediction with its words.

    A span without which the text is refused (nothing visible is left) is not among the words.

    Args:
        text: as it was given
        prediction: its answer, with all labels
        places: its spans
        items: answers to the text without each of `places`, with all labels
    """
    whole = prediction.probability
    words = tuple(
        WordEffect(text[start:end], start, end, round(whole - item.probabilities[prediction.label], 6))
        for (start, end), item in zip(places, items, strict=True)
        if isinstance(item, Prediction)
    )
    held: dict[str, Any] = {field.name: getattr(prediction, field.name) for field in fields(prediction)}
    return Explained(**held, words=words)
