"""Clean and check the rows: `<part>.parquet`, the labels, and a report of what was changed and dropped."""

import json
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from newsdesk.build.data import tables
from newsdesk.build.data.cleaning import TITLE, WEIGHT, CleaningFigures, LabelReader, clean_rows, look_alike
from newsdesk.build.data.sources import RawRow
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.recipe import Source
from newsdesk.server.contract import CORRECTED_AT

_ELIGIBLE = "eligible"


class LookAlikes(Struct, frozen=True, kw_only=True):
    """Labels that are probably one, spelled in several ways."""

    groups: list[list[str]]


class CleanFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cleaning of every part."""

    test: CleaningFigures | None = None
    train: CleaningFigures
    look_alike_labels: LookAlikes


def clean(
    folder: Path, say: Say, *, raw: Artifact, labels: list[str], train: Source, test: Source | None
) -> CleanFigures:
    """Clean the raw rows. Texts of the test rows leave the training rows.

    Args:
        folder: where the files go
        say: shows a line
        raw: the artifact of `read`
        labels: the recipe's; empty: those of the training rows
        train: whose labels' numbers and names are read
        test: likewise, of the test rows; None where there are none

    Raises:
        DataError: the rows, or their labels, are not what the recipe says.
    """
    rows_read = [*_raw_rows(raw, "train")]
    known = LabelReader(labels, train.first_label) if labels else LabelReader.of(rows_read)
    reports, held_out = {}, []
    if test:
        test_labels = LabelReader(known.names, test.first_label)
        rows, reports["test"] = clean_rows(_raw_rows(raw, "test"), test_labels, drop_duplicates=False)
        tables.write(folder / "test.parquet", rows)
        held_out = [row.text for row in rows]
    rows, reports["train"] = clean_rows(rows_read, known, eligible=_is_eligible, held_out=held_out)
    tables.write(folder / "train.parquet", rows)
    alike = look_alike(known.names)
    for names in alike:
        say(f"labels that look alike: {', '.join(map(repr, names))}; name them alike if they are one")
    for part, report in reports.items():
        say("\n".join([f"{part}: {report.lines()[0]}", *report.lines()[1:]]))
    tables.write_labels(folder, known.names)
    return CleanFigures(
        test=reports["test"].figures() if test else None,
        train=reports["train"].figures(),
        look_alike_labels=LookAlikes(groups=alike),
    )


def _raw_rows(raw: Artifact, part: str) -> Iterator[RawRow]:
    with (raw / f"{part}.jsonl").open(encoding="utf-8") as file:
        for line in file:
            number, text, label, eligible, title, weight, soft, corrected_at = json.loads(line)
            cells = {_ELIGIBLE: str(eligible), TITLE: title, WEIGHT: str(weight), CORRECTED_AT: corrected_at}
            yield RawRow(number, text, label, cells, soft)


def _is_eligible(row: RawRow) -> bool:
    return row.cells[_ELIGIBLE] == str(True)
