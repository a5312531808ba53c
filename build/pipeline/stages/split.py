"""Part the training rows: train.parquet, validation.parquet, and test.parquet as it came."""

import shutil
from collections import Counter
from pathlib import Path

from newsdesk.build.data import splits, tables, views
from newsdesk.build.data.rows import Row
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.recipe import Split

_COMPARED = 1000
_RARE = 3
"""A label with fewer rows is named."""


def split(folder: Path, say: Say, *, rows: Artifact, settings: Split, seed: int) -> dict[str, int]:
    """Split the clean rows. Validation rows come in the recipe's slices: a choice by them is one on that mixture.

    With `folds` they are drawn from the training rows and stay among them: graphs are compared with their original on
    them, and nothing else is decided.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `clean`
        settings: how many rows go where
        seed: of the draws

    Returns:
        Rows of each part.
    """
    train, validation = tables.read(rows / "train.parquet"), list[Row]()
    if not settings.folds:
        train, validation = splits.split(train, settings.validation_rows, seed)
    if settings.train_rows:
        train = splits.draw(train, settings.train_rows, seed + 1)  # not those nearest to being chosen
    if settings.folds:
        validation = splits.draw(train, min(_COMPARED, max(len(train) // 10, _COMPARED // 5)), seed)
        _say_rare(train, tables.read_labels(rows.path), say)
    parts = {"train": train, "validation": views.slices(validation, settings.slices, seed)}
    if (rows / "test.parquet").exists():
        parts["test"] = tables.read(rows / "test.parquet")
    for part, rows_of_part in parts.items():
        tables.write(folder / f"{part}.parquet", rows_of_part)
    shutil.copy(rows / tables.LABELS, folder / tables.LABELS)
    return {part: len(rows_of_part) for part, rows_of_part in parts.items()}


def _say_rare(rows: list[Row], names: list[str], say: Say) -> None:
    counts = Counter(row.label for row in rows)
    for index, name in enumerate(names):
        if counts[index] < _RARE:
            few = {0: "no row", 1: "1 row, which no fit can be judged by"}.get(counts[index], f"{counts[index]} rows")
            say(f"  label {name!r} has {few}; give more rows of it, or leave it out")
