"""Rows of other sources, read and cleaned for a look beyond the training data."""

from dataclasses import replace

from newsdesk.build.data import sources
from newsdesk.build.data.cleaning import LabelReader, clean_rows
from newsdesk.build.data.rows import Row
from newsdesk.build.recipe import Source
from newsdesk.server.runtime.text import clean


def labelled(source: Source, names: list[str]) -> list[Row]:
    """Return the clean rows of a source whose labels are the recipe's, or are mapped to them."""
    raw = sources.read(source)
    if source.labels:
        raw = (row._replace(label=source.labels[row.label]) for row in raw if row.label in source.labels)
    rows, _ = clean_rows(raw, LabelReader(names, source.first_label), drop_duplicates=False)
    return [replace(row, text=_first_words(row.text, source.words)) for row in rows]


def unlabelled(source: Source) -> list[Row]:
    """Return the clean texts of a source that no label fits, as rows of the first one."""
    texts = (_first_words(clean(row.text), source.words) for row in sources.read(source))
    return [Row(text, 0) for text in texts if text]


def _first_words(text: str, count: int) -> str:
    return " ".join(text.split(" ")[:count]) if count else text
