"""Ask a member about rows that it was not fitted on: out_of_fold.npz."""

from pathlib import Path

import numpy as np
from msgspec import structs

from newsdesk.build.compile.answers import Answers
from newsdesk.build.data import splits, tables
from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble.folds import folds as deal
from newsdesk.build.evaluation.metrics import softmax, summary
from newsdesk.build.pipeline.artifacts import SCRATCH, Artifact, Say
from newsdesk.build.pipeline.evidence import OUT_OF_FOLD
from newsdesk.build.pipeline.families import call, family
from newsdesk.build.pipeline.fits import rows_of
from newsdesk.build.recipe import EncoderMember, LinearMember, Member
from newsdesk.build.training import linear
from newsdesk.build.training.figures import OutOfFoldFigures
from newsdesk.server.runtime.arrays import Array


def out_of_fold(
    folder: Path, say: Say, *, rows: Artifact, states: Artifact | None = None, member: Member, folds: int, seed: int
) -> OutOfFoldFigures:
    """Fit a member without each part of the rows, and keep its answers to that part: `Answers`, NaN for other rows.

    A label with one row is in every fit, and its row is not asked about. An encoder that is fine-tuned is fitted once,
    without the first part, and asked about that part alone: each fit takes minutes.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `split`
        states: the artifact of `embed`, of an encoder that stays frozen
        member: that is fitted
        folds: into so many parts the rows are dealt
        seed: of the parts and the fits
    """
    every, names = rows_of(rows, "train"), tables.read_labels(rows.path)
    parts = _parts(every, folds, seed)
    truth, _ = linear.truths(every)
    cost, tuned = None, False
    if isinstance(member, LinearMember):
        logits = linear.out_of_fold(member, len(names), every, parts, seed)
    elif isinstance(member, EncoderMember) and states:
        from newsdesk.build.training import heads

        logits, cost, tuned = heads.out_of_fold(member, len(names), every, np.load(states / heads.STATES), parts, seed)
        if tuned:
            say(f"  {member.name}: fine-tuned, which names other rows no less surely")
    else:
        parts = parts[:1] if isinstance(member, EncoderMember) else parts
        logits = _refitted(member, names, every, parts, seed, folder / SCRATCH)
    asked = np.concatenate(parts)
    probabilities = np.full(logits.shape, np.nan)
    probabilities[asked] = softmax(logits[asked])
    Answers(probabilities, np.ones(len(every), np.int64)).save(folder / OUT_OF_FOLD)
    scores = structs.asdict(summary(probabilities[asked], truth[asked]))
    return OutOfFoldFigures(rows=len(asked), cost=cost, tuned=tuned, **scores)


def _parts(rows: list[Row], count: int, seed: int) -> list[Array]:
    """Return the numbers of rows of each part, stratified by label; a label's only row is in none."""
    truth = np.array([row.label for row in rows])
    several = np.flatnonzero(np.bincount(truth)[truth] > 1)
    return [several[part] for part in deal(truth[several], count, seed)]


def _refitted(member: Member, names: list[str], rows: list[Row], parts: list[Array], seed: int, scratch: Path) -> Array:
    """Return logits FP32 [rows, labels] of members that are fitted in epochs. A tenth of the rows ends the training."""
    kind = family(member)
    logits = np.zeros((len(rows), len(names)), np.float32)
    for number, part in enumerate(parts):
        folder = scratch / f"without-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        rest = [rows[i] for i in np.setdiff1d(np.arange(len(rows)), part)]
        stopping = splits.draw(rest, len(rest) // 10, seed)
        texts = {row.text for row in stopping}
        learned = [row for row in rest if row.text not in texts]
        figures = call(kind.train, member, names, learned, stopping, seed, folder, None)
        asked = [rows[i].text for i in part]
        logits[part] = call(kind.logits, folder / kind.fitted, asked, figures.window, True)
    return logits
