"""Columns of soft labels: a probability of each label in a column of its own, from a language model or annotators."""

import math
from collections.abc import Iterable, Mapping

from newsdesk.build.errors import DataError, RecipeError

TOLERANCE = 0.02
"""How far the sum of a row's probabilities may be from 1: they are written with two digits as often as not."""


def named(text: str, header: Iterable[str]) -> dict[str, str]:
    """Return label → column, of what --soft-columns says: "World=p_world,Sports=p_sports", or a prefix like "label:".

    A prefix names all columns of the `header` that begin with it; the label is what stands behind it.

    Raises:
        RecipeError: a label is named twice, or fewer than two are.
    """
    pairs = [part.rpartition("=")[::2] for part in text.split(",") if part.strip()] if "=" in text else []
    pairs = pairs or [(name.removeprefix(text), name) for name in header if text and name.startswith(text)]
    of_labels = {label.strip(): column.strip() for label, column in pairs}
    whole = all(of_labels) and all(of_labels.values())
    if len(of_labels) < max(len(pairs), 2) or not whole:
        raise RecipeError(
            f"--soft-columns {text!r}: expected LABEL=COLUMN,LABEL=COLUMN with two labels at least, each once, or "
            "what the names of all such columns begin with, for example label:"
        )
    return of_labels


def read(columns: Mapping[str, str], cells: Mapping[str, str], where: str) -> dict[str, float]:
    """Return label → probability of a row, of sum 1; none where there are no columns.

    Args:
        columns: label → column
        cells: of the row, by column
        where: names the row in messages

    Raises:
        DataError: a cell is no probability, or their sum is not 1.
    """
    soft = {label: _probability(cells[column], column, where) for label, column in columns.items()}
    if not soft:
        return soft
    total = sum(soft.values())
    if abs(total - 1) > TOLERANCE:
        shown = ", ".join(f"{columns[label]} {probability:g}" for label, probability in soft.items())
        raise DataError(
            f"{where}: the probabilities {shown} have the sum {total:g}, expected 1; mend or remove the row"
        )
    return {label: probability / total for label, probability in soft.items()}


def _probability(cell: str, column: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1 + TOLERANCE:
        raise DataError(f"{where}: column {column!r} holds {cell!r}, expected a probability from 0 to 1")
    return value
