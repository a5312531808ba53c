"""How much each row counts in a fit: its own weight, and where labels are balanced that of its label."""

import numpy as np

from newsdesk.build.data.rows import Row
from newsdesk.server.runtime.arrays import Array


def weigh(rows: list[Row], balanced: bool) -> Array | None:
    """Return the weights of rows, FP32 [rows], 1 in the mean; None where all are alike.

    Args:
        rows: each with a weight of its own
        balanced: whether the rows of every label count as much together, as scikit-learn's class_weight="balanced" has
            it
    """
    weights = np.array([row.weight for row in rows], np.float64)
    if balanced:
        labels = np.array([row.label for row in rows])
        weights = weights / np.bincount(labels, weights)[labels]
    if not len(rows) or np.allclose(weights, weights[0]):
        return None
    return (weights / weights.mean()).astype(np.float32)
