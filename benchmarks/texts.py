"""Articles to measure with: the user's own, from a file, or ones put together here in the lengths of news."""

import csv
import gzip
import io
import random
from pathlib import Path

_SUBJECTS = [
    "The central bank",
    "A trade minister",
    "The home side",
    "A young striker",
    "Engineers at the observatory",
    "The software maker",
    "Shareholders of the carrier",
    "A coalition of villages",
    "The visiting captain",
    "Researchers",
    "The chip designer",
    "Oil producers",
]
_VERBS = [
    "warned of",
    "agreed to",
    "pulled out of",
    "celebrated",
    "postponed",
    "announced",
    "questioned",
    "defended",
    "measured",
    "sold",
    "won",
    "rejected",
]
_OBJECTS = [
    "a second round of talks in the capital",
    "the quarterly results that analysts had expected",
    "a late winner in extra time",
    "the first images from the new probe",
    "a plan to cut costs across the region",
    "the security update for its browser",
    "an injury that rules out the defender",
    "the border crossing after months of tension",
    "higher prices at the pump",
]


def read(path: Path, text_columns: list[str]) -> list[str]:
    """Return the articles of a CSV file (plain or .gz) with a header: the named columns joined with a space."""
    raw = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115 (the wrapper closes it)
    with io.TextIOWrapper(raw, "utf-8", newline="") as file:
        return [" ".join(row[column] for column in text_columns) for row in csv.DictReader(file)]


def choose(path: Path | None) -> list[str]:
    """Return the articles of a file, else ones put together here.

    A .txt file (plain or .gz) has a line for each; a CSV file has title and description, or text. Raises ValueError.
    """
    if path is None:
        return make(2000)
    if path.name.removesuffix(".gz").endswith(".txt"):
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            chosen = [line.strip() for line in file if line.strip()]
    else:
        try:
            chosen = read(path, ["title", "description"])
        except KeyError:
            try:
                chosen = read(path, ["text"])
            except KeyError:
                raise ValueError(f"{path} has neither columns title and description nor a column text") from None
    if not chosen:
        raise ValueError(f"{path} holds no articles")
    return chosen


def make(count: int, seed: int = 7) -> list[str]:
    """Return `count` different articles of 10 to 100 words, most of them near 38 (as news descriptions are)."""
    chance = random.Random(seed)
    articles = []
    for number in range(count):
        words: list[str] = [f"Item {number}:"]
        wanted = min(100, max(10, round(chance.lognormvariate(3.6, 0.35))))
        while sum(len(part.split()) for part in words) < wanted:
            words += [chance.choice(_SUBJECTS), chance.choice(_VERBS), chance.choice(_OBJECTS) + "."]
        articles.append(" ".join(words))
    return articles
