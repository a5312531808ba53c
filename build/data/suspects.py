"""Rows whose labels are probably wrong: the model that never saw a row is sure that another label is right.

The scores are those of Northcutt, Jiang, Chuang: Confident Learning (2021), as cleanlab has them. A row's
self-confidence is the probability out of fold of its own label, and its margin is that less the largest of the others.
"""

import csv
from pathlib import Path

import numpy as np

from newsdesk.build.data.rows import Row
from newsdesk.server.runtime.arrays import Array

FILE = "suspects.csv"


def order(probabilities: Array, labels: Array) -> Array:
    """Return the numbers of rows, the likeliest to be labelled wrong first.

    By the margin: it also tells a row between two labels, which is hard, from one that is sure of the other label.

    Args:
        probabilities: out of fold, FP [rows, labels]
        labels: INT [rows]
    """
    return np.argsort(margins(probabilities, labels), kind="stable")


def margins(probabilities: Array, labels: Array) -> Array:
    """Return the probability of each row's label less the largest of the others, FP [rows]; lower is more suspect."""
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -1
    return probabilities[rows, labels] - others.max(1)


def suspects(probabilities: Array, labels: Array) -> Array:
    """Return the numbers of rows that confident learning finds to be labelled wrong, worst first, INT64 [suspects].

    A row is one where another label is at least as probable as it is, in the mean, for the rows that bear it, and where
    that label is the most probable one so.

    Args:
        probabilities: out of fold, FP [rows, labels]
        labels: INT [rows]
    """
    count = probabilities.shape[1]
    bears = [labels == label for label in range(count)]
    least = np.array([probabilities[of, label].mean() if of.any() else np.inf for label, of in enumerate(bears)])
    confident = np.where(probabilities >= least, probabilities, -1.0)
    named = confident.argmax(1)
    wrong = (confident.max(1) > 0) & (named != labels)
    return np.array([row for row in order(probabilities, labels) if wrong[row]], np.int64)


def texts(path: Path) -> list[str]:
    """Return the texts of a list that `write` wrote, worst first."""
    with path.open(encoding="utf-8", newline="") as file:
        return [line["text"] for line in csv.DictReader(file)]


def write(path: Path, rows: list[Row], names: list[str], probabilities: Array) -> int:
    """Write the suspects as CSV, worst first: text, label, likelier label, both probabilities; return how many."""
    labels = np.array([row.label for row in rows])
    listed = suspects(probabilities, labels)
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["text", "label", "likelier", "label_probability", "likelier_probability"])
        for row in listed:
            likelier = int(probabilities[row].argmax())
            shown = (f"{probabilities[row, label]:.4f}" for label in (labels[row], likelier))
            lines.writerow([rows[row].text, names[labels[row]], names[likelier], *shown])
    return len(listed)
