"""Fit calibrators on probabilities FP [n, labels] and labels INT [n].

Where weights FP [n] are given, of mean 1, they say how much each row counts.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp
from sklearn.isotonic import IsotonicRegression

from newsdesk.build.ensemble.balance import effective_rows
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


def temperature(probabilities: Array, labels: Array, weights: Array | None = None) -> Temperature:
    """Minimise the log-loss over temperatures from 0.05 to 20.

    Args:
        probabilities: FP [n, labels]
        labels: INT [n]
        weights: of the rows, FP [n]
    """
    logits = logs(probabilities)
    fitted = minimize_scalar(
        lambda log: _log_loss(logits / np.exp(log), labels, weights),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return Temperature(float(np.exp(fitted.x)))


def of_member(probabilities: Array, labels: Array, weights: Array | None) -> Temperature | Vector:
    """Fit what calibrates a member before it is combined: a temperature, and with weights an offset a label besides.

    A fit that balances labels still names the rare ones too seldom, since it has learned their few rows by heart; a
    temperature never changes which label comes first. Bias-corrected temperature scaling: Alexandari, Kundaje and
    Shrikumar, Maximum Likelihood with Bias-Corrected Calibration Is Hard-To-Beat at Label Shift Adaptation (2020). A
    penalty of the weight of one row holds the offsets near 0.

    Args:
        probabilities: FP [n, labels]
        labels: INT [n]
        weights: of the rows, FP [n]
    """
    start = temperature(probabilities, labels, weights)
    if weights is None:
        return start
    logits = logs(probabilities)
    count = logits.shape[1]
    truth = np.eye(count)[labels]
    share, penalty = weights / weights.sum(), 1 / effective_rows(len(labels), weights)

    def loss(fitted: Array) -> tuple[float, Array]:
        scaled = logits * np.exp(fitted[0]) + fitted[1:]
        wrong = (np.exp(scaled - logsumexp(scaled, axis=1, keepdims=True)) - truth) * share[:, None]
        slope = np.exp(fitted[0]) * (wrong * logits).sum()
        held = penalty * (fitted[1:] ** 2).sum()
        return _log_loss(scaled, labels, weights) + held, np.append(slope, wrong.sum(0) + 2 * penalty * fitted[1:])

    fitted = minimize(
        loss,
        np.append(-np.log(start.temperature), np.zeros(count)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-np.log(20), np.log(20)), *[(None, None)] * count],
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000},
    ).x
    return Vector([float(np.exp(fitted[0]))] * count, fitted[1:].tolist())


def temperature_by_length(
    probabilities: Array, labels: Array, lengths: Array, bounds: list[int], weights: Array | None = None
) -> TemperatureByLength:
    """Fit a temperature for each bucket of lengths.

    Args:
        probabilities: FP [n, labels]
        labels: INT [n]
        lengths: of the texts in words, INT [n]
        bounds: between the buckets, in words; every bucket has rows
        weights: of the rows, FP [n]
    """
    place = by_words.buckets(lengths, bounds)
    buckets = [place == bucket for bucket in range(len(bounds) + 1)]
    fitted = [
        temperature(probabilities[among], labels[among], None if weights is None else weights[among])
        for among in buckets
    ]
    return TemperatureByLength(bounds, [line.temperature for line in fitted])


def vector(probabilities: Array, labels: Array, weights: Array | None = None) -> Vector:
    """Minimise the log-loss over a slope and an offset a label.

    A penalty of the weight of one row holds slopes near 1 and offsets near 0: without it a label that is absent, or
    always right, would run off to infinity.

    Args:
        probabilities: FP [n, labels]
        labels: INT [n]
        weights: of the rows, FP [n]
    """
    logits = logs(probabilities)
    count, rows = logits.shape[1], len(labels)
    truth = np.eye(count)[labels]
    neutral = np.repeat([1.0, 0.0], count)
    penalty = rows / effective_rows(rows, weights)

    def loss(line: Array) -> tuple[float, Array]:
        scaled = line[:count] * logits + line[count:]
        wrong = np.exp(scaled - logsumexp(scaled, axis=1, keepdims=True)) - truth
        wrong = wrong if weights is None else wrong * weights[:, None]
        slope = np.concatenate([(wrong * logits).sum(0), wrong.sum(0)]) + 2 * penalty * (line - neutral)
        return _log_loss(scaled, labels, weights) + penalty * ((line - neutral) ** 2).sum() / rows, slope / rows

    fitted = minimize(
        loss, neutral, jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
    )
    return Vector(fitted.x[:count].tolist(), fitted.x[count:].tolist())


def platt(probabilities: Array, labels: Array, weights: Array | None = None) -> Platt:
    """Fit a sigmoid on each label's log-odds against the rest.

    Targets are a little off 0 and 1 by how many rows there are, which keeps the sigmoid finite: Platt, Probabilistic
    Outputs for Support Vector Machines (1999), section 2.2.

    Args:
        probabilities: FP [n, labels]
        labels: INT [n]
        weights: of the rows, FP [n]
    """
    lines = [_sigmoid(odds, labels == label, weights) for label, odds in enumerate(log_odds(probabilities).T)]
    return Platt([slope for slope, _ in lines], [offset for _, offset in lines])


def isotonic(probabilities: Array, labels: Array, weights: Array | None = None) -> Isotonic:
    """Fit a rising line for each label against the rest, which never says 0 or 1: one row more could prove it wrong.

    Args:
        probabilities: FP [n, labels]
        labels: INT [n]
        weights: of the rows, FP [n]
    """
    least = 1 / (len(labels) + 2)
    raw, calibrated = [], []
    for label, column in enumerate(probabilities.T.astype(np.float64)):
        line = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
        line.fit(column, labels == label, sample_weight=weights)
        raw.append(line.X_thresholds_.tolist())
        calibrated.append(line.y_thresholds_.tolist())
    return Isotonic(raw, calibrated)


def _none(probabilities: Array, labels: Array, weights: Array | None = None) -> Uncalibrated:
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
        return FIT[name](probabilities, labels, texts.weights)
    if not texts.bounds or texts.lengths is None:
        return temperature(probabilities, labels, texts.weights)
    return temperature_by_length(probabilities, labels, texts.lengths, texts.bounds, texts.weights)


FIT: dict[CalibratorName, Callable[..., Calibrator]] = {
    "none": _none,
    "temperature": temperature,
    "vector": vector,
    "platt": platt,
    "isotonic": isotonic,
}
"""Those that read probabilities alone, in the order of how much they can bend."""


def _sigmoid(odds: Array, positive: Array, weights: Array | None) -> tuple[float, float]:
    count = positive.sum()
    target = np.where(positive, (count + 1) / (count + 2), 1 / (len(positive) - count + 2))
    share = np.ones(len(positive)) if weights is None else weights

    def loss(line: Array) -> tuple[float, Array]:
        score = line[0] * odds + line[1]
        wrong = 0.5 * (1 + np.tanh(score / 2)) - target
        missed = share * (np.logaddexp(0, score) - target * score)
        return float(missed.mean()), np.array([(share * wrong * odds).mean(), (share * wrong).mean()])

    # Below 0 a label would be the less likely the more its members say it.
    limits = [(0.0, None), (None, None)]
    line = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=limits, options={"ftol": 1e-14})
    return float(line.x[0]), float(line.x[1])


def _log_loss(logits: Array, labels: Array, weights: Array | None) -> float:
    missed = logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
    return float(np.average(missed, weights=weights))
