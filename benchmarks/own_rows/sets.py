"""The sets of rows: AG News, BBC, and the folders of $NEWSDESK_DATA/sets."""

import csv
import gzip
import os
import random
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

Rows = list[tuple[str, str]]
"""Texts with their labels."""
_OTHERS = "ag_news", "bbc"
_OUTSIDE = {"clinc150": "oos"}
"""The name under which a set has texts that no label fits."""


class Set(NamedTuple):
    """Rows to learn from, rows to be judged by, and texts that no label fits, of which nothing is learned."""

    training: Rows
    test: Rows
    outside: list[str]


def names() -> list[str]:
    """Return the names of all sets that the data folder has."""
    below = sorted(path.name for path in (_folder() / "sets").glob("*/") if (path / "train.csv.gz").exists())
    return [*_OTHERS, *below]


def read(name: str, test_rows: int) -> Set:
    """Return a set with at most `test_rows` test rows and as many texts outside (0: all), drawn with seed 0."""
    if name == "ag_news":
        training, test = (_articles(_folder() / "ag_news" / f"{part}.csv.gz", "label") for part in ("train", "test"))
    elif name == "bbc":
        every = _articles(_folder() / "other" / "bbc.csv.gz", "category")
        random.Random(0).shuffle(every)
        training, test = every[len(every) // 4 :], every[: len(every) // 4]
    else:
        training, test = (_rows(_folder() / "sets" / name / f"{part}.csv.gz") for part in ("train", "test"))
    strange = _OUTSIDE.get(name)
    outside = [text for text, label in test if label == strange]
    training, test = ([row for row in rows if row[1] != strange] for rows in (training, test))
    return Set(
        training, _some(test, test_rows), [text for text, _ in _some([(text, "") for text in outside], test_rows)]
    )


def draw(rows: Rows, count: int, seed: int) -> Rows:
    """Return `count` rows of each label, or all there are, in an order of the seed's; 0: all rows."""
    return draw_unevenly(rows, {}, count, seed) if count else rows


def draw_unevenly(rows: Rows, counts: dict[str, int], others: int, seed: int) -> Rows:
    """Return so many rows of each label, `others` of those that are not named, in an order of the seed's."""
    chance = random.Random(seed)
    of_label: dict[str, Rows] = defaultdict(list)
    for text, label in rows:
        of_label[label].append((text, label))
    drawn = [
        row
        for label in sorted(of_label)
        for row in chance.sample(of_label[label], len(of_label[label]))[: counts.get(label, others)]
    ]
    chance.shuffle(drawn)
    return drawn


def _some(rows: Rows, count: int) -> Rows:
    return random.Random(0).sample(rows, count) if 0 < count < len(rows) else rows


def _rows(path: Path) -> Rows:
    return [(line["text"], line["label"]) for line in _lines(path)]


def _articles(path: Path, label: str) -> Rows:
    """Return rows whose headline stands apart, without the headlines alone and other parts of articles."""
    return [
        (f"{line['title']} {line.get('text') or line.get('description', '')}".strip(), line[label])
        for line in _lines(path)
        if line.get("kind", "full") == "full"
    ]


def _lines(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def _folder() -> Path:
    return Path(os.environ.get("NEWSDESK_DATA", "data"))
