"""Fit the linear layer of an encoder, frozen or tuned before, on the states that it gave for every row."""

from pathlib import Path

import numpy as np
from msgspec.structs import replace

from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble.balance import equal
from newsdesk.build.ensemble.folds import folds
from newsdesk.build.evaluation.metrics import is_worse, softmax, summary
from newsdesk.build.recipe import EncoderMember, Frozen
from newsdesk.build.training import contrastive, frozen, trainer
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
    tuned: bool = False,
) -> FitFigures:
    """Fit the linear layer on `rows`, and write the checkpoint to `folder`.

    Args:
        member: the encoder, whose layer it is
        labels: their names, in the order of the outputs
        rows: to fit on
        validation: rows that are only measured
        seed: of the folds that choose the cost, and of the tuning
        folder: where the files go
        states: the rows' pooled states of the encoder as it was pretrained, FP32 [rows, hidden]
        lengths: tokens of each row, INT [rows]
        cost: scikit-learn's C; without it a cross-validation chooses
        tuned: whether the encoder is tuned on the rows before (`contrastive`)

    Returns:
        The figures; those of the validation rows decide nothing.
    """
    truth, weights = truths(rows)
    soft = softs(rows, len(labels))
    if cost is None:
        parts = folds(truth, _COST_FOLDS, seed)
        cost, _ = frozen.out_of_fold(member, len(labels), lambda _: states, truth, weights, parts, soft)
    encoder = None
    if tuned:
        texts = [row.text for row in rows]
        encoder = contrastive.tune(member, texts, truth, seed)
        states = contrastive.states(member, encoder, texts)
    head = frozen.fit(states, truth, len(labels), cost=cost, balanced=member.balanced, weights=weights, soft=soft)
    frozen.save(member, labels, head, folder, encoder)
    window = trainer.window(lengths.tolist(), member.max_length)
    answers = softmax(trainer.logits(folder / trainer.CHECKPOINT, [row.text for row in validation], window))
    judged = summary(answers, np.array([row.label for row in validation]))
    return FitFigures(
        rows=len(rows),
        device=trainer.device(),
        window=window,
        cost=cost,
        tuned=tuned,
        validation=ValidationScores.of(judged),
    )


def out_of_fold(
    member: EncoderMember,
    count: int,
    rows: list[Row],
    states: Array,
    parts: list[Array],
    seed: int,
) -> tuple[Array, float, bool]:
    """Return logits FP32 [rows, count] of each part by fits that never saw it, the cost, and whether they were tuned.

    An encoder that may be tuned is tuned without each of a few larger parts. The tuned ones answer unless their
    calibrated log-loss is worse by a standard error than that of the encoder as it was pretrained: they learned from
    fewer rows, and a few dozen rows can't tell.

    Args:
        member: the encoder
        count: of labels
        rows: all rows
        states: their pooled states, of the encoder as it was pretrained, FP32 [rows, hidden]
        parts: numbers of rows, as of `frozen.out_of_fold`
        seed: of the tuning
    """
    truth, weights = truths(rows)
    soft = softs(rows, count)
    cost, logits = frozen.out_of_fold(member, count, lambda _: states, truth, weights, parts, soft)
    if not member.tries_contrastive(len(rows)):
        return logits, cost, False
    assert member.contrastive
    texts = [row.text for row in rows]

    def tuned_without(part: Array) -> Array:
        rest = np.setdiff1d(np.arange(len(rows)), part)
        encoder = contrastive.tune(member, [texts[i] for i in rest], truth[rest], seed)
        return contrastive.states(member, encoder, texts)

    judged = np.concatenate(parts)
    larger = [judged[part] for part in folds(truth[judged], member.contrastive.folds, seed)]
    at_cost = replace(member, frozen=Frozen(costs=(member.contrastive.cost,)))
    its_cost, its_logits = frozen.out_of_fold(at_cost, count, tuned_without, truth, weights, larger, soft)
    counts = equal(truth[judged]) if member.balanced else None
    plain, tuned = (
        frozen.calibrated_losses(of_rows[judged], truth[judged], counts) for of_rows in (logits, its_logits)
    )
    worse = is_worse(tuned, plain, errors=1, weights=counts)
    return (logits, cost, False) if worse else (its_logits, its_cost, True)
