"""Facts of the rows that the ensemble is fitted on, beside their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from newsdesk.build.errors import DataError
from newsdesk.server.runtime.arrays import Array

BOUNDS = 6, 12, 24, 48, 96, 192
"""Words at which a bucket of lengths may end: a few words, a headline, a sentence, an opening, an article."""
LEAST = 300
"""Rows of a bucket; fewer join their neighbours."""
SLICE_ROWS = 300
"""Rows of a slice that is judged by itself."""


@dataclass(frozen=True)
class Texts:
    """The texts of n rows, as far as they are known.

    Attributes:
        lengths: words, INT [n]
        groups: INT [n], of rows that come of one source row and stay together when rows are parted
        slices: the kind of text, STR [n]
        weights: how much a row counts, FP [n], 1 in the mean; None: all alike
    """

    lengths: Array | None = None
    groups: Array | None = None
    slices: Array | None = None
    weights: Array | None = None

    def part(self, rows: Array) -> Texts:
        """Return what is known of some rows: their numbers, or a mask."""
        every = self.lengths, self.groups, self.slices, self.weights
        return Texts(*(None if known is None else known[rows] for known in every))

    @property
    def known(self) -> dict[str, Array]:
        """The facts that are known, by name."""
        of_rows = {"lengths": self.lengths, "groups": self.groups, "slices": self.slices}
        return {name: known for name, known in of_rows.items() if known is not None}

    @property
    def bounds(self) -> list[int]:
        """The ends of the buckets of lengths; none where lengths are unknown or all rows fit in one bucket."""
        return [] if self.lengths is None else bounds(self.lengths)

    @property
    def judged(self) -> dict[str, Array]:
        """The rows of each slice that has enough of them, by its name."""
        if self.slices is None:
            return {}
        rows = {str(name): np.flatnonzero(self.slices == name) for name in dict.fromkeys(self.slices.tolist())}
        return {name: of_slice for name, of_slice in rows.items() if len(of_slice) >= SLICE_ROWS}


def bounds(lengths: Array) -> list[int]:
    """Return those of BOUNDS that leave LEAST rows or more in every bucket of lengths INT [n]."""
    kept: list[int] = []
    before = 0
    for bound in BOUNDS:
        below = int((lengths < bound).sum())
        if below - before >= LEAST and len(lengths) - below >= LEAST:
            kept.append(bound)
            before = below
    return kept


def check(members: list[str], probabilities: Array, labels: Array, costs: list[float], texts: Texts) -> None:
    """Refuse what no ensemble can be fitted on.

    Args:
        members: their names
        probabilities: of each member, FP [members, n, labels]
        labels: INT [n]
        costs: of each member
        texts: of the n rows

    Raises:
        DataError: sizes do not match, or a value cannot be.
    """
    count, rows = len(members), len(labels)
    if probabilities.ndim != 3 or probabilities.shape[:2] != (count, rows) or len(costs) != count or not rows:
        raise DataError(
            f"probabilities {probabilities.shape}, {count} members, {len(costs)} costs and {rows} labels, expected "
            "[members, rows, labels], and one row at least"
        )
    for what, known in texts.known.items():
        if len(known) != rows:
            raise DataError(f"{len(known)} {what} and {rows} labels, expected as many")
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all()):
        wrong = ~(np.isfinite(probabilities) & (probabilities >= 0)).all((1, 2))
        raise DataError(f"member {members[int(wrong.argmax())]}: a probability is not finite or below 0; rebuild it")
    if not (np.isfinite(costs).all() and min(costs) > 0):
        raise DataError(f"costs {costs}, expected each above 0")
    if labels.min() < 0 or labels.max() >= probabilities.shape[2]:
        raise DataError(f"labels from {labels.min()} to {labels.max()}, expected 0 to {probabilities.shape[2] - 1}")
