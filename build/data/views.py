"""Views of an article: the parts and spellings of it that people send.

Training draws them, the validation rows are a stated mixture of them, and the report looks at each: by this one module,
so that a member is judged on what it was fitted for. A view of the validation rows is called a slice.
"""

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from newsdesk.build.data import noise
from newsdesk.build.data.rows import Row
from newsdesk.server.runtime.text import clean

WHOLE = "whole"
JOINED = "joined"
"""Several articles of a label in one text, as long as the articles of a newspaper."""
_JOINED_ARTICLES = 4, 10
_OPENING = 4, 11
"""Words of a headline, where the source keeps none apart."""
_RUN_WORDS = 5, 40
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(]*[A-Z0-9])")
_SHORTEST_SENTENCE = 5
"""Words; what is shorter goes on: "U.S. officials" has no sentence in "U.S."."""

View = Callable[[Row, random.Random], str]


def _headline(row: Row, chance: random.Random) -> str:
    if row.title:
        return row.title
    words = row.text.split(" ")
    return " ".join(words[: chance.randint(*_OPENING)])


def _description(row: Row, chance: random.Random) -> str:
    return row.text[len(row.title) :].strip() if row.title else row.text


def _first_sentence(row: Row, chance: random.Random) -> str:
    """Return the description's first sentence, or the text's where the source keeps no headline apart."""
    sentence: list[str] = []
    for part in _SENTENCE_END.split(_description(row, chance)):
        sentence += part.split(" ")
        if len(sentence) >= _SHORTEST_SENTENCE:
            break
    return " ".join(sentence)


def _run_of_words(row: Row, chance: random.Random) -> str:
    words = row.text.split(" ")
    length = min(chance.randint(*_RUN_WORDS), len(words))
    start = chance.randint(0, len(words) - length)
    return " ".join(words[start : start + length])


VIEWS: dict[str, View] = {
    WHOLE: lambda row, chance: row.text,
    "headline": _headline,
    "description": _description,
    "first sentence": _first_sentence,
    "run of words": _run_of_words,
    "typing errors": lambda row, chance: noise.with_typing_errors(row.text, chance),
    "case noise": lambda row, chance: noise.with_case_noise(row.text, chance),
    "look-alikes": lambda row, chance: noise.with_look_alikes(row.text, chance),
    "sources stripped": lambda row, chance: noise.without_sources(row.text),
}


def read(name: str, row: Row, seed: str) -> str:
    """Return a view of the row as the members read it: the same one for the same seed, and never empty."""
    return clean(VIEWS[name](row, random.Random(f"{seed}\0{name}\0{row.text}"))) or row.text


def draw(rows: Sequence[Row], shares: Mapping[Any, float], seed: str) -> list[str]:
    """Return one view of every row, drawn by `shares`, which need not sum to one; whole rows without any."""
    if not shares:
        return [row.text for row in rows]
    names, weights = [*shares], [*shares.values()]
    return [read(random.Random(f"{seed}\0{row.text}").choices(names, weights)[0], row, seed) for row in rows]


def slices(rows: Sequence[Row], shares: Mapping[Any, float], seed: int) -> list[Row]:
    """Return the rows in each of the views named, whole ones first; `group` is a row's place among `rows`.

    A share is the part of the rows that is seen in that view. A hash of the view and the text draws them: rows of a
    file often stand by label or source. The share of "joined" is the number of joined texts against that of the rows.
    Without shares the rows come whole, once.
    """
    placed = [replace(row, group=place) for place, row in enumerate(rows)]
    sliced: list[Row] = []
    for name, share in (shares or {WHOLE: 1.0}).items():
        count = round(share * len(placed))
        if name == JOINED:
            sliced += joined(placed, count, seed)
        else:
            drawn = sorted(placed, key=lambda row: _place(row, f"{seed} {name}"))[:count]
            drawn.sort(key=lambda row: row.group)
            sliced += [replace(row, text=read(name, row, str(seed)), view=name) for row in drawn]
    return sliced


def _place(row: Row, seed: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{row.text}".encode()).digest()


def joined(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Return `count` long texts, each of several articles of a label; `group` is that of a text's first article."""
    of_label: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        of_label[row.label].append(row)
    chance = random.Random(seed)
    texts = []
    for place in range(count):
        label = sorted(of_label)[place % len(of_label)]
        parts = chance.sample(of_label[label], min(chance.randint(*_JOINED_ARTICLES), len(of_label[label])))
        texts.append(replace(parts[0], text=" ".join(part.text for part in parts), view=JOINED, title=""))
    return texts
