"""A user's own files in the place of a recipe's sources."""

from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec

from newsdesk.build.data import soft_columns, sources
from newsdesk.build.data.cleaning import NAMES_ONLY
from newsdesk.build.errors import DataError
from newsdesk.build.recipe import EncoderMember, Recipe, Source
from newsdesk.clients.rows import Reader, RowsError
from newsdesk.server.contract import CORRECTED_AT

_PRUNED_ROWS = 20_000
"""Fewer rows hold too few words to drop the others from an encoder's vocabulary."""
_FEEDBACK = {"text_columns": ["text"], "label_column": "label", "columns": []}
"""The columns of callers' feedback."""


def weighed(text: str) -> tuple[Path, float]:
    """Return the file and the weight that "rows.csv:0.5" names; without a number behind a colon the weight is 1."""
    name, colon, number = text.rpartition(":")
    try:
        weight = float(number)
    except ValueError:
        return Path(text), 1.0
    return (Path(name), weight) if colon and weight > 0 else (Path(text), 1.0)


def changes(
    recipe: Recipe,
    train: Path,
    test: Path | None = None,
    *,
    text_columns: list[str],
    label_column: str,
    columns: list[str],
    first_label: int | None = None,
    more: Sequence[Path] = (),
    weights: Sequence[float] = (),
    soft: str = "",
) -> dict[str, Any]:
    """Return the changes (see `recipe.load`) that make the recipe read these files.

    The recipe's labels stay where the files' labels are just these names, or where `first_label` says that they are
    numbers counting them; otherwise the labels are taken from the rows, and a number is a name. What the recipe says of
    its own data goes, and so do `pretrain` and `teaching`, which take a GPU: members are fitted as their bases are, and
    teach each other. So do slices and views: rows of one's own need not be articles with a headline. On few rows no
    vocabulary is pruned.

    A file of callers' feedback, as a gateway keeps it, has columns of its own, and its labels are names.

    Args:
        recipe: that is changed
        train: a file of training rows
        test: a file of test rows, if there are some
        text_columns: of the text, joined by a space
        label_column: of the label
        columns: names of a CSV file's columns, where it has no header line
        first_label: the number of the recipe's first label; None: labels are names
        more: further files with training rows
        weights: how much a row of each file counts, `train` first; 1 without
        soft: columns as in `soft_columns.named`; a file that has none of them is read by the label column

    Raises:
        DataError: a file cannot be read, or none has a column of `soft`.
    """
    described: dict[str, Any] = {
        "text_columns": text_columns,
        "label_column": label_column,
        "columns": columns,
        "first_label": NAMES_ONLY if first_label is None else first_label,
    }
    of_train, *of_more = (
        {
            "file": str(file),
            "weight": weight,
            **described,
            **(_FEEDBACK if _is_feedback(file) else _soft(str(file), soft, columns)),
        }
        for file, weight in zip([train, *more], weights or repeat(1.0), strict=False)
    )
    if soft and not any("soft_columns" in source for source in (of_train, *of_more)):
        raise DataError(f"{train}: no column of those that --soft-columns {soft!r} names")
    names, count = _labels([of_train, *of_more])
    keep = first_label is not None or names == set(recipe.labels)
    pruned = [member.name for member in recipe.members if isinstance(member, EncoderMember) and member.min_piece_count]
    return {
        "data.train": of_train,
        "data.more": of_more,
        "data.test": {"file": str(test), **described, **_soft(str(test), soft, columns)} if test else None,
        "labels": recipe.labels if keep else sorted(names) if soft else [],
        "split.validation_where": {},
        "split.slices": {},
        **{f"members.{member.name}.{member.fitting}.views": {} for member in recipe.members if member.views},
        **{f"members.{name}.min_piece_count": 0 for name in pruned if count < _PRUNED_ROWS},
        "teaching": None,
        **{
            f"members.{member.name}.pretrain": None
            for member in recipe.members
            if isinstance(member, EncoderMember) and member.pretrain
        },
        "card": {},
    }


def _labels(described: list[dict[str, Any]]) -> tuple[set[str], int]:
    """Return the labels that the rows of sources have, and how many rows these are."""
    names, count = set[str](), 0
    for source in described:
        for row in sources.read(msgspec.convert(source, Source)):
            names |= {row.label.strip(), *row.soft}
            count += 1
    return names - {""}, count


def _soft(file: str, wanted: str, columns: list[str]) -> dict[str, Any]:
    """Return a file's columns of soft labels, as a source's field; nothing where it has none of those wanted."""
    if not wanted:
        return {}
    header = sources.header(Source(file=file, columns=columns))
    if "=" not in wanted and not any(name.startswith(wanted) for name in header):
        return {}
    of_labels = soft_columns.named(wanted, header)
    return {"soft_columns": of_labels} if not {*header}.isdisjoint(of_labels.values()) else {}


def _is_feedback(path: Path) -> bool:
    """Tell whether a file holds callers' corrections. One that cannot be read is none: who reads it says why."""
    try:
        with path.open("rb") as file:
            row = next(Reader(file, str(path)).rows(), None)
    except (RowsError, OSError):
        return False
    return row is not None and CORRECTED_AT in row.cells
