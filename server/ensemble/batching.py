"""Plan batches by length, each kind of member by its own cost.

An encoder's time is in its tokens: padding is the largest waste, and every new shape costs a compilation. On a CPU a
batch of 8 is nearly as good as any. Engines compile kernels per shape, so groups have few sizes and lengths are rounded
up: about a hundred shapes cover the news, and are compiled once (`plan`).

A bag of n-grams looks rows up and adds them: its time is in what a call costs, so groups are large (`bags`).
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

SIZES = (8, 4, 2, 1)
"""Texts a group may hold."""
STEP = 4
"""Tokens; a group's length is a multiple of it (or the member's maximum)."""
LANES = 16
"""Floats in a vector register of AVX-512. The last STEP of them is always filled up: attention over 44 tokens takes
longer than over 48 (OpenVINO's softmax has a slow tail; 8 texts: 14.2 against 13.2 ms)."""
OVERHEAD = 20
"""What a group costs beside its tokens, in tokens: a new shape's own time (0.6 ms, OpenVINO, MiniLM-L6)."""
BAG_OVERHEAD = 800
"""What a call of a bag costs beside its ids, in ids: 20 µs with what pads it, and 0.025 µs an id (ONNX Runtime)."""
BAG_MOST = 1 << 18
"""Ids of one call of a bag, padding included, where it holds more than one text: bounds its memory."""


def plan(lengths: list[int], most: int) -> list[list[int]]:
    """Part the texts into groups of like length, the cheapest way; `most` is the member's maximum length.

    Returns indices into `lengths`; every one stands in exactly one group. Exact, by dynamic programming over the texts
    in order of length: a group costs OVERHEAD and its padded tokens.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    widths = [_round(lengths[i], most) for i in order]
    count = len(order)
    costs, sizes = [0] * (count + 1), [0] * count
    for at in range(count - 1, -1, -1):
        costs[at], sizes[at] = min(
            (OVERHEAD + size * widths[at] + costs[at + size], size) for size in SIZES if at + size <= count
        )
    groups, at = [], 0
    while at < count:
        groups.append(order[at : at + sizes[at]])
        at += sizes[at]
    return groups


def bags(lengths: Sequence[int]) -> list[list[int]]:
    """Part the texts of a bag: a group is cut in two, where that saves most, as long as it saves BAG_OVERHEAD.

    Returns indices into `lengths`; every one stands in exactly one group.
    """
    order = np.argsort(np.negative(lengths), kind="stable")
    widths = np.asarray(lengths)[order]
    groups, parts = [], [(0, len(order))]
    while parts:
        start, end = parts.pop()
        count = end - start
        if count > 1:
            # Cut before the k-th: the texts behind it are padded to its length, not to the longest's.
            saved = (widths[start] - widths[start + 1 : end]) * np.arange(count - 1, 0, -1)
            best = int(saved.argmax())
            if saved[best] > BAG_OVERHEAD or count * widths[start] > BAG_MOST:
                at = start + 1 + best if saved[best] else start + count // 2
                parts += [(start, at), (at, end)]
                continue
        if count:
            groups.append(order[start:end].tolist())
    return groups


def pad(
    ids: Sequence[Sequence[int] | np.ndarray], groups: list[list[int]], pad_id: int, most: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each group's ids and mask, INT64 [group, length of the longest].

    With `most`, a member's maximum length, the length is rounded up, at most to it.
    """
    for group in groups:
        longest = max(len(ids[i]) for i in group)
        shape = len(group), _round(longest, most) if most else longest
        padded, mask = np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64)
        for row, i in enumerate(group):
            padded[row, : len(ids[i])] = ids[i]
            mask[row, : len(ids[i])] = 1
        yield padded, mask


def shapes(shortest: int, longest: int) -> list[tuple[int, int]]:
    """Return the shapes that texts of those lengths come to: what is worth compiling before the first request."""
    return list(product(SIZES, sorted({_round(length, longest) for length in range(shortest, longest + 1)})))


def _round(length: int, most: int) -> int:
    width = -(-length // STEP) * STEP
    if width % LANES == LANES - STEP:
        width += STEP
    return min(width, most)
