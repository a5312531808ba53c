"""Fit a linear member on all rows, or without each part of them in turn."""

from pathlib import Path

import numpy as np

from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.metrics import softmax, summary
from newsdesk.build.members.linear import Counted, fit
from newsdesk.build.progress import track
from newsdesk.build.recipe import LinearMember
from newsdesk.build.training.figures import FitFigures, ValidationScores
from newsdesk.server.runtime.arrays import Array


def train(
    member: LinearMember,
    labels: list[str],
    rows: list[Row],
    validation: list[Row],
    seed: int,
    folder: Path,
    soft_labels: None = None,
) -> FitFigures:
    """Fit the member on `rows`; write terms.json and linear.safetensors to `folder`. It has no teachers.

    The validation rows decide nothing.
    """
    counted = Counted.of([row.text for row in rows], member.linear)
    truth, weights = truths(rows)
    linear = fit(
        counted,
        truth,
        len(labels),
        member.linear,
        balanced=member.balanced,
        weights=weights,
        soft=softs(rows, len(labels)),
        seed=seed,
    )
    linear.save(folder)
    probabilities = softmax(linear.logits([row.text for row in validation]))
    judged = summary(probabilities, np.array([row.label for row in validation]))
    return FitFigures(rows=len(rows), terms=linear.terms.rows, validation=ValidationScores.of(judged))


def out_of_fold(member: LinearMember, count: int, rows: list[Row], parts: list[Array], seed: int) -> Array:
    """Return logits FP32 [rows, count], of each part by a fit that never saw it.

    Args:
        member: that is fitted
        count: of labels
        rows: of all parts
        parts: numbers of rows; rows of no part keep logits of 0
        seed: of the fits
    """
    counted = Counted.of([row.text for row in rows], member.linear)
    truth, weights = truths(rows)
    soft = softs(rows, count)
    logits = np.zeros((len(rows), count), np.float32)
    for part in track(parts, f"{member.name}, without each part"):
        rest = np.setdiff1d(np.arange(len(rows)), part)
        fitted = fit(
            counted.take(rest),
            truth[rest],
            count,
            member.linear,
            balanced=member.balanced,
            weights=weights[rest],
            soft=None if soft is None else soft[rest],
            seed=seed,
        )
        logits[part] = fitted.of_counts(counted.take(part))
    return logits


def truths(rows: list[Row]) -> tuple[Array, Array]:
    """Return the rows' labels INT64 [rows] and weights FP64 [rows]."""
    return np.array([row.label for row in rows], np.int64), np.array([row.weight for row in rows])


def softs(rows: list[Row], count: int) -> Array | None:
    """Return the rows' probabilities FP64 [rows, count], 1 of a label that is certain; None where all are."""
    if not any(row.soft for row in rows):
        return None
    return np.array([row.soft or np.eye(count)[row.label] for row in rows])
