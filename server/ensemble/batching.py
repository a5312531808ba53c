"""Plan batches by length: padding is the largest waste, and every new shape costs a compilation.

On a CPU a batch of 8 is nearly as good as any. Engines compile kernels per shape, so groups have few sizes and lengths
are rounded up: about a hundred shapes cover the news, and are compiled once.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

SIZES = (8, 4, 2, 1)
"""Texts a group may hold."""
STEP = 4
"""Tokens; a group's length is a multiple of it (or the member's maximum)."""
SLACK = 1.05
"""Computed tokens over real tokens that a group of several texts may reach, but for one step."""


def plan(lengths: list[int], most: int) -> list[list[int]]:
    """Part the texts into groups of like length; `most` is the member's maximum length.

    Returns indices into `lengths`; every one stands in exactly one group.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    groups, at = [], 0
    while at < len(order):
        width = _round(lengths[order[at]], most)
        for size in SIZES:
            group = order[at : at + size]
            if size == 1 or (len(group) == size and width * size < SLACK * sum(lengths[i] for i in group) + STEP):
                break
        groups.append(group)
        at += size
    return groups


def pad(
    ids: list[list[int]], groups: list[list[int]], pad_id: int, most: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each group's ids and mask, INT64 [group, length of the longest, rounded up]."""
    for group in groups:
        shape = len(group), _round(max(len(ids[i]) for i in group), most)
        padded, mask = np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64)
        for row, i in enumerate(group):
            padded[row, : len(ids[i])] = ids[i]
            mask[row, : len(ids[i])] = 1
        yield padded, mask


def shapes(shortest: int, longest: int) -> list[tuple[int, int]]:
    """Return the shapes that texts of those lengths come to: what is worth compiling before the first request."""
    return list(product(SIZES, range(_round(shortest, longest), longest + 1, STEP)))


def _round(length: int, most: int) -> int:
    return min(-(-length // STEP) * STEP, most)
