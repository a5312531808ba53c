"""Group texts into batches by length, each kind of member by its own cost.

An encoder's time is in its tokens: padding is the largest waste. On a CPU a batch of 8 is nearly as good as any, so
groups are small, of texts of like length. What a group costs beside its tokens is the engine's: its `Shapes`.

A bag of n-grams looks rows up and adds them: its time is in what a call costs, so groups are large (`bags`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np

from newsdesk.server.runtime.arrays import Array

BAG_OVERHEAD = 800
"""The cost of a call of a bag beside its ids, in ids: 20 µs with what pads it, and 0.025 µs an id (ONNX Runtime)."""
BAG_MOST = 1 << 18
"""Ids of one call of a bag, padding included, where it holds more than one text: bounds its memory."""
_WARM_BAG = 64, 256
"""Texts × ids of the batch that a bag runs before the first request."""


class Shapes(Protocol):
    """The shapes in which a member's texts are given to an engine."""

    def width(self, length: int) -> int:
        """Return the tokens to which a group is padded whose longest text has `length` of them."""
        ...

    def group(self, lengths: Sequence[int]) -> list[list[int]]:
        """Part texts of these lengths into groups, the cheapest way.

        Args:
            lengths: of the texts, in tokens

        Returns:
            Indices into `lengths`; every one stands in exactly one group.
        """
        ...

    def computed(self, count: int, length: int) -> int:
        """Return the tokens that are computed for a group of `count` texts, padded to `length`."""
        ...

    def warm(self, shortest: int, longest: int) -> list[tuple[int, int]]:
        """Return the shapes, texts × tokens, to run before the first request, if texts have those lengths."""
        ...


@dataclass(frozen=True)
class FreeShapes:
    """The shapes of an engine that takes any.

    Where nothing else is said, all are alike to it; the cost is then measured with ONNX Runtime and MiniLM-L6.
    """

    most: int
    """Tokens that the member reads at once."""
    sizes: tuple[int, ...] = (8, 7, 6, 5, 4, 3, 2, 1)
    """Texts that a group may hold."""
    step: int = 1
    """Tokens; a group's length is a multiple of it (or `most`)."""
    lanes: int = 1
    """Floats in a vector register, if the last `step` of them must always be filled up."""
    overhead: int = 10
    """The cost of a group beside its tokens, in tokens."""
    compiled: bool = False
    """Whether kernels are made for each shape, which the first batch of it waits for."""

    def width(self, length: int) -> int:
        """Return the next multiple of `step` tokens that leaves no register nearly full, or `most`."""
        width = -(-length // self.step) * self.step
        if width % self.lanes == self.lanes - self.step > 0:
            width += self.step
        return min(width, self.most)

    def group(self, lengths: Sequence[int]) -> list[list[int]]:
        """Part texts into groups of `sizes`; a group costs `overhead` and its tokens."""
        return partition(lengths, self.width, self.sizes, self.overhead)

    def computed(self, count: int, length: int) -> int:
        """Return the tokens of a group, padding included."""
        return count * length

    def warm(self, shortest: int, longest: int) -> list[tuple[int, int]]:
        """Return all shapes between the lengths where kernels are compiled, else the shortest text alone."""
        return self.between(shortest, longest) if self.compiled else [(1, shortest)]

    def between(self, shortest: int, longest: int) -> list[tuple[int, int]]:
        """Return the shapes that texts of those lengths come to: what is worth compiling before the first request."""
        widths = sorted({self.width(length) for length in range(shortest, longest + 1)})
        return list(product(self.sizes, widths))


def compiled_shapes(most: int) -> FreeShapes:
    """Return the shapes of an engine that makes kernels for each.

    About a hundred cover the news. Measured with OpenVINO and MiniLM-L6: a change of shape takes 0.6 ms, the time of 20
    tokens, and attention over 44 tokens longer than over 48, because its softmax has a slow tail where registers of
    AVX-512 are not full (8 texts: 14.2 against 13.2 ms).

    Args:
        most: tokens that the member reads at once
    """
    return FreeShapes(most, (8, 4, 2, 1), step=4, lanes=16, overhead=20, compiled=True)


class BagShapes:
    """The shapes of a bag of n-grams, whatever the engine. Its ids are no tokens."""

    def width(self, length: int) -> int:
        """Return `length`: ids are padded to the longest text of a group."""
        return length

    def group(self, lengths: Sequence[int]) -> list[list[int]]:
        """Part texts into groups as `bags` does."""
        return bags(lengths)

    def computed(self, count: int, length: int) -> int:
        """Return 0: no tokens are computed."""
        return 0

    def warm(self, shortest: int, longest: int) -> list[tuple[int, int]]:
        """Return one shape, whatever the lengths: a bag has no kernels of its own for others."""
        return [_WARM_BAG]


def partition(
    lengths: Sequence[int], width: Callable[[int], int], sizes: Sequence[int], overhead: int, fill: bool = False
) -> list[list[int]]:
    """Part texts into groups of like length, the cheapest way: a group costs `overhead` and its tokens with padding.

    Exact, by dynamic programming over the texts in order of length.

    Args:
        lengths: of the texts, in tokens
        width: the tokens to which a text of a length is padded
        sizes: texts that a group may hold
        overhead: in tokens
        fill: whether a group of fewer texts is filled up with rows of padding, and costs as much

    Returns:
        Indices into `lengths`; every one stands in exactly one group.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    widths = [width(lengths[i]) for i in order]
    count = len(order)
    costs, chosen = [0] * (count + max(sizes)), [0] * count  # behind the last text nothing is left to pay
    for at in range(count - 1, -1, -1):
        costs[at], chosen[at] = min(
            (overhead + size * widths[at] + costs[at + size], size) for size in sizes if fill or at + size <= count
        )
    groups, at = [], 0
    while at < count:
        groups.append(order[at : at + chosen[at]])
        at += chosen[at]
    return groups


def bags(lengths: Sequence[int]) -> list[list[int]]:
    """Part the texts of a bag: a group is cut in two, where that saves most, as long as it saves BAG_OVERHEAD.

    Args:
        lengths: of the texts, in ids

    Returns:
        Indices into `lengths`; every one stands in exactly one group.
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
    ids: Sequence[Sequence[int] | Array], groups: list[list[int]], pad_id: int, shapes: Shapes
) -> Iterator[tuple[Array, Array]]:
    """Yield each group's ids and mask.

    Args:
        ids: of each text, INT [length]
        groups: indices into `ids`
        pad_id: the id that stands where a text has ended
        shapes: decide a group's width

    Yields:
        Ids and mask, INT64 [texts of the group, width of the longest]; the mask is 1 where an id is.
    """
    for group in groups:
        longest = max(len(ids[i]) for i in group)
        shape = len(group), shapes.width(longest)
        padded, mask = np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64)
        for row, i in enumerate(group):
            padded[row, : len(ids[i])] = ids[i]
            mask[row, : len(ids[i])] = 1
        yield padded, mask
