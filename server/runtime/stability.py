"""The population stability index: how far two histograms are apart, and how far chance alone takes them."""

import numpy as np

from newsdesk.server.runtime.arrays import Array

FLOOR = 1e-3
"""The share that a bin has at least: an empty one would make the index infinite."""
_QUANTILE = 1.645
"""The normal distribution's quantile at 95 %."""


def stability_index(actual: Array, expected: Array) -> float:
    """Return the population stability index, Σ (a − e) · ln(a / e) over bins.

    Below 0.1 little has changed, above 0.25 much has (Siddiqi, Credit Risk Scorecards, 2006).

    Args:
        actual: shares, FP [bins], each of which counts as FLOOR at least
        expected: the same of the reference
    """
    a, e = np.maximum(actual, FLOOR), np.maximum(expected, FLOOR)
    return float(((a - e) * np.log(a / e)).sum())


def by_chance(bins_used: int, answers: int, rows: int) -> float:
    """Return the index that answers like the reference's stay below in 95 of 100 cases.

    Yurdakul, Statistical Properties of Population Stability Index (2018), its normal approximation.

    Args:
        bins_used: bins that the reference has rows in
        answers: how many are held against it
        rows: of the reference
    """
    free = max(bins_used - 1, 0)
    return float((1 / answers + 1 / rows) * (free + _QUANTILE * np.sqrt(2 * free)))
