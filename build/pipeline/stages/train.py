"""Fit a member."""

from pathlib import Path

from msgspec.structs import replace

from newsdesk.build.data import tables
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.families import call, family
from newsdesk.build.pipeline.fits import Fold, rows_of
from newsdesk.build.recipe import EncoderMember, Member
from newsdesk.build.training.figures import FitFigures, TeachFigures
from newsdesk.build.training.soft_labels import SoftLabels


def train(
    folder: Path,
    say: Say,
    *,
    rows: Artifact,
    member: Member,
    seed: int,
    fold: Fold | None = None,
    taught: Artifact | None = None,
    pretrained: Artifact | None = None,
    apart: bool = False,
) -> FitFigures:
    """Fit one member. An encoder leaves `checkpoint/`, a `from_pretrained` folder; n-grams features and weights.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `split`
        member: that is fitted
        seed: of the training
        fold: the training rows that it is fitted without
        taught: the artifact of `teach`: soft labels
        pretrained: the artifact of `pretrain`, which the member starts from
        apart: whether the validation rows are among the training rows, and are left out since they end the training
    """
    soft_labels = SoftLabels.load(taught.path, taught.metrics(TeachFigures).new) if taught else None
    if soft_labels and fold:
        every = rows_of(rows, "train")
        soft_labels = soft_labels.without([row.text for row in every], fold.left_out(len(every)))
    if pretrained and isinstance(member, EncoderMember):
        member = replace(member, base=str(pretrained.path), min_piece_count=0)
    fitted, validation = rows_of(rows, "train", fold), rows_of(rows, "validation")
    if apart:
        texts = {row.text for row in validation}
        fitted = [row for row in fitted if row.text not in texts]
    labels = tables.read_labels(rows.path)
    return call(family(member).train, member, labels, fitted, validation, seed, folder, soft_labels)
