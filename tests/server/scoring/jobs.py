"""Jobs of the tests: files of rows, a tiny model, and workers that are this very process."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from newsdesk.server.scoring.answers import ScoredTexts, Scorer, ScoringModel
from newsdesk.server.scoring.job import Outcome, ScoringJob, run
from newsdesk.server.scoring.work import Key, Texts, ask
from tests import tiny

WORDS = [*tiny.WORDS, "and", "of", "the"]
CHUNK, ROWS = 64, 300
"""Rows of a chunk in the tests, and of a file of five."""


class Here:
    """One worker, which ends the run by Ended once it has answered `most` chunks."""

    count = 1

    def __init__(self, model: ScoringModel, most: int | None = None) -> None:
        self._scorer, self._most, self.answered = Scorer(model), most, 0

    def answers(self, questions: Iterator[tuple[Key, Texts]]) -> Iterator[tuple[Key, ScoredTexts]]:
        def submit(texts: Texts) -> Callable[[], ScoredTexts]:
            return lambda: self._scorer.answer(texts)

        for answered in ask(questions, 2, submit, lambda waiting: waiting[-1], lambda asked: asked()):
            if self.answered == self._most:
                raise Ended
            self.answered += 1
            yield answered


class Ended(Exception):
    """A run that did not come to its end."""


def texts(count: int = ROWS) -> list[str]:
    return [" ".join(WORDS[(row * step) % len(WORDS)] for step in range(1, 2 + row % 7)) for row in range(count)]


def write(path: Path, count: int = ROWS) -> Path:
    """Write rows in the form that the name says, packed where it ends with .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": row, "text": text} for row, text in enumerate(texts(count))]
    if ".parquet" in path.name:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2 * CHUNK)
        return path
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="") as file:
        if ".csv" in path.name:
            writer = csv.DictWriter(file, ["id", "text"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def read(path: Path | str, opened: Any = open) -> list[dict[str, Any]]:
    """Return the rows of a file that was written."""
    with opened(path, "rb") as file:
        if str(path).endswith(".parquet"):
            return parquet.read_table(file).to_pylist()
        lines = file.read().decode().splitlines(keepends=True)
    return list(csv.DictReader(lines)) if str(path).endswith(".csv") else list(map(json.loads, lines))


def score(source: Path | str, out: Path | str, model: ScoringModel, most: int | None = None, **more: Any) -> Outcome:
    return run(ScoringJob(str(source), str(out), model, **more), Here(model, most), lambda _: None)
