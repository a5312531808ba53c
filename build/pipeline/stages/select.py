"""Choose which of a recipe's members serve, by their answers to rows that they did not see."""

import json
from pathlib import Path

import numpy as np
from msgspec import Struct

from newsdesk.build.data import suspects, tables
from newsdesk.build.ensemble import selection
from newsdesk.build.ensemble.selection import SetScores
from newsdesk.build.pipeline import evidence
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.candidates import CHOSEN


class SelectFigures(Struct, frozen=True, kw_only=True):
    """The members that serve, and every set of members that was compared."""

    members: list[str]
    rows: int
    """Rows that the sets were compared on."""
    sets: list[SetScores]
    suspects: int
    """Rows that are probably labelled wrong."""


def select(
    folder: Path, say: Say, *, rows: Artifact, asked: dict[str, Artifact], balanced: bool = False
) -> SelectFigures:
    """Leave members.json, the names of those that serve, and suspects.csv, the rows probably labelled wrong.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `split`
        asked: the artifact of `out-of-fold` of each member, by name
        balanced: whether every label counts the same, however few its rows
    """
    known, answers = evidence.out_of_fold(rows, asked)
    truth = np.array([row.label for row in known])
    chosen = selection.select({name: each.windows for name, each in answers.items()}, truth, balanced=balanced)
    for line in selection.describe(chosen):
        say(f"  {line}")
    (folder / CHOSEN).write_text(json.dumps(chosen.members))
    listed = suspects.write(folder / suspects.FILE, known, tables.read_labels(rows.path), chosen.probabilities)
    return SelectFigures(members=chosen.members, rows=len(known), sets=chosen.table, suspects=listed)
