"""Place optimisation profiles: a bucket of lengths and of batches each, by the lengths of real rows."""

from dataclasses import dataclass

import numpy as np

STEP = 16
"""Tokens; a bucket ends at a multiple of it, as tensor cores like it, or at the member's maximum."""


@dataclass(frozen=True)
class Profile:
    """Shapes (batch, length), from the least to the most; kernels are chosen for the largest, the best."""

    least: tuple[int, int]
    most: tuple[int, int]

    @property
    def best(self) -> tuple[int, int]:
        """The largest shape."""
        return self.most


def ends(lengths: list[int], most: int, buckets: int) -> list[int]:
    """Return the last length of each bucket, ascending, the last one `most`: those that pad these rows least.

    Exact, by dynamic programming over the multiples of STEP. Fewer come back where fewer lengths occur.

    Args:
        lengths: of rows, in tokens
        most: tokens that a row has at most
        buckets: how many there may be
    """
    marks = sorted({*range(STEP, most, STEP), most})
    rounded = np.searchsorted(marks, [min(length, most) for length in lengths])
    counts = np.bincount(rounded, minlength=len(marks))
    before = np.concatenate([[0], np.cumsum(counts)])
    # cost[j]: padded tokens of the rows up to mark j with the buckets so far; paths: the ends chosen for it.
    cost = [float(before[j + 1] * mark) for j, mark in enumerate(marks)]
    paths = [[j] for j in range(len(marks))]
    for _ in range(buckets - 1):
        better, longer = list(cost), list(paths)
        for j, mark in enumerate(marks):
            for i in range(j):
                through = cost[i] + float(before[j + 1] - before[i + 1]) * mark
                if through < better[j]:
                    better[j], longer[j] = through, [*paths[i], j]
        cost, paths = better, longer
    return [marks[j] for j in paths[-1]]


def place(runtime: str, of_lengths: list[int], of_batches: list[int]) -> list[Profile]:
    """Return a profile for every bucket of lengths and of batches, both given by their ends; they cover every shape.

    TensorRT-RTX makes its kernels for the shape that it meets at run time, and a profile adds 2.6 MB to an engine
    whatever the member's size (measured): it has one for each bucket of lengths, over all batches.
    """
    batches = [*of_batches[-1:]] if runtime == "tensorrt_rtx" else of_batches
    return [
        Profile((fewest, shortest), (batch, length))
        for shortest, length in _spans(of_lengths)
        for fewest, batch in _spans(batches)
    ]


def _spans(last: list[int]) -> list[tuple[int, int]]:
    return list(zip([1, *(end + 1 for end in last)], last, strict=False))
