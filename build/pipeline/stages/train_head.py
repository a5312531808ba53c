"""Fit the linear layer of an encoder that stays frozen, or was tuned by `contrastive` before."""

from pathlib import Path

import numpy as np

from newsdesk.build.data import tables
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.fits import rows_of
from newsdesk.build.recipe import EncoderMember
from newsdesk.build.training import heads
from newsdesk.build.training.figures import FitFigures, OutOfFoldFigures


def train_head(
    folder: Path,
    say: Say,
    *,
    rows: Artifact,
    embedded: Artifact,
    states: Artifact,
    out_of_fold: Artifact | None = None,
    member: EncoderMember,
    seed: int,
) -> FitFigures:
    """Leave `checkpoint/`, a `from_pretrained` folder, and return the figures of `heads.train`.

    Args:
        folder: where the files go
        say: shows a line
        rows: the rows to fit on: some or all of those that the encoder read
        embedded: the artifact of `split`, whose training rows the encoder read
        states: the artifact of `embed`
        out_of_fold: the artifact of `out-of-fold`, whose fits chose the cost, and whether to tune; without it the
            cost is chosen here, and nothing is tuned
        member: the encoder
        seed: of the tuning, and of the folds where the cost is chosen here
    """
    fitted = rows_of(rows, "train")
    places = {row.text: place for place, row in enumerate(rows_of(embedded, "train"))}
    kept = [places[row.text] for row in fitted]
    asked = out_of_fold.metrics(OutOfFoldFigures) if out_of_fold else None
    return heads.train(
        member,
        tables.read_labels(rows.path),
        fitted,
        rows_of(rows, "validation"),
        seed,
        folder,
        states=np.load(states / heads.STATES)[kept],
        lengths=np.load(states / heads.LENGTHS)[kept],
        cost=asked.cost if asked else None,
        tuned=asked.tuned if asked else False,
    )
