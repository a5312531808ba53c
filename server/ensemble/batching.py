"""Plan batches by length: padding is the largest waste, and on a CPU a batch of 8 is nearly as good as any."""

from collections.abc import Iterator

import numpy as np

GROUP = 8
SLACK = 1.05
"""Computed tokens over real tokens that a group may reach."""


def plan(lengths: list[int], group: int = GROUP, slack: float = SLACK) -> list[list[int]]:
    """Part the texts into groups of at most `group`, of like length, each padded to its longest.

    Returns indices into `lengths`; every one stands in exactly one group.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    groups: list[list[int]] = []
    longest = real = 0
    for i in order:
        current = groups[-1] if groups else []
        if current and len(current) < group and longest * (len(current) + 1) <= slack * (real + lengths[i]):
            current.append(i)
            real += lengths[i]
        else:
            groups.append([i])
            longest = real = lengths[i]
    return groups


def pad(ids: list[list[int]], groups: list[list[int]], pad_id: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each group's ids and mask, INT64 [group, longest of the group]."""
    for group in groups:
        shape = len(group), max(len(ids[i]) for i in group)
        padded, mask = np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64)
        for row, i in enumerate(group):
            padded[row, : len(ids[i])] = ids[i]
            mask[row, : len(ids[i])] = 1
        yield padded, mask
