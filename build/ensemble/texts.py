"""Facts of the rows that the ensemble is fitted on, beside their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    """

    lengths: Array | None = None
    groups: Array | None = None
    slices: Array | None = None

    def part(self, rows: Array) -> Texts:
        """Return what is known of some rows: their numbers, or a mask."""
        return Texts(*(None if known is None else known[rows] for known in (self.lengths, self.groups, self.slices)))

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
