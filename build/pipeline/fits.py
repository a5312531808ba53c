"""A fit of a member: the weights that one training left. The rows that fits are made and measured on."""

from pathlib import Path

import msgspec
import numpy as np

from newsdesk.build.data import tables, views
from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.metrics import softmax
from newsdesk.build.pipeline.artifacts import Artifact
from newsdesk.build.pipeline.families import FAMILIES, MemberKind, call
from newsdesk.build.training.figures import FitFigures
from newsdesk.server.runtime.arrays import Array


class Fold(msgspec.Struct, frozen=True):
    """A part of the training rows that a fit is made without: every `count`-th from `number` on."""

    number: int
    count: int

    def left_out(self, rows: int) -> Array:
        """Return which of so many training rows are the fold's, BOOL [rows]."""
        return np.arange(rows) % self.count == self.number


class MemberFit(msgspec.Struct, frozen=True, kw_only=True):
    """The fit of a member's training: one may leave several."""

    name: str
    kind: str
    snapshot: int = 0
    """Counted from 1; 0 where the training leaves one model."""
    fold: Fold | None = None
    """The member is fitted without it. None: on all rows."""

    @property
    def family(self) -> MemberKind:
        """The member's kind."""
        return FAMILIES[self.kind]

    def window(self, trained: Artifact) -> int:
        """Return the tokens read at once, as the manifest has it: 0 for texts that are read whole."""
        return trained.metrics(FitFigures).window if self.family.windowed else 0

    def fitted(self, trained: Artifact) -> Path:
        """Return the folder with the fitted model."""
        return trained / (f"snapshot-{self.snapshot}" if self.snapshot else self.family.fitted)

    def logits(self, trained: Artifact, texts: list[str], exact: bool = True) -> Array:
        """Return the fitted model's own logits, FP32 [texts, labels]; not `exact`, in bf16 where that is faster."""
        return call(self.family.logits, self.fitted(trained), texts, self.window(trained), exact)

    def left_out(self, rows: int) -> Array:
        """Return which of so many training rows the fit is asked about, BOOL [rows]: all of them without a fold."""
        return self.fold.left_out(rows) if self.fold else np.ones(rows, bool)


def ask(fit: MemberFit, trained: Artifact, rows: list[str], texts: list[str], folder: Path) -> tuple[Array, Array]:
    """Return a fit's probabilities of the training rows and of other texts, FP32 [n, labels]; keep them in `folder`.

    NaN stands for the rows that a fit of a fold was fitted on.

    Args:
        fit: that is asked
        trained: its artifact
        rows: the texts of all training rows
        texts: others
        folder: where answers are looked for first
    """
    asked = fit.left_out(len(rows))
    saved = folder / f"{fit.name}.npy"
    if not saved.exists():
        folder.mkdir(exist_ok=True)
        answers = fit.logits(trained, [*(rows[i] for i in np.flatnonzero(asked)), *texts], exact=False)
        with saved.open("wb") as file:
            np.save(file, softmax(answers).astype(np.float32))
    probabilities = np.load(saved)
    of_rows = np.full((len(rows), probabilities.shape[1]), np.nan, np.float32)
    of_rows[asked] = probabilities[: asked.sum()]
    return of_rows, probabilities[asked.sum() :]


def rows_of(split: Artifact, part: str, fold: Fold | None = None) -> list[Row]:
    """Return the rows of "train", "validation" or "test"; training rows without the fold's."""
    rows = tables.read(split / f"{part}.parquet")
    if part != "train" or fold is None:
        return rows
    return [row for row, left_out in zip(rows, fold.left_out(len(rows)), strict=True) if not left_out]


def whole(rows: list[Row]) -> list[Row]:
    """Return the rows in the view "whole", each once: a graph is told from its original without other slices."""
    return [row for row in rows if row.view == views.WHOLE]


def parts(split: Artifact) -> list[str]:
    """Return the parts that there are rows of, to measure on: validation and, where the recipe has some, test."""
    return [part for part in ("validation", "test") if (split / f"{part}.parquet").exists()]
