"""Curves over confidence: reliability, and accuracy against coverage."""

import numpy as np

BINS = 15


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """Return, for each of BINS bins of the top probability that holds a row, its mean confidence, accuracy and rows."""
    top, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    places = np.minimum((top * BINS).astype(int), BINS - 1)
    return [
        {
            "confidence": float(top[places == place].mean()),
            "accuracy": float(right[places == place].mean()),
            "rows": int((places == place).sum()),
        }
        for place in np.unique(places)
    ]


def coverage(probabilities: np.ndarray, labels: np.ndarray, points: int = 20) -> list[dict[str, float]]:
    """Return the accuracy on the most confident share of the rows, for shares from 1/`points` to 1."""
    order = np.argsort(-probabilities.max(-1), kind="stable")
    right = (probabilities.argmax(-1) == labels)[order]
    sizes = [max(1, round(len(labels) * i / points)) for i in range(1, points + 1)]
    return [{"coverage": size / len(labels), "accuracy": float(right[:size].mean())} for size in sizes]
