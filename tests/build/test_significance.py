"""The certainty of figures, against values worked out by hand or by scipy."""

import numpy as np
import pytest

from newsdesk.build.evaluation import metrics, significance


def one_hot(named: list[int]) -> np.ndarray:
    return np.eye(3)[named]


def test_mcnemar_is_the_binomial_test_of_the_rows_that_one_alone_gets_right():
    labels = np.zeros(10, np.int64)
    a, b = one_hot([0] * 9 + [1]), one_hot([1] * 8 + [0, 0])
    comparison = significance.mcnemar(a, b, labels)
    assert (comparison.only_first, comparison.only_second) == (8, 1)
    assert comparison.p == pytest.approx(2 * (1 + 9) / 2**9)  # 0 or 1 of 9 heads, two-sided


def test_mcnemar_of_equals_says_nothing():
    a = one_hot([0, 1, 2])
    assert significance.mcnemar(a, a, np.array([0, 0, 0])).p == 1


def test_the_interval_is_the_normal_one_for_many_rows():
    labels = np.zeros(2000, np.int64)
    named = one_hot([0] * 1800 + [1] * 200)
    low, high = significance.interval(metrics.accuracy, named, labels, seed=1)
    half = 1.96 * np.sqrt(0.9 * 0.1 / 2000)
    assert low == pytest.approx(0.9 - half, abs=0.003)
    assert high == pytest.approx(0.9 + half, abs=0.003)
    assert (low, high) == significance.interval(metrics.accuracy, named, labels, seed=1)


def test_true_probabilities_err_by_chance_as_the_normal_distribution_says():
    """One bin, of rows that are right with 0.8: |k/n - 0.8| has the mean √(2/π)·σ and the 95 % quantile 1.96·σ."""
    sigma = np.sqrt(0.8 * 0.2 / 2000)
    mean, most = significance.calibration_by_chance(np.tile([0.8, 0.15, 0.05], (2000, 1)), seed=1, draws=10_000)
    assert mean == pytest.approx(np.sqrt(2 / np.pi) * sigma, rel=0.02)
    assert most == pytest.approx(1.96 * sigma, rel=0.02)
