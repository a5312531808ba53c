"""Measures of a classifier on probabilities [rows, classes] and labels [rows]."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, FP64 [rows, classes]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float((probabilities.argmax(-1) == labels).mean())


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-likelihood, in nats."""
    return float(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-15, None)).mean())


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error of the top label, over bins of equal width.

    Guo et al., On Calibration of Modern Neural Networks (2017), equation 3.
    """
    top, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    gaps = np.bincount(np.minimum((top * bins).astype(int), bins - 1), top - right, bins)
    return float(np.abs(gaps).sum() / len(labels))


def auroc(scores_in: np.ndarray, scores_out: np.ndarray) -> float:
    """Return how often a row from outside scores higher than one from inside, ties by half: 0.5 is chance, 1 perfect.

    The area under the receiver operating characteristic, of scores FP [rows] that are to be high outside.
    """
    from sklearn.metrics import roc_auc_score

    outside = np.repeat([0, 1], [len(scores_in), len(scores_out)])
    return float(roc_auc_score(outside, np.concatenate([scores_in, scores_out])))


def macro_f1(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the unweighted mean of the classes' F1; a class that is neither there nor predicted counts 0."""
    predicted = probabilities.argmax(-1)
    scores = []
    for label in range(probabilities.shape[1]):
        hits = ((predicted == label) & (labels == label)).sum()
        total = (predicted == label).sum() + (labels == label).sum()
        scores.append(2 * hits / total if total else 0.0)
    return float(np.mean(scores))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean squared distance of the probabilities from the label's own, 0 to 2 (Brier 1950)."""
    given = probabilities.astype(np.float64).copy()
    given[np.arange(len(labels)), labels] -= 1
    return float((given**2).sum(-1).mean())


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return INT64 [classes, classes]: rows of a label (first axis) by the class that was named."""
    counts = np.zeros((probabilities.shape[1],) * 2, np.int64)
    np.add.at(counts, (labels, probabilities.argmax(-1)), 1)
    return counts


def per_label(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """Return each class's precision, recall and rows; 0 where nothing was predicted or there."""
    counts = confusion(probabilities, labels)
    return [
        {
            "precision": float(counts[i, i] / max(counts[:, i].sum(), 1)),
            "recall": float(counts[i, i] / max(counts[i].sum(), 1)),
            "rows": int(counts[i].sum()),
        }
        for i in range(len(counts))
    ]


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of rows on which two classifiers name the same class."""
    return float((a.argmax(-1) == b.argmax(-1)).mean())


def summary(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return accuracy, log_loss and macro_f1."""
    measures = accuracy, log_loss, macro_f1
    return {measure.__name__: measure(probabilities, labels) for measure in measures}
