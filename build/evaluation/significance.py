"""How sure a figure is.

Bootstrap intervals, what calibration error chance alone makes, and McNemar's test between two classifiers on the same
rows.
"""

from collections.abc import Callable

import numpy as np
from msgspec import Struct
from scipy.stats import binomtest

from newsdesk.build.evaluation import metrics
from newsdesk.server.runtime.arrays import Array

Measure = Callable[[Array, Array], float]


class McNemar(Struct, frozen=True, kw_only=True):
    """McNemar's test: the rows on which one classifier alone is right, and the exact two-sided p."""

    only_first: int
    only_second: int
    p: float


def interval(
    measure: Measure, probabilities: Array, labels: Array, *, seed: int, draws: int = 1000
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a measure over rows (Efron and Tibshirani 1993, chapter 13).

    Args:
        measure: of probabilities and labels
        probabilities: FP [rows, labels]
        labels: INT [rows]
        seed: of the draws
        draws: how many
    """
    chance = np.random.default_rng(seed)
    drawn_figures = np.empty(draws)
    for i in range(draws):
        drawn = chance.integers(0, len(labels), len(labels))
        drawn_figures[i] = measure(probabilities[drawn], labels[drawn])
    low, high = np.percentile(drawn_figures, [2.5, 97.5])
    return float(low), float(high)


def calibration_by_chance(probabilities: Array, *, seed: int, draws: int = 1000) -> tuple[float, float]:
    """Return the calibration error that as many rows show if every probability is true: its mean and 95 % quantile.

    Labels are drawn from the probabilities: the consistency resampling of Bröcker and Smith, Increasing the Reliability
    of Reliability Diagrams (2007). What lies below the quantile is no evidence of a fault.
    """
    chance = np.random.default_rng(seed)
    below = np.cumsum(probabilities, -1)[:, :-1]
    errors = [
        metrics.calibration_error(probabilities, (chance.random((len(below), 1)) > below).sum(-1)) for _ in range(draws)
    ]
    return float(np.mean(errors)), float(np.percentile(errors, 95))


def mcnemar(a: Array, b: Array, labels: Array) -> McNemar:
    """Return on how many rows only one of two is right, and the exact two-sided p.

    McNemar 1947, in its exact form: under no difference the rows where one alone is right fall either way like a coin.

    Args:
        a: probabilities, FP [rows, labels]
        b: of the other, FP [rows, labels]
        labels: INT [rows]
    """
    right_a, right_b = a.argmax(-1) == labels, b.argmax(-1) == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_first=only_a, only_second=only_b, p=p)
