"""The stages from sources to rows to learn from, each run once (see `Workshop`)."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from newsdesk.build.data import sources, splits, tables, views
from newsdesk.build.data.cleaning import TITLE, Labels, clean_rows
from newsdesk.build.data.rows import Row
from newsdesk.build.errors import DataError
from newsdesk.build.recipe import Recipe, Source
from newsdesk.build.stage import Artefact, Workshop
from newsdesk.server.runtime.text import clean as clean_text

LABELS = "labels.json"
_ELIGIBLE = "eligible"
_COMPARED = 1000
_RARE = 3
"""A label with fewer rows is named."""
_DATA = (
    "newsdesk.build.data.sources",
    "newsdesk.build.data.cleaning",
    "newsdesk.server.runtime.text",
    "newsdesk.server.runtime.lookalikes",
)
_ROWS = tuple(
    f"newsdesk.clients.rows.{name}"
    for name in ("delimited", "dialect", "jsonl", "lines", "parquet", "reader", "recognise", "row", "streams", "text")
)


def read(shop: Workshop, recipe: Recipe) -> Artefact:
    """Read the raw rows of every source, once: `<part>.jsonl` with number, text, label, eligibility and headline."""
    parts = {"train": recipe.data.train} | ({"test": recipe.data.test} if recipe.data.test else {})
    where = recipe.split.validation_where

    def work(folder: Path) -> dict[str, Any]:
        figures = {}
        for part, source in parts.items():
            with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as out:
                count = 0
                for count, row in enumerate(sources.read(source), start=1):  # noqa: B007
                    line = [row.number, row.text, row.label, sources.matches(row.cells, where), _title(source, row)]
                    out.write(json.dumps(line) + "\n")  # ASCII: lone surrogates survive
            if not count:
                raise DataError(f"{source.file or source.hub}: no row (that matches {source.keep})")
            figures[part] = count
        return figures

    files = tuple(source.file for source in parts.values() if source.file)
    settings = [recipe.data.train, recipe.data.test, where]
    return shop.run("read", work, settings=settings, files=files, code=(_DATA[0], *_ROWS))


def clean(shop: Workshop, recipe: Recipe, raw: Artefact) -> Artefact:
    """Clean and check the rows; `<part>.parquet`, and report.json with what was found."""

    def work(folder: Path) -> dict[str, Any]:
        train = [*_raw_rows(raw, "train")]
        first = recipe.data.train.first_label
        known = Labels(recipe.labels, first) if recipe.labels else Labels.of(train)
        reports, held_out = {}, []
        if recipe.data.test:
            test_labels = Labels(known.names, recipe.data.test.first_label)
            rows, reports["test"] = clean_rows(_raw_rows(raw, "test"), test_labels, drop_duplicates=False)
            tables.write(folder / "test.parquet", rows)
            held_out = [row.text for row in rows]
        rows, reports["train"] = clean_rows(train, known, eligible=_is_eligible, held_out=held_out)
        tables.write(folder / "train.parquet", rows)
        for part, report in reports.items():
            shop.say("\n".join([f"{part}: {report.lines()[0]}", *report.lines()[1:]]))
        (folder / LABELS).write_text(json.dumps(known.names), encoding="utf-8")
        return {part: report.as_dict() for part, report in reports.items()}

    return shop.run(
        "clean", work, settings=[recipe.labels, recipe.data.train, recipe.data.test], inputs={"raw": raw}, code=_DATA
    )


def split(shop: Workshop, recipe: Recipe, rows: Artefact) -> Artefact:
    """Part the training rows: train.parquet, validation.parquet, and test.parquet as it came.

    The validation rows come in the recipe's slices: what is chosen by them is chosen on that mixture.
    """

    def work(folder: Path) -> dict[str, Any]:
        every = tables.read(rows / "train.parquet")
        if recipe.split.folds:
            train = every
        else:
            train, validation = splits.split(every, recipe.split.validation_rows, recipe.seed)
        if recipe.split.train_rows:
            train = splits.draw(train, recipe.split.train_rows, recipe.seed + 1)  # not those nearest to being chosen
        if recipe.split.folds:  # on these graphs are compared with their original, and nothing else is decided
            validation = splits.draw(train, min(_COMPARED, max(len(train) // 10, _COMPARED // 5)), recipe.seed)
            _say_rare(train, labels(rows), shop)
        parts = {"train": train, "validation": views.slices(validation, recipe.split.slices, recipe.seed)}
        if recipe.data.test:
            parts["test"] = tables.read(rows / "test.parquet")
        for part, of_part in parts.items():
            tables.write(folder / f"{part}.parquet", of_part)
        shutil.copy(rows / LABELS, folder / LABELS)
        return {part: len(of_part) for part, of_part in parts.items()}

    code = ("newsdesk.build.data.splits", "newsdesk.build.data.views", "newsdesk.build.data.noise", *_DATA[2:])
    return shop.run("split", work, settings=[recipe.split, recipe.seed], inputs={"rows": rows}, code=code)


def _say_rare(rows: list[Row], names: list[str], shop: Workshop) -> None:
    counts = Counter(row.label for row in rows)
    for index, name in enumerate(names):
        if counts[index] < _RARE:
            few = {0: "no row", 1: "1 row, which no fit can be judged by"}.get(counts[index], f"{counts[index]} rows")
            shop.say(f"  label {name!r} has {few}; give more rows of it, or leave it out")


def elsewhere(source: Source, names: list[str]) -> list[Row]:
    """Return the clean rows of another source, for a look beyond the training data."""
    raw = sources.read(source)
    if source.labels:
        raw = (row._replace(label=source.labels[row.label]) for row in raw if row.label in source.labels)
    rows, _ = clean_rows(raw, Labels(names, source.first_label), drop_duplicates=False)
    return [replace(row, text=_first_words(row.text, source.words)) for row in rows]


def without_label(source: Source) -> list[Row]:
    """Return the clean texts of a source that no label fits, as rows of the first one."""
    texts = (_first_words(clean_text(row.text), source.words) for row in sources.read(source))
    return [Row(text, 0) for text in texts if text]


def _first_words(text: str, count: int) -> str:
    return " ".join(text.split(" ")[:count]) if count else text


def labels(rows: Artefact) -> list[str]:
    """Return the label names, in the order of the outputs, of a `clean` or `split` artefact."""
    return json.loads((rows / LABELS).read_text(encoding="utf-8"))


def _raw_rows(raw: Artefact, part: str) -> Iterator[sources.RawRow]:
    with (raw / f"{part}.jsonl").open(encoding="utf-8") as file:
        for line in file:
            number, text, label, eligible, title = json.loads(line)
            yield sources.RawRow(number, text, label, {_ELIGIBLE: str(eligible), TITLE: title})


def _is_eligible(row: sources.RawRow) -> bool:
    return row.cells[_ELIGIBLE] == str(True)


def _title(source: Source, row: sources.RawRow) -> str:
    """Return the headline, where the source has it in a column of its own."""
    apart = len(source.text_columns) > 1 and not row.cells.get(source.whole_text_column)
    return row.cells[source.text_columns[0]] if apart else ""
