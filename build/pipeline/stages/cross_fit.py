"""Keep the out-of-fold predictions of a member: fits that never saw a row calibrate the one that serves."""

from pathlib import Path

import numpy as np
from msgspec import structs

from newsdesk.build.ensemble.out_of_fold import OutOfFold
from newsdesk.build.evaluation.metrics import Summary, summary
from newsdesk.build.pipeline.artifacts import SCRATCH, Artifact, Say
from newsdesk.build.pipeline.fits import MemberFit, ask, rows_of
from newsdesk.server.runtime.lengths import words


class CrossFitFigures(Summary, frozen=True, kw_only=True):
    """The out-of-fold predictions that calibrate a member."""

    folds: int
    rows: int


def cross_fit(
    folder: Path, say: Say, *, rows: Artifact, fitted: dict[str, Artifact], fits: list[MemberFit]
) -> CrossFitFigures:
    """Leave a `OutOfFold` of the training rows that might have become validation rows, since others look different.

    The fits of the folds have seen fewer rows than the one that serves, and err a little more: a calibration by them is
    cautious by as much.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `split`
        fitted: the artifacts of the folds' trainings, by the names of `fits`
        fits: those of the folds
    """
    train = rows_of(rows, "train")
    texts = [row.text for row in train]
    answers = [ask(fit, fitted[fit.name], texts, [], folder / SCRATCH)[0] for fit in fits]
    alike = np.array([row.eligible for row in train])
    kept = OutOfFold(
        np.nanmean(answers, axis=0)[alike], np.array([row.label for row in train])[alike], words(texts)[alike]
    )
    kept.save(folder)
    scores = structs.asdict(summary(kept.probabilities, kept.labels))
    return CrossFitFigures(folds=len(fits), rows=len(kept.labels), **scores)
