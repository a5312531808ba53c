"""Texts whose answers by the stand-in are known."""

import random

WORDS = {"treaty": "World", "match": "Sports", "shares": "Business", "chip": "Sci/Tech"}


def numbered(number: int) -> tuple[str, str, float]:
    """Text `number` < 10,000, of a length of its own, its label and that label's probability."""
    word, label = list(WORDS.items())[number % 4]
    filler = "and so on " * random.Random(number).choice([0, 1, 3, 10, 40])
    return f"{number} {word} {filler}", label, 0.6 + 0.3 * number / 10_000


# Texts that have killed servers, all of them to be answered.
POISON = (
    "a\x00b\x00match",
    "\x00match",
    "match 🏆🤖👨‍👩‍👧‍👦" * 20,
    "مباراة match كرة القدم",
    "משחק match כדורגל",
    "\u202ematch\u202c",
    "\ufeffmatch",
    "match " * 40_000,
    "m̸a̷" * 500 + "match",
    "<b>match</b> &amp; #39;",
    "match\r\n\t\x1b[31m",
    '{"match": [1, 2',
    "match" + "\U0010ffff",
)
