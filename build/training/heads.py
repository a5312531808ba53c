"""Fit the linear layer of an encoder that stays frozen, on the states that it gave once for every row."""

from pathlib import Path

import numpy as np

from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble.folds import folds
from newsdesk.build.evaluation.metrics import softmax, summary
from newsdesk.build.recipe import EncoderMember
from newsdesk.build.training import frozen, trainer
from newsdesk.build.training.figures import FitFigures, ValidationScores
from newsdesk.build.training.linear import softs, truths
from newsdesk.server.runtime.arrays import Array

STATES, LENGTHS = "states.npy", "lengths.npy"
"""FP32 [rows, hidden], and the tokens of each row."""
_COST_FOLDS = 3


def train(
    member: EncoderMember,
    labels: list[str],
    rows: list[Row],
    validation: list[Row],
    seed: int,
    folder: Path,
    *,
    states: Array,
    lengths: Array,
    cost: float | None = None,
) -> FitFigures:
    """Fit the linear layer on `rows`, and write the checkpoint to `folder`.

    Args:
        member: the encoder, whose layer it is
        labels: their names, in the order of the outputs
        rows: to fit on
        validation: rows that are only measured
        seed: of the folds that choose the cost
        folder: where the files go
        states: the rows' pooled states, FP32 [rows, hidden]
        lengths: tokens of each row, INT [rows]
        cost: scikit-learn's C; without it a cross-validation chooses

    Returns:
        The figures; those of the validation rows decide nothing.
    """
    truth, weights = truths(rows)
    soft = softs(rows, len(labels))
    if cost is None:
        parts = folds(truth, _COST_FOLDS, seed)
        cost, _ = frozen.out_of_fold(member, len(labels), states, truth, weights, parts, soft)
    head = frozen.fit(states, truth, len(labels), cost=cost, balanced=member.balanced, weights=weights, soft=soft)
    frozen.save(member, labels, head, folder)
    window = trainer.window(lengths.tolist(), member.max_length)
    answers = softmax(trainer.logits(folder / trainer.CHECKPOINT, [row.text for row in validation], window))
    judged = summary(answers, np.array([row.label for row in validation]))
    return FitFigures(
        rows=len(rows),
        device=trainer.device(),
        window=window,
        cost=cost,
        validation=ValidationScores.of(judged),
    )
