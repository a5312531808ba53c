"""Weights, posteriors and ranks, against values by hand and a search that tries everything."""

import numpy as np
import pytest

from newsdesk.build.ensemble import weights
from newsdesk.server.runtime import combine
from tests.build.ensemble.simulated import draw


def _loss(members: np.ndarray, labels: np.ndarray, blend: np.ndarray) -> float:
    return -np.log(blend @ members[:, np.arange(len(labels)), labels]).mean()


def test_weights_minimise_the_log_loss() -> None:
    members, labels = draw(800, 1)
    fitted = np.array(weights.weighted(members, labels).weights)
    assert fitted.sum() == pytest.approx(1, abs=1e-12)
    steps = np.linspace(0, 1, 51)
    grid = [np.array([a, b, 1 - a - b]) for a in steps for b in steps if a + b <= 1]
    assert _loss(members, labels, fitted) <= min(_loss(members, labels, point) for point in grid) + 1e-9


def test_weights_are_the_fixed_point_of_expectation_maximisation() -> None:
    """The share of each member in explaining the labels is its weight, where no weight is 0."""
    members, labels = draw(500, 2, (2.0, 2.0))
    fitted = np.array(weights.weighted(members, labels).weights)
    shares = fitted[:, None] * members[:, np.arange(500), labels]
    np.testing.assert_allclose((shares / shares.sum(0)).mean(1), fitted, atol=1e-5)


def test_a_member_that_only_harms_gets_nothing() -> None:
    members, labels = draw(500, 3, (1.0,))
    wrong = np.roll(members, 1, axis=-1)
    np.testing.assert_allclose(weights.weighted(np.concatenate([members, wrong]), labels).weights, [1, 0], atol=1e-6)


def test_zeros_ones_and_a_member_alone() -> None:
    labels = np.array([0, 1, 1])
    sure = np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5]] * 3])
    fitted = weights.weighted(sure, labels).weights
    # With weight w on the first: two rows at (1 + w) / 2 and one at (1 - w) / 2, best at w = 1/3.
    np.testing.assert_allclose(fitted, [1 / 3, 2 / 3], atol=1e-5)
    assert weights.weighted(sure[:1], labels).weights == [1.0]
    equal = weights.weighted(np.stack([sure[1], sure[1]]), labels).weights
    assert sum(equal) == pytest.approx(1)


def test_a_row_of_equal_weights_by_hand() -> None:
    """A member gives every true label 0.8, the other 0.4: 2 / (w + 1) + 1 / (2 w) = 1 / (2 (1 - w)), of two rows."""
    members = np.array([[[0.8, 0.2]] * 2, [[0.4, 0.6]] * 2])
    labels = np.zeros(2, int)
    assert weights.weighted(members, labels).weights == pytest.approx([1, 0], abs=1e-6)
    held = weights.weighted(members, labels, even_rows=1).weights[0]
    assert 2 / (held + 1) + 1 / (2 * held) == pytest.approx(1 / (2 * (1 - held)), rel=1e-3)
    assert held == pytest.approx((3 + np.sqrt(33)) / 12, abs=1e-4)
    counts = np.array([1.0, 1.0])
    assert weights.weighted(members, labels, counts, even_rows=1).weights[0] == pytest.approx(held)
    assert weights.weighted(members, labels, even_rows=1e6).weights == pytest.approx([0.5, 0.5], abs=1e-3)


def test_the_posterior_by_hand() -> None:
    """Two rows, likelihoods 0.8 × 0.8 and 0.4 × 0.4; a power of 1/2 leaves 0.8 to 0.4."""
    members = np.array([[[0.8, 0.2]] * 2, [[0.4, 0.6]] * 2])
    labels = np.array([0, 0])
    np.testing.assert_allclose(weights.bayes(members, labels, 2).posterior, [2 / 3, 1 / 3])
    np.testing.assert_allclose(weights.bayes(members, labels, 1e12).posterior, [0.8, 0.2])
    np.testing.assert_allclose(weights.bayes(members, labels, 1e-12).posterior, [0.5, 0.5])
    assert np.isfinite(weights.bayes(np.array([[[0.0, 1.0]] * 2] * 2), labels, 20).posterior).all()


def test_ranks_by_hand_with_ties() -> None:
    """0.2 twice, 0.5, 0.9: half of the ties and all below, over four rows."""
    column = np.array([0.5, 0.2, 0.9, 0.2])
    ranked = weights.ranks(np.stack([column, 1 - column], axis=-1)[None])
    assert ranked.values[0][0] == [0.2, 0.5, 0.9]
    assert ranked.ranks[0][0] == [0.25, 0.625, 0.875]
    assert ranked.ranks[0][1] == [0.125, 0.375, 0.75]


def test_ranks_are_those_of_scipy_and_few_knots_come_near() -> None:
    from scipy.stats import rankdata

    members, _ = draw(3000, 4)
    exact = (rankdata(members, axis=1) - 0.5) / 3000
    expected = exact.mean(0) / exact.mean(0).sum(-1, keepdims=True)
    np.testing.assert_allclose(combine.ready(weights.ranks(members, 3000))(members), expected, atol=1e-9)
    kept = weights.ranks(members)
    assert max(len(line) for of_member in kept.values for line in of_member) <= 65
    assert np.abs(combine.ready(kept)(members) - expected).max() < 0.02


def test_ranks_of_one_row() -> None:
    ranked = weights.ranks(np.array([[[0.3, 0.7]]]))
    assert ranked.ranks == [[[0.5], [0.5]]]
