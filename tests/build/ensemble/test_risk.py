"""The cost of an early answer, and the certainty about it."""

import numpy as np
import pytest
from scipy.stats import beta, chi2, gamma

from newsdesk.build.ensemble import risk
from newsdesk.server.runtime.cascade import ALWAYS, NEVER


def test_losses_by_hand() -> None:
    """The same label, another one, a tie of the early answer (the first counts), zeros and ones."""
    early = np.array([[0.6, 0.4, 0.0], [0.6, 0.4, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    last = np.array([[0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.1, 0.9, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(risk.losses(early, last), [0, 0.2, 0.8, 1])


@pytest.mark.parametrize(("lost", "rows", "confidence"), [(0, 5000, 0.8), (3, 5000, 0.95), (12, 800, 0.5)])
def test_the_bound_of_whole_losses_is_garwoods_and_little_above_clopper_and_pearsons(
    lost: int, rows: int, confidence: float
) -> None:
    bound = risk.bound(np.array([1.0] * lost + [0.0] * (rows - lost)), confidence)
    assert bound == pytest.approx(chi2.ppf(confidence, 2 * (lost + 1)) / 2 / rows, rel=1e-9)
    exact = beta.ppf(confidence, lost + 1, rows - lost)
    assert exact * 0.999 < bound < exact * 1.03


def test_without_a_loss_the_bound_falls_with_the_rows() -> None:
    assert risk.bound(np.zeros(5000), 0.8) == pytest.approx(-np.log(0.2) / 5000)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_the_bound_holds_as_often_as_it_says(confidence: float) -> None:
    random = np.random.default_rng(1)
    share, rows = 0.003, 2000  # of texts that lose, each some part of a half
    draws = (random.random((3000, rows)) < share) * random.random((3000, rows)) / 2
    held = np.mean([risk.bound(draw, confidence) >= share / 4 for draw in draws])
    assert held >= confidence - 0.02


def test_the_bound_of_weighted_losses_by_hand() -> None:
    """The sum of four rows is 1 + 0.5, the sum of squares 1.25, the largest weight 2."""
    mean, variance = 3.5 / 4, 5.25 / 16
    bound = risk.bound(np.array([0.5, 0, 1, 0]), 0.8, np.array([2, 1, 0.5, 0.5]))
    assert bound == pytest.approx(gamma.ppf(0.8, mean**2 / variance, scale=variance / mean))


def test_a_line_is_held_near_by_the_weight_of_one_row() -> None:
    """At odds of 0 the slope says nothing and stays; the offset pulls against the penalty."""
    slope, offset = risk._line(np.zeros(2), np.array([0.5, 0.1]), np.array([-0.7, -1.0]))
    assert slope == pytest.approx(-0.7)
    assert 2 / (1 + np.exp(-offset)) - 0.6 + 2 * (offset + 1) == pytest.approx(0, abs=1e-7)


def test_a_risk_that_rises_is_level() -> None:
    odds = np.linspace(-2, 2, 200)
    slope, offset = risk._line(odds, 1 / (1 + np.exp(-odds)), np.array([-1.0, -1.0]))
    assert slope == 0
    # Against the level the losses are a half in the mean.
    assert 200 * (1 / (1 + np.exp(-offset)) - 0.5) + 2 * (offset + 1) == pytest.approx(0, abs=1e-5)


def test_the_deviance_by_hand() -> None:
    deviance = risk._deviance(np.array([0.5, 0.25, 0.0, 1.0]), np.array([1.0, 0.2, 0.0, 1.0]))
    expected = [np.log(2), -0.2 * np.log(0.25) - 0.8 * np.log(0.75), 0, 0]
    np.testing.assert_allclose(deviance, expected, atol=1e-11)


def _answers(tops: np.ndarray, labels: np.ndarray, count: int = 3) -> np.ndarray:
    """Distributions with these tops at these labels."""
    made = np.repeat((1 - tops[:, None]) / (count - 1), count, axis=1)
    made[np.arange(len(tops)), labels] = tops
    return made


def _simulated(by_label: float, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    tops, labels = random.uniform(0.4, 0.999, rows), random.integers(0, 3, rows)
    odds = np.log(tops / (1 - tops))
    true = 1 / (1 + np.exp(-(-1.0 - 1.2 * odds + by_label * (labels - 1))))
    return _answers(tops, labels), true * random.uniform(0.5, 1.5, rows), true


def test_the_line_that_was_put_in_is_found_and_labels_share_it() -> None:
    confidences, lost, true = _simulated(0.0)
    line, by_label = risk.fit(confidences, lost, 5, 0)
    assert not by_label
    np.testing.assert_allclose(line.slopes, -1.2, atol=0.1)
    np.testing.assert_allclose(line.offsets, -1.0, atol=0.1)
    np.testing.assert_allclose(line(confidences), true, atol=0.02)


def test_labels_get_lines_of_their_own_where_that_helps() -> None:
    confidences, lost, true = _simulated(1.5)
    line, by_label = risk.fit(confidences, lost, 5, 0)
    assert by_label
    np.testing.assert_allclose(line.offsets, [-2.5, -1.0, 0.5], atol=0.15)
    np.testing.assert_allclose(line(confidences), true, atol=0.03)


def test_thresholds_are_where_the_risk_is_what_was_wanted() -> None:
    line = risk.Risk(np.array([-1.0, -2.0, 0.0]), np.array([-1.0, 0.0, -3.0]))
    at = line.thresholds(0.01)
    # Label 2 does not grow safer: sigmoid(-3) is 0.047 wherever it stands.
    assert at[2] == NEVER
    assert line.thresholds(0.1)[2] == ALWAYS
    np.testing.assert_allclose(line(_answers(np.array(at[:2]), np.array([0, 1]))), 0.01, rtol=1e-6)


def test_a_level_that_always_agrees_and_one_row_alone_give_finite_lines() -> None:
    confident = _answers(np.array([0.5, 0.9, 1.0]), np.array([0, 0, 1]))
    for rows in (confident, confident[:1]):
        line, _ = risk.fit(rows, np.zeros(len(rows)), 5, 0)
        assert np.isfinite([line.slopes, line.offsets]).all()
        assert (line.slopes <= 0).all()
        assert np.isfinite(line.thresholds(0.01)).all()
