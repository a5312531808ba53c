"""The rows, and the members' answers to them, that decide how members are combined."""

from collections.abc import Mapping

import numpy as np

from newsdesk.build.compile.answers import Answers
from newsdesk.build.data import tables
from newsdesk.build.data.rows import Row
from newsdesk.build.pipeline.artifacts import Artifact
from newsdesk.build.pipeline.graphs import VALIDATION

OUT_OF_FOLD = "out_of_fold.npz"
"""A member's answers to the training rows out of fold: `Answers`, NaN for rows that were not asked about."""


def of_validation(split: Artifact, compiled: Mapping[str, Artifact]) -> tuple[list[Row], dict[str, Answers]]:
    """Return the validation rows, and the serving targets' answers to them by member."""
    answers = {name: Answers.load(artifact / VALIDATION) for name, artifact in compiled.items()}
    return tables.read(split / "validation.parquet"), answers


def out_of_fold(split: Artifact, asked: Mapping[str, Artifact]) -> tuple[list[Row], dict[str, Answers]]:
    """Return the training rows that every member was asked about out of fold, and the answers by member."""
    answers = {name: Answers.load(artifact / OUT_OF_FOLD) for name, artifact in asked.items()}
    known = np.isfinite([of_member.windows[:, 0] for of_member in answers.values()]).all(0)
    rows = [row for row, is_known in zip(tables.read(split / "train.parquet"), known, strict=True) if is_known]
    return rows, {name: Answers(each.windows[known], each.counts[known]) for name, each in answers.items()}
