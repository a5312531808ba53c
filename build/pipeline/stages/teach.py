"""Ask fitted teachers about every training row, and about the excerpts and texts that their pupil's recipe has."""

from pathlib import Path

import numpy as np

from newsdesk.build.data import excerpts, unlabelled
from newsdesk.build.evaluation.metrics import accuracy
from newsdesk.build.pipeline.artifacts import SCRATCH, Artifact, Say
from newsdesk.build.pipeline.fits import MemberFit, ask, rows_of
from newsdesk.build.recipe import Source
from newsdesk.build.training.figures import FitFigures, TeachFigures
from newsdesk.build.training.soft_labels import SoftLabels


def teach(
    folder: Path,
    say: Say,
    *,
    rows: Artifact,
    teachers: dict[str, Artifact],
    fits: list[MemberFit],
    with_excerpts: bool,
    source: Source | None,
    seed: int,
) -> TeachFigures:
    """Leave the mean of the teachers' probabilities: `SoftLabels`.

    An answer that a teacher gave before an interruption is not asked for again.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `split`
        teachers: the artifacts of their trainings, by the names of `fits`
        fits: the teachers'
        with_excerpts: whether excerpts of the training rows are labelled, too
        source: more texts to label; those of any split are passed over
        seed: of where the excerpts are cut
    """
    labelled = rows_of(rows, "train")
    texts = unlabelled.texts(source, rows.path) if source else []
    new = len(texts)
    texts += excerpts.cut(labelled, seed) if with_excerpts else []
    own = [row.text for row in labelled]
    answers = [ask(fit, teachers[fit.name], own, texts, folder / SCRATCH) for fit in fits]
    of_rows, of_texts = (np.nanmean(by_teacher, axis=0) for by_teacher in zip(*answers, strict=True))
    SoftLabels(of_rows, texts, of_texts, new).save(folder)
    return TeachFigures(
        teachers={fit.name: teachers[fit.name].metrics(FitFigures).validation for fit in fits},
        rows=len(labelled),
        new=new,
        excerpts=len(texts) - new,
        accuracy_on_training_rows=accuracy(of_rows, np.array([row.label for row in labelled])),
    )
