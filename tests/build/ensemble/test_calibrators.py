"""Calibrators, against scikit-learn, scipy and a truth that was put in."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression

from newsdesk.build.ensemble import calibrators
from newsdesk.build.evaluation import metrics
from newsdesk.server.runtime import calibrate
from tests.build.ensemble.simulated import LABELS, draw, softmax


@pytest.fixture(scope="module")
def sharp() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A calibrated member's probabilities, the same squared (too sure by half), and the labels."""
    members, labels = draw(4000, 5, (1.5,))
    calibrated = np.clip(members[0], 1e-5, None)
    return calibrated, softmax(2 * np.log(calibrated)), labels


class _Says(ClassifierMixin, BaseEstimator):
    """A classifier, to scikit-learn, whose features are its log-odds."""

    def fit(self, odds: np.ndarray, labels: np.ndarray) -> "_Says":
        self.classes_ = np.unique(labels)
        return self

    def decision_function(self, odds: np.ndarray) -> np.ndarray:
        return odds

    def predict(self, odds: np.ndarray) -> np.ndarray:
        return odds.argmax(-1)


def test_the_temperature_undoes_what_was_done(sharp) -> None:
    calibrated, sharpened, labels = sharp
    fitted = calibrators.temperature(sharpened, labels)
    assert fitted.temperature == pytest.approx(2, rel=0.1)
    assert metrics.log_loss(calibrate.ready(fitted)(sharpened), labels) <= metrics.log_loss(calibrated, labels)
    for other in (0.98, 1.02):
        moved = calibrate.Temperature(fitted.temperature * other)
        losses = [metrics.log_loss(calibrate.ready(calibrator)(sharpened), labels) for calibrator in (fitted, moved)]
        assert losses[0] < losses[1]


def test_the_vector_is_the_least_that_another_optimiser_finds(sharp) -> None:
    _, sharpened, labels = sharp
    logits = np.log(np.maximum(sharpened, 1e-7))

    def loss(parameters: np.ndarray) -> float:
        scores = log_softmax(parameters[:LABELS] * logits + parameters[LABELS:], axis=1)
        away = ((parameters[:LABELS] - 1) ** 2).sum() + (parameters[LABELS:] ** 2).sum()
        return -scores[np.arange(len(labels)), labels].mean() + away / len(labels)

    fitted = calibrators.vector(sharpened, labels)
    expected = minimize(loss, [1.0] * LABELS + [0.0] * LABELS, method="BFGS", options={"gtol": 1e-7}).x
    np.testing.assert_allclose([*fitted.slopes, *fitted.offsets], expected, atol=1e-3)


def test_platt_is_scikit_learns(sharp) -> None:
    _, sharpened, labels = sharp
    odds = calibrate.log_odds(sharpened)
    theirs = CalibratedClassifierCV(FrozenEstimator(_Says().fit(odds, labels)), method="sigmoid")
    ours = calibrate.ready(calibrators.platt(sharpened, labels))(sharpened)
    np.testing.assert_allclose(ours, theirs.fit(odds, labels).predict_proba(odds), atol=1e-4)


def test_isotonic_is_scikit_learns(sharp) -> None:
    _, sharpened, labels = sharp
    lines = [
        IsotonicRegression(y_min=1 / 4002, y_max=4001 / 4002, out_of_bounds="clip").fit(sharpened[:, i], labels == i)
        for i in range(LABELS)
    ]
    asked = np.concatenate([sharpened, np.eye(LABELS)])
    expected = np.stack([line.predict(asked[:, i]) for i, line in enumerate(lines)], axis=-1)
    ours = calibrate.ready(calibrators.isotonic(sharpened, labels))(asked)
    np.testing.assert_allclose(ours, expected / expected.sum(-1, keepdims=True), atol=1e-9)


@pytest.mark.parametrize("name", [name for name in calibrators.FIT if name != "none"])
def test_each_repairs_a_member_that_is_too_sure(name: str, sharp) -> None:
    _, sharpened, labels = sharp
    half = np.arange(len(labels)) < 2000
    repaired = calibrate.ready(calibrators.FIT[name](sharpened[half], labels[half]))(sharpened[~half])
    assert metrics.log_loss(repaired, labels[~half]) < metrics.log_loss(sharpened[~half], labels[~half])
    before, after = (
        metrics.calibration_error(probabilities, labels[~half]) for probabilities in (sharpened[~half], repaired)
    )
    assert after < before / 2


@pytest.mark.parametrize("name", list(calibrators.FIT))
@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        ([[0.5, 0.3, 0.2]], [1]),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0, 1]),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [2, 2]),
        ([[1 / 3, 1 / 3, 1 / 3]] * 5, [0, 0, 1, 1, 1]),
    ],
)
def test_one_row_absent_labels_certainty_and_ties_stay_finite(name: str, probabilities: list, labels: list) -> None:
    rows = np.array(probabilities)
    calibrated = calibrate.ready(calibrators.FIT[name](rows, np.array(labels)))(np.concatenate([rows, np.eye(3)]))
    assert np.isfinite(calibrated).all()
    np.testing.assert_allclose(calibrated.sum(-1), 1, atol=1e-12)


def test_the_calibration_error_by_hand() -> None:
    """0.9 twice, right once: 0.4 off on two of four rows; 0.7 twice, always right: 0.3 off on the others."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3], [0.3, 0.7]])
    assert metrics.calibration_error(probabilities, np.array([0, 1, 0, 1])) == pytest.approx(0.35)
    assert metrics.calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0
