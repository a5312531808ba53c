"""Curves over confidence: reliability, and accuracy against coverage."""

import numpy as np
from msgspec import Struct

from newsdesk.server.runtime.arrays import Array

BINS = 15


class ReliabilityBin(Struct, frozen=True, kw_only=True):
    """The rows whose top probability lies in one bin."""

    confidence: float
    """Their mean top probability."""
    accuracy: float
    rows: int


class CoveragePoint(Struct, frozen=True, kw_only=True):
    """The accuracy on the most confident rows."""

    coverage: float
    """Their share of all rows."""
    accuracy: float


def reliability(probabilities: Array, labels: Array) -> list[ReliabilityBin]:
    """Return, for each of BINS bins of the top probability that holds a row, its mean confidence, accuracy and rows.

    Args:
        probabilities: FP [rows, labels]
        labels: INT [rows]
    """
    top, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    places = np.minimum((top * BINS).astype(int), BINS - 1)
    return [
        ReliabilityBin(
            confidence=float(top[places == place].mean()),
            accuracy=float(right[places == place].mean()),
            rows=int((places == place).sum()),
        )
        for place in np.unique(places)
    ]


def coverage(probabilities: Array, labels: Array, points: int = 20) -> list[CoveragePoint]:
    """Return the accuracy on the most confident share of the rows, for shares from 1/`points` to 1.

    Args:
        probabilities: FP [rows, labels]
        labels: INT [rows]
        points: how many shares
    """
    order = np.argsort(-probabilities.max(-1), kind="stable")
    right = (probabilities.argmax(-1) == labels)[order]
    sizes = [max(1, round(len(labels) * i / points)) for i in range(1, points + 1)]
    return [CoveragePoint(coverage=size / len(labels), accuracy=float(right[:size].mean())) for size in sizes]
