"""The reference: how the answers to rows that a model did not learn from are spread. Live answers are held against it.

Histograms, in bins that are the same for every model: a bin holds the values up to its bound, that included, and the
last one what is above all bounds.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime.arrays import Array

CONFIDENCE = 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99
"""Bounds of the top probability."""
WORDS = 4, 8, 16, 24, 32, 48, 64, 96, 192, 384
"""Bounds of a text's length in words."""
UNKNOWN = 0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8
"""Bounds of the share of a text that the first member has no entry for."""

WINDOW = 4000
"""Answers of a process that are held against the reference, unless serving says otherwise."""
LEAST = 200
"""Answers from which on there is an index: of fewer it says little."""

Counts = Annotated[list[Annotated[int, Meta(ge=0)]], Meta(min_length=2)]


class Spread(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The answers of a quality: how many rows got each label, and how many a top probability of each bin."""

    labels: Counts
    confidence: Counts


class Reference(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rows that no member was fitted on, and the answers to them."""

    words: Counts
    """Rows by their length in words."""
    unknown: Counts
    """Rows by their share of unknown words or subwords (see `MemberOutput.unknown`)."""
    fast: Spread
    balanced: Spread
    best: Spread

    def __post_init__(self) -> None:
        rows = sum(self.words)
        expected: list[tuple[str, list[int], int]] = [
            ("words", self.words, len(WORDS) + 1),
            ("unknown", self.unknown, len(UNKNOWN) + 1),
        ]
        labels = len(self.best.labels)
        for quality in QUALITIES:
            spread: Spread = getattr(self, quality)
            expected += [
                (f"{quality}.labels", spread.labels, labels),
                (f"{quality}.confidence", spread.confidence, len(CONFIDENCE) + 1),
            ]
        for name, counts, bins in expected:
            if (len(counts), sum(counts)) != (bins, rows or None):
                counted = f"{sum(counts)} rows in {len(counts)} bins"
                raise ValueError(f"reference: {name} counts {counted}, expected {rows or 'some'} in {bins}")

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(self.words)


def bins(values: Array, bounds: Sequence[float]) -> Array:
    """Return the bin of each value.

    Args:
        values: FP or INT [n]
        bounds: rising; a bin holds the values up to its bound, that included

    Returns:
        INT64 [n], 0 to len(bounds).
    """
    return np.searchsorted(bounds, values, side="left")


def measure(answers: Mapping[str, Array], words: Array, unknown: Array) -> Reference:
    """Return the reference of n rows.

    Args:
        answers: by quality, probabilities FP [n, labels]
        words: of each row, INT [n]
        unknown: the share of each row that is unknown, FP [n]
    """
    spreads = {
        quality: Spread(
            labels=np.bincount(answers[quality].argmax(-1), minlength=answers[quality].shape[-1]).tolist(),
            confidence=_counts(answers[quality].max(-1), CONFIDENCE),
        )
        for quality in QUALITIES
    }
    return Reference(words=_counts(words, WORDS), unknown=_counts(unknown, UNKNOWN), **spreads)


def _counts(values: Array, bounds: Sequence[float]) -> list[int]:
    counts: list[int] = np.bincount(bins(values, bounds), minlength=len(bounds) + 1).tolist()
    return counts
