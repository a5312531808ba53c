"""The lengths of clean texts, in words, and the buckets that they fall into."""

from itertools import pairwise
from typing import Annotated

import numpy as np
from msgspec import Meta

from newsdesk.server.runtime.arrays import Array

Bounds = Annotated[list[Annotated[int, Meta(ge=1)]], Meta(min_length=1)]
"""Rising numbers of words: the first bucket holds the texts shorter than the first of them, the last those that have
as many as the last, or more."""


def words(texts: list[str]) -> Array:
    """Return how many words clean texts have, INT64 [n]; words stand one space apart."""
    return np.fromiter((text.count(" ") + 1 for text in texts), np.int64, len(texts))


def buckets(lengths: Array | None, bounds: list[int]) -> Array:
    """Return the bucket of each length, INT64 [n], from 0.

    Args:
        lengths: words, INT [n]
        bounds: rising

    Raises:
        ValueError: no lengths are given.
    """
    if lengths is None:
        raise ValueError("what goes by length was given no lengths, expected the words of each text")
    return np.searchsorted(bounds, lengths, side="right")


def check(bounds: list[int]) -> None:
    """Check that the bounds rise.

    Raises:
        ValueError: they do not.
    """
    if any(low >= high for low, high in pairwise(bounds)):
        raise ValueError(f"bounds {bounds}, expected rising numbers of words")
