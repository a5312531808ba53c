"""Measures of a classifier on probabilities [rows, classes] and labels [rows]."""

import numpy as np
from msgspec import Struct

from newsdesk.server.runtime.arrays import Array


class Summary(Struct, frozen=True, kw_only=True):
    """The measures that every stage records of its answers."""

    accuracy: float
    log_loss: float
    """In nats."""
    macro_f1: float


class LabelScores(Struct, frozen=True, kw_only=True):
    """A label's precision, recall and rows."""

    precision: float
    recall: float
    rows: int


def softmax(logits: Array) -> Array:
    """Return probabilities, FP64 [rows, classes]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def accuracy(probabilities: Array, labels: Array) -> float:
    """Return the share of rows whose most probable label is their own."""
    return float((probabilities.argmax(-1) == labels).mean())


def log_loss(probabilities: Array, labels: Array, weights: Array | None = None) -> float:
    """Return the mean negative log-likelihood, in nats; `weights` FP [rows] say how much each row counts."""
    return float(np.average(row_losses(probabilities, labels), weights=weights))


def row_losses(probabilities: Array, labels: Array) -> Array:
    """Return the negative log-likelihood of each row, in nats, FP [rows]."""
    return -np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-15, None))


def standard_error(values: Array, weights: Array | None = None) -> float:
    """Return the standard error of the mean of values FP [rows]; `weights` FP [rows] say how much each row counts."""
    if len(values) < 2:
        return 0.0
    if weights is None:
        return float(values.std(ddof=1) / np.sqrt(len(values)))
    return float(np.sqrt(((weights * (values - np.average(values, weights=weights))) ** 2).sum()) / weights.sum())


def is_worse(losses: Array, others: Array, errors: float, weights: Array | None = None) -> bool:
    """Tell whether losses are greater in the mean than others of the same rows.

    Args:
        losses: FP [rows]
        others: FP [rows]
        errors: standard errors of the difference that they must be apart
        weights: how much each row counts, FP [rows]
    """
    more = losses - others
    return bool(len(more) > 1 and np.average(more, weights=weights) > errors * standard_error(more, weights))


def calibration_error(probabilities: Array, labels: Array, bins: int = 15) -> float:
    """Return the expected calibration error of the top label, over bins of equal width.

    Guo et al., On Calibration of Modern Neural Networks (2017), equation 3.
    """
    top, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    gaps = np.bincount(np.minimum((top * bins).astype(int), bins - 1), top - right, bins)
    return float(np.abs(gaps).sum() / len(labels))


def auroc(scores_in: Array, scores_out: Array) -> float:
    """Return how often a row from outside scores higher than one from inside, ties by half: 0.5 is chance, 1 perfect.

    The area under the receiver operating characteristic, of scores FP [rows] that are to be high outside.
    """
    from sklearn.metrics import roc_auc_score

    outside = np.repeat([0, 1], [len(scores_in), len(scores_out)])
    return float(roc_auc_score(outside, np.concatenate([scores_in, scores_out])))


def macro_f1(probabilities: Array, labels: Array) -> float:
    """Return the unweighted mean of the classes' F1; a class that is neither there nor predicted counts 0."""
    from sklearn.metrics import f1_score

    classes = [*range(probabilities.shape[1])]
    return float(f1_score(labels, probabilities.argmax(-1), labels=classes, average="macro", zero_division=0))


def brier(probabilities: Array, labels: Array) -> float:
    """Return the mean squared distance of the probabilities from the label's own, 0 to 2 (Brier 1950)."""
    distance = probabilities.astype(np.float64).copy()
    distance[np.arange(len(labels)), labels] -= 1
    return float((distance**2).sum(-1).mean())


def confusion(probabilities: Array, labels: Array) -> Array:
    """Return INT64 [classes, classes]: rows of a label (first axis) by the class that was named."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, probabilities.argmax(-1), labels=[*range(probabilities.shape[1])])


def per_label(probabilities: Array, labels: Array) -> list[LabelScores]:
    """Return each class's precision, recall and rows; 0 where nothing was predicted or there."""
    from sklearn.metrics import precision_recall_fscore_support

    classes = [*range(probabilities.shape[1])]
    precision, recall, _, rows = precision_recall_fscore_support(
        labels, probabilities.argmax(-1), labels=classes, zero_division=0
    )
    return [LabelScores(precision=float(precision[i]), recall=float(recall[i]), rows=int(rows[i])) for i in classes]


def agreement(a: Array, b: Array) -> float:
    """Return the share of rows on which two classifiers name the same class."""
    return float((a.argmax(-1) == b.argmax(-1)).mean())


def summary(probabilities: Array, labels: Array) -> Summary:
    """Return accuracy, log-loss in nats and macro F1 of probabilities FP [rows, labels] against labels INT [rows]."""
    return Summary(
        accuracy=accuracy(probabilities, labels),
        log_loss=log_loss(probabilities, labels),
        macro_f1=macro_f1(probabilities, labels),
    )
