"""An attack on a text that knows which words tell the labels apart, but not the model."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from newsdesk.build.data.rows import Row
from newsdesk.server.runtime.arrays import Array

_WORD = re.compile(r"[A-Za-z]{3,}")
_LEAST_COUNT = 20
_TELLING = 300
"""Words a label from which those are drawn that are put into other labels' texts."""
_CHANGED, _INSERTED = 3, 3
"""Words of a text that are changed, and that are added."""


@dataclass(frozen=True)
class Attack:
    """The labels that words speak for.

    Attributes:
        tells: how far each speaks for each label, in nats, FP64 [labels]
        most_telling: of each label, the words that speak for it most
    """

    tells: dict[str, Array]
    most_telling: list[list[str]]

    @classmethod
    def of(cls, rows: Sequence[Row], labels: int) -> "Attack":
        """Learn from rows: log-odds of a word's label against even chances, counts of each label raised by one."""
        counts: dict[str, Counter[int]] = defaultdict(Counter)
        for row in rows:
            for word in set(_WORD.findall(row.text.lower())):
                counts[word][row.label] += 1
        tells = {
            word: np.log((np.array([of[label] for label in range(labels)]) + 1) / (of.total() + labels) * labels)
            for word, of in counts.items()
            if of.total() >= _LEAST_COUNT
        }
        telling = [[word for word in tells if tells[word][label] > 0] for label in range(labels)]
        ranked = [sorted(words, key=lambda word: -tells[word][label])[:_TELLING] for label, words in enumerate(telling)]
        return cls(tells, ranked)

    def __call__(self, row: Row, seed: int) -> str:
        """Return the row's text with its most telling words replaced or respelled, and another label's put between.

        Each of the words is replaced by one that tells nothing, or has two of its inner letters swapped.
        """
        chance = random.Random(f"{seed}\0{row.text}")
        words = row.text.split(" ")
        tell = [max((self._tells(part, row.label) for part in _WORD.findall(word)), default=0.0) for word in words]
        for place in sorted(range(len(words)), key=lambda i: -tell[i])[:_CHANGED]:
            if tell[place] > 0:
                words[place] = chance.choice(_NOTHING) if chance.random() < 0.5 else _respelled(words[place], chance)
        others = [label for label, telling in enumerate(self.most_telling) if telling and label != row.label]
        other = chance.choice(others or [row.label])
        for _ in range(_INSERTED):
            words.insert(chance.randint(0, len(words)), chance.choice(self.most_telling[other]))
        return " ".join(words)

    def _tells(self, word: str, label: int) -> float:
        known = self.tells.get(word.lower())
        return 0.0 if known is None else float(known[label])


_NOTHING = ("thing", "people", "place", "something", "part", "case", "way", "group", "kind", "number")


def _respelled(word: str, chance: random.Random) -> str:
    if len(word) < 4:
        return word
    place = chance.randint(1, len(word) - 3)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
