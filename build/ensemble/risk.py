"""The cost of an early answer: the accuracy that is expected to be lost on a text where it differs from the last."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.stats import gamma

from newsdesk.build.ensemble.folds import folds
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.calibrate import log_odds
from newsdesk.server.runtime.cascade import ALWAYS, NEVER


def losses(early: Array, last: Array) -> Array:
    """Return for each text the accuracy that the early answer is expected to lose, FP64 [n], in [0, 1].

    Where the two name the same label nothing is lost; elsewhere what the last level gives its own label over the early
    one's. The 0/1 difference of the labels has the same mean, if the last level is calibrated, and a variance many
    times as large: one says right or wrong once, the other how likely.

    Args:
        early: FP [n, labels]
        last: FP [n, labels], calibrated
    """
    rows = np.arange(len(last))
    return (last[rows, last.argmax(-1)] - last[rows, early.argmax(-1)]).astype(np.float64)


def bound(of_text: Array, confidence: float, weights: Array | None = None) -> float:
    """Return the upper bound, one-sided, of the mean loss that these losses are a sample of.

    Texts that lose are rare, so their number is Poisson's and the sum a weighted one: Fay and Feuer, Confidence
    Intervals for Directly Standardized Rates (1997), equation 5, with the largest weight of a row, 1, as theirs. Where
    all losses are 0 or 1 it is the exact bound of a Poisson count (Garwood 1936), a little above Clopper and Pearson's.

    Args:
        of_text: losses in [0, 1], FP [n]
        confidence: a share
        weights: how much each text counts, FP [n], 1 in the mean; None: all alike
    """
    n, largest = len(of_text), 1.0
    if weights is not None:
        of_text, largest = weights * of_text, float(weights.max())
    mean, variance = of_text.sum() / n + largest / n, (of_text**2).sum() / n**2 + largest**2 / n**2
    return float(gamma.ppf(confidence, mean**2 / variance, scale=variance / mean))


@dataclass(frozen=True)
class Risk:
    """A level's risk: sigmoid(offset + slope × log-odds of the top probability), FP64 [labels] each, by the top label.

    No slope is above 0: the surer, the less is lost.
    """

    slopes: Array
    offsets: Array

    def __call__(self, probabilities: Array) -> Array:
        """Return the loss to expect of each text, FP64 [n], from the level's FP [n, labels]."""
        label = probabilities.argmax(-1)
        return _sigmoid(self.offsets[label] + self.slopes[label] * log_odds(probabilities.max(-1)))

    def thresholds(self, risk: float) -> list[float]:
        """Return by label the top probability from which no more than `risk` is expected."""
        wanted = np.log(risk / (1 - risk)) - self.offsets
        flat = self.slopes > -1e-6
        odds = np.divide(wanted, self.slopes, out=np.zeros_like(wanted), where=~flat)
        thresholds = np.where(flat, np.where(wanted >= 0, ALWAYS, NEVER), _sigmoid(odds))
        return thresholds.tolist()


def fit(probabilities: Array, lost: Array, count: int, seed: int) -> tuple[Risk, bool]:
    """Fit the risk of a level, and say whether each label has a line of its own.

    It has, where the deviance of rows that the fit never saw is lower by more than a standard error with than without.

    Args:
        probabilities: the level's, FP [n, labels]
        lost: losses, FP [n]
        count: of folds
        seed: of folds
    """
    labels = probabilities.argmax(-1)
    parts = folds(labels, count, seed)
    gain = np.zeros(len(labels))
    for part in parts if len(parts) > 1 else []:
        rest = np.setdiff1d(np.arange(len(labels)), part)
        shared, own = (_fit(probabilities[rest], lost[rest], by_label) for by_label in (False, True))
        gain[part] = _deviance(shared(probabilities[part]), lost[part]) - _deviance(
            own(probabilities[part]), lost[part]
        )
    helps = bool(gain.sum() > gain.std() * np.sqrt(len(gain)))
    return _fit(probabilities, lost, helps), helps


def _fit(probabilities: Array, lost: Array, by_label: bool) -> Risk:
    count = probabilities.shape[1]
    odds, label = log_odds(probabilities.max(-1)), probabilities.argmax(-1)
    shared = _line(odds, lost, np.array([-1.0, -1.0]))
    lines = [shared] * count
    if by_label:  # a label with few rows stays near the line that all share
        lines = [_line(odds[label == label_id], lost[label == label_id], shared) for label_id in range(count)]
    return Risk(np.array([line[0] for line in lines]), np.array([line[1] for line in lines]))


def _line(odds: Array, lost: Array, near: Array) -> Array:
    """Return slope, none above 0, and offset of the least deviance; leaving `near` costs as one row does."""
    seen = np.stack([odds, np.ones_like(odds)])

    def loss(line: Array) -> tuple[float, Array]:
        score = line @ seen
        missed = (np.logaddexp(0, score) - lost * score).sum() + ((line - near) ** 2).sum()
        return float(missed), seen @ (_sigmoid(score) - lost) + 2 * (line - near)

    falling = [(None, 0.0), (None, None)]
    line: Array = minimize(
        loss, near, jac=True, method="L-BFGS-B", bounds=falling, options={"ftol": 1e-15, "gtol": 1e-9}
    ).x
    return line


def _deviance(risk: Array, lost: Array) -> Array:
    kept = np.clip(risk, 1e-12, 1 - 1e-12)
    return -(lost * np.log(kept) + (1 - lost) * np.log(1 - kept))


def _sigmoid(score: Array) -> Array:
    return 0.5 * (1 + np.tanh(score / 2))
