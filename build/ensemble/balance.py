"""Weights of rows under which every label counts the same, however few its rows."""

import numpy as np

from newsdesk.server.runtime.arrays import Array


def equal(labels: Array) -> Array:
    """Return weights FP64 [n], 1 in the mean, whose sums over the rows of each label present are the same.

    Args:
        labels: INT [n]
    """
    counts = np.bincount(labels)
    return len(labels) / (np.count_nonzero(counts) * counts[labels])


def effective_rows(count: int, weights: Array | None) -> float:
    """Return how many rows of equal weight say as much as `count` rows of these: Kish, Survey Sampling (1965).

    1,000 rows of one label and 10 of another say as much as 39.6 rows.
    """
    return count if weights is None else float(weights.sum() ** 2 / (weights**2).sum())
