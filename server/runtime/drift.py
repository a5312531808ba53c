"""Drift: how far the last answers are from the reference, by the population stability index of each histogram.

An answer costs a reference to its batch's arrays. The rest is reckoned for all of them together, every few seconds.
"""

from dataclasses import dataclass

import numpy as np

from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.classifier import BatchAnswers
from newsdesk.server.runtime.reference import CONFIDENCE, LEAST, UNKNOWN, WINDOW, WORDS, Reference, bins
from newsdesk.server.runtime.stability import by_chance, stability_index

HISTOGRAMS = "labels", "confidence", "words", "unknown"


@dataclass(frozen=True)
class Index:
    """A histogram's index, and the one that chance alone stays below in 95 of 100 cases."""

    value: float
    by_chance: float


class Drift:
    """The last answers of a process against the model's reference."""

    def __init__(self, reference: Reference, window: int = WINDOW) -> None:
        """`window` is how many answers are looked back on."""
        self.window, self.rows = window, reference.rows
        spreads = [getattr(reference, quality) for quality in QUALITIES]
        whole = {"words": [reference.words] * len(QUALITIES), "unknown": [reference.unknown] * len(QUALITIES)}
        by_quality = {name: [getattr(spread, name) for spread in spreads] for name in ("labels", "confidence")} | whole
        self._expected = {name: np.array(by_quality[name]) / self.rows for name in HISTOGRAMS}  # FP64 [qualities, bins]
        self._waiting: list[tuple[BatchAnswers, Array, Array | None]] = []
        self._waiting_answers = 0
        self._kept = np.empty((0, 1 + len(HISTOGRAMS)), np.int32)  # quality, and the bin of each histogram

    @property
    def due(self) -> bool:
        """Whether so many answers wait that `take` should be called now."""
        return self._waiting_answers >= self.window

    def add(self, answers: BatchAnswers, quality: Array, among: Array | None = None) -> None:
        """Note a batch.

        Args:
            answers: to n texts
            quality: of each, INT [n] into QUALITIES
            among: those that count, BOOL [n]; None: all
        """
        self._waiting.append((answers, quality, among))
        self._waiting_answers += len(quality)

    def take(self) -> dict[str, Array]:
        """Return counts by bin, INT64 [bins], of the answers since the last time, and move the window on."""
        fresh = [_places(*batch) for batch in self._waiting]
        self._waiting, self._waiting_answers = [], 0
        places = np.concatenate([self._kept[:0], *fresh])
        self._kept = np.concatenate([self._kept, places])[-self.window :]
        return {name: self._count(places, name) for name in HISTOGRAMS}

    def indices(self) -> dict[str, Index]:
        """Return each histogram's index over the window; none while it holds fewer than LEAST answers.

        Answers of several qualities are held against those of the reference in the same shares.
        """
        count = len(self._kept)
        if count < LEAST:
            return {}
        shares = np.bincount(self._kept[:, 0], minlength=len(QUALITIES)) / count
        indices = {}
        for name in HISTOGRAMS:
            expected = shares @ self._expected[name]
            value = stability_index(self._count(self._kept, name) / count, expected)
            indices[name] = Index(value, by_chance(int((expected > 0).sum()), count, self.rows))
        return indices

    def _count(self, places: Array, name: str) -> Array:
        column, size = 1 + HISTOGRAMS.index(name), self._expected[name].shape[-1]
        counted: Array = np.bincount(places[:, column], minlength=size)
        return counted


def _places(answers: BatchAnswers, quality: Array, among: Array | None) -> Array:
    """Return the quality and the bins of answers, INT32 [n, 1 + histograms]; those that are not finite are left out."""
    probabilities = answers.probabilities
    top = probabilities.max(-1)
    columns = (
        quality,
        probabilities.argmax(-1),
        bins(top, CONFIDENCE),
        bins(answers.lengths, WORDS),
        bins(answers.unknown, UNKNOWN),
    )
    places: Array = np.stack(columns, -1).astype(np.int32)
    counted = np.isfinite(top)
    kept: Array = places[counted if among is None else counted & among]
    return kept
