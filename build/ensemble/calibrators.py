"""Fit calibrators on probabilities FP [n, labels] and labels INT [n]."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp
from sklearn.isotonic import IsotonicRegression

from newsdesk.build.ensemble.texts import Texts
from newsdesk.build.recipe import CalibratorName
from newsdesk.server.runtime import lengths as by_words
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.calibrate import (
    Calibrator,
    Isotonic,
    Platt,
    Temperature,
    TemperatureByLength,
    Uncalibrated,
    Vector,
    log_odds,
    logs,
)


def temperature(probabilities: Array, labels: Array) -> Temperature:
    """Minimise the log-loss over temperatures from 0.05 to 20.

    Args:
        probabilities: FP [n, labels]
        labels: INT [n]
    """
    logits = logs(probabilities)
    fitted = minimize_scalar(
        lambda log: _log_loss(logits / np.exp(log), labels),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return Temperature(float(np.exp(fitted.x)))


def temperature_by_length(
    probabilities: Array, labels: Array, lengths: Array, bounds: list[int]
) -> TemperatureByLength:
    """Fit a temperature for each bucket of lengths.

    Args:
        probabilities: FP [n, labels]
        labels: INT [n]
        lengths: of the texts in words, INT [n]
        bounds: between the buckets, in words; every bucket has rows
    """
    place = by_words.buckets(lengths, bounds)
    fitted = [temperature(probabilities[place == bucket], labels[place == bucket]) for bucket in range(len(bounds) + 1)]
    return TemperatureByLength(bounds, [line.temperature for line in fitted])


def vector(probabilities: Array, labels: Array) -> Vector:
    """Minimise the log-loss over a slope and an offset a label.

    A penalty of the weight of one row holds slopes near 1 and offsets near 0: without it a label that is absent, or
    always right, would run off to infinity.

    Args:
        probabilities: FP [n, labels]
        labels: INT [n]
    """
    logits = logs(probabilities)
    count = logits.shape[1]
    truth = np.eye(count)[labels]
    neutral = np.repeat([1.0, 0.0], count)

    def loss(weights: Array) -> tuple[float, Array]:
        scaled = weights[:count] * logits + weights[count:]
        wrong = np.exp(scaled - logsumexp(scaled, axis=1, keepdims=True)) - truth
        slope = np.concatenate([(wrong * logits).sum(0), wrong.sum(0)]) + 2 * (weights - neutral)
        return _log_loss(scaled, labels) + ((weights - neutral) ** 2).sum() / len(labels), slope / len(labels)

    weights = minimize(
        loss, neutral, jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
    )
    return Vector(weights.x[:count].tolist(), weights.x[count:].tolist())


def platt(probabilities: Array, labels: Array) -> Platt:
    """Fit a sigmoid on each label's log-odds against the rest.

    Targets are a little off 0 and 1 by how many rows there are, which keeps the sigmoid finite: Platt, Probabilistic
    Outputs for Support Vector Machines (1999), section 2.2.

    Args:
        probabilities: FP [n, labels]
        labels: INT [n]
    """
    lines = [_sigmoid(odds, labels == label) for label, odds in enumerate(log_odds(probabilities).T)]
    return Platt([slope for slope, _ in lines], [offset for _, offset in lines])


def isotonic(probabilities: Array, labels: Array) -> Isotonic:
    """Fit a rising line for each label against the rest, which never says 0 or 1: one row more could prove it wrong.

    Args:
        probabilities: FP [n, labels]
        labels: INT [n]
    """
    least = 1 / (len(labels) + 2)
    raw, calibrated = [], []
    for label, column in enumerate(probabilities.T.astype(np.float64)):
        line = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(column, labels == label)
        raw.append(line.X_thresholds_.tolist())
        calibrated.append(line.y_thresholds_.tolist())
    return Isotonic(raw, calibrated)


def _none(probabilities: Array, labels: Array) -> Uncalibrated:
    return Uncalibrated()


def fit(
    name: CalibratorName,
    probabilities: Array,
    labels: Array,
    texts: Texts = Texts(),  # noqa: B008  frozen
) -> Calibrator:
    """Fit a calibrator by its name. One that goes by length is one temperature where rows fill no two buckets.

    Args:
        name: of the calibrator
        probabilities: FP [n, labels]
        labels: INT [n]
        texts: of the n rows
    """
    if name != "temperature_by_length":
        return FIT[name](probabilities, labels)
    if not texts.bounds or texts.lengths is None:
        return temperature(probabilities, labels)
    return temperature_by_length(probabilities, labels, texts.lengths, texts.bounds)


FIT: dict[CalibratorName, Callable[[Array, Array], Calibrator]] = {
    "none": _none,
    "temperature": temperature,
    "vector": vector,
    "platt": platt,
    "isotonic": isotonic,
}
"""Those that read probabilities alone, in the order of how much they can bend."""


def _sigmoid(odds: Array, positive: Array) -> tuple[float, float]:
    count = positive.sum()
    target = np.where(positive, (count + 1) / (count + 2), 1 / (len(positive) - count + 2))

    def loss(line: Array) -> tuple[float, Array]:
        score = line[0] * odds + line[1]
        wrong = 0.5 * (1 + np.tanh(score / 2)) - target
        return float((np.logaddexp(0, score) - target * score).mean()), np.array([(wrong * odds).mean(), wrong.mean()])

    # Below 0 a label would be the less likely the more its members say it.
    limits = [(0.0, None), (None, None)]
    line = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=limits, options={"ftol": 1e-14})
    return float(line.x[0]), float(line.x[1])


def _log_loss(logits: Array, labels: Array) -> float:
    return float((logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]).mean())
