"""Batches for a GPU: few shapes, each compiled and captured once, and texts padded up to them.

A GPU is idle at small batches and pays for a launch, not for a token: what is padded away costs less than a new shape.
"""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from newsdesk.server.runtime import batching
from newsdesk.server.runtime.arrays import Array

OVERHEAD = 2048
"""The cost of a launch beside its tokens, in tokens: an estimate, not measured yet."""


class Grid:
    """The shapes of an engine: `batches` (texts) × `lengths` (tokens), both ascending."""

    def __init__(self, batches: Sequence[int], lengths: Sequence[int]) -> None:
        self.batches, self.lengths = sorted(set(batches)), sorted(set(lengths))

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """All shapes, texts × tokens."""
        return [(batch, length) for batch in self.batches for length in self.lengths]

    def fit(self, count: int, length: int) -> tuple[int, int]:
        """Return the least shape that holds `count` texts of `length` tokens.

        Raises:
            ValueError: the group is beyond the last shape.
        """
        if count > self.batches[-1] or length > self.lengths[-1]:
            raise ValueError(
                f"{count} texts of {length} tokens, expected at most {self.batches[-1]} of {self.lengths[-1]}"
            )
        return (
            self.batches[bisect_left(self.batches, count)],
            self.lengths[bisect_left(self.lengths, length)],
        )

    def group(self, lengths: Sequence[int]) -> list[list[int]]:
        """Part texts into groups: a launch costs OVERHEAD and its shape's tokens, padding included."""
        return batching.partition(lengths, lambda length: self.fit(1, length)[1], self.batches, OVERHEAD, fill=True)

    def width(self, length: int) -> int:
        """Return `length`: the engine itself pads to a shape of the grid."""
        return length

    def computed(self, count: int, length: int) -> int:
        """Return the tokens of the shape that a group comes to."""
        batch, width = self.fit(count, length)
        return batch * width

    def warm(self, shortest: int, longest: int) -> list[tuple[int, int]]:
        """Return every shape, whatever the lengths."""
        return self.shapes

    def pad(self, ids: Array, mask: Array) -> tuple[Array, Array]:
        """Pad a group with rows and columns of zeros up to a shape of the grid.

        Args:
            ids: INT64 [texts, length]
            mask: INT64 [texts, length]

        Returns:
            Both, INT64 [batch, length] of the shape.
        """
        batch, length = self.fit(*ids.shape)
        beyond = (0, batch - ids.shape[0]), (0, length - ids.shape[1])
        return np.pad(ids, beyond), np.pad(mask, beyond)


ANY = Grid((1, 8, 32, 128), (16, 32, 48, 64, 96, 128, 192, 256, 384, 512))
"""For engines that say nothing of their shapes."""
