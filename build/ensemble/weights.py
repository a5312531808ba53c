"""Fit the rules that are no models: weights, posteriors, and where a probability stands among others."""

import numpy as np
from scipy.optimize import minimize

from newsdesk.build.ensemble.balance import effective_rows
from newsdesk.server.runtime import lengths as by_words
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.combine import FLOOR, Bayes, ByLength, Ranks, Weighted

_LEAST = 1e-6
"""The least weight under a penalty, whose logarithm must be finite."""
_NOTHING = 0.02
"""A weight by length below it is none, and the member need not be asked for it."""


def weighted(members: Array, labels: Array, row_weights: Array | None = None, even_rows: float = 0) -> Weighted:
    """Fit weights, none negative and of sum one, that minimise the log-loss.

    The loss is convex in the weights: sequential least squares from equal ones ends at the best there are. A penalty
    of the weight of `even_rows` rows, the mean of -log of the weights, holds them near equal ones (a Dirichlet prior):
    of few rows the best member may be so by chance.

    Args:
        members: probabilities, FP [members, n, labels]
        labels: INT [n]
        row_weights: how much each row counts, FP [n]; None: all alike
        even_rows: 0: no penalty
    """
    of_true = _of_true(members, labels)
    count = len(members)
    if count == 1:
        return Weighted([1.0])
    held = even_rows / effective_rows(len(labels), row_weights)

    def loss(weights: Array) -> tuple[float, Array]:
        pooled = np.maximum(weights @ of_true, FLOOR)
        missed, slopes = -np.log(pooled), -(of_true / pooled)
        mean, slope = float(np.average(missed, weights=row_weights)), np.average(slopes, axis=1, weights=row_weights)
        if not held:
            return mean, slope
        return mean - held * float(np.log(weights).mean()), slope - held / (count * weights)

    fitted = minimize(
        loss,
        np.full(count, 1 / count),
        jac=True,
        method="SLSQP",
        bounds=[(_LEAST if held else 0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    weights = np.clip(fitted.x, 0, None)
    return Weighted((weights / weights.sum()).tolist())


def by_length(
    members: Array, labels: Array, lengths: Array, bounds: list[int], row_weights: Array | None = None
) -> ByLength:
    """Fit weights as `weighted` for each bucket of lengths.

    Args:
        members: probabilities, FP [members, n, labels]
        labels: INT [n]
        lengths: of the texts in words, INT [n]
        bounds: between the buckets, in words; every bucket has rows
        row_weights: as of `weighted`
    """
    place = by_words.buckets(lengths, bounds)
    fitted = []
    for bucket in range(len(bounds) + 1):
        among = place == bucket
        of_rows = None if row_weights is None else row_weights[among]
        of_bucket = np.array(weighted(members[:, among], labels[among], of_rows).weights)
        kept = np.where(of_bucket < _NOTHING, 0, of_bucket)
        fitted.append((kept / kept.sum()).tolist())
    return ByLength(bounds, fitted)


def bayes(members: Array, labels: Array, rows: float, row_weights: Array | None = None) -> Bayes:
    """Return the members' posterior probabilities under equal priors, from their likelihood of the labels.

    No member is the truth, and the full likelihood of thousands of rows would trust one of them alone. It is raised to
    the power rows / (rows + n): it weighs as that of `rows` rows at most. Miller and Dunson, Robust Bayesian Inference
    via Coarsening (2019), section 2.

    Args:
        members: probabilities, FP [members, n, labels]
        labels: INT [n]
        rows: that the likelihood weighs as at most
        row_weights: as of `weighted`
    """
    power = rows / (rows + len(labels))
    likely = np.log(np.maximum(_of_true(members, labels), FLOOR))
    logs = power * (likely if row_weights is None else likely * row_weights).sum(1)
    posterior = np.exp(logs - logs.max())
    return Bayes((posterior / posterior.sum()).tolist())


def ranks(members: Array, most: int = 65) -> Ranks:
    """Return where probabilities stand among members' own: rows below, ties by half, over rows.

    Args:
        members: probabilities, FP [members, n, labels]
        most: values of a member and label that are kept, evenly by rank
    """
    lines = [[_line(column, most) for column in of_member.T] for of_member in members]
    return Ranks([[line[0] for line in of_member] for of_member in lines], [[line[1] for line in m] for m in lines])


def _line(column: Array, most: int) -> tuple[list[float], list[float]]:
    values, counts = np.unique(column.astype(np.float64), return_counts=True)
    standing = (np.cumsum(counts) - counts / 2) / len(column)
    if len(values) > most:
        nearest = np.searchsorted(standing, np.linspace(standing[0], standing[-1], most))
        kept = np.unique(np.clip(nearest, 0, len(values) - 1))
        values, standing = values[kept], standing[kept]
    return values.tolist(), standing.tolist()


def _of_true(members: Array, labels: Array) -> Array:
    """Return what each member gave the true label, FP64 [members, n]."""
    return members[:, np.arange(len(labels)), labels].astype(np.float64)
