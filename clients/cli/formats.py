"""How the command line writes answers: one line for each text, in order, whatever became of it."""

import csv
import io
import json
from collections.abc import Sequence
from enum import StrEnum

from newsdesk.clients.articles import Text
from newsdesk.clients.chunk import Item
from newsdesk.clients.errors import TextRefused

_PREVIEW = 80
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_UNCERTAINTY = "uncertainty", "of_data", "of_model"


class Format(StrEnum):
    """text: for reading. json: one object a line. csv: a column for each label."""

    text = "text"
    json = "json"
    csv = "csv"


def header(form: Format, labels: Sequence[str], uncertainty: bool = False) -> str:
    """Return what comes before the first answer, with its line end.

    Args:
        form: of the answers
        labels: of the model
        uncertainty: whether answers say how uncertain they are
    """
    if form is not Format.csv:
        return ""
    return _row(
        ["index", "label", *labels, "answered_by", "windows", "error", "unsure", *(_UNCERTAINTY if uncertainty else ())]
    )


def line(form: Format, item: Item, text: Text, labels: Sequence[str], uncertainty: bool = False) -> str:
    """Return the answer to one text, with its line end."""
    if form is Format.json:
        return _json_line(item)
    if form is Format.csv:
        return _csv_line(item, labels, uncertainty)
    return _text_line(item, text, labels)


def _text_line(item: Item, text: Text, labels: Sequence[str]) -> str:
    width = max(map(len, labels))
    if isinstance(item, TextRefused):
        return f"{'refused':<{width}} {'':6}  {item.reason}\n"
    ranked = ", ".join(f"{label:<{width}} {share:.4f}" for label, share in item.probabilities.items())
    return f"{ranked}  {'(not sure) ' if item.unsure else ''}{_preview(text)}\n"


def _json_line(item: Item) -> str:
    if isinstance(item, TextRefused):
        return json.dumps({"index": item.index, "error": item.reason}) + "\n"
    return json.dumps(item.as_object()) + "\n"


def _csv_line(item: Item, labels: Sequence[str], uncertainty: bool) -> str:
    empty = ("",) * len(_UNCERTAINTY) if uncertainty else ()
    if isinstance(item, TextRefused):
        return _row([item.index, "", *("" for _ in labels), "", "", item.reason, "", *empty])
    shares = (item.probabilities.get(label, "") for label in labels)
    unsure = "" if item.unsure is None else str(item.unsure).lower()
    return _row(
        [item.index, item.label, *shares, item.answered_by, item.windows, "", unsure, *(item.uncertainty or empty)]
    )


def _row(cells: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(_neutral, cells))
    return line.getvalue()


def _neutral(cell: object) -> object:
    """Keep a spreadsheet from taking a text for a formula, and running it. Numbers are what they are."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _preview(text: Text) -> str:
    """Return the start of the text, with nothing in it that a terminal would obey."""
    readable = text.decode(errors="replace") if isinstance(text, bytes) else text
    start = "".join(letter if letter.isprintable() else " " for letter in readable[: _PREVIEW + 1])
    return start if len(start) <= _PREVIEW else f"{start[: _PREVIEW - 1]}…"
