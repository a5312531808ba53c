"""Excerpts of articles: what somebody sends who has only a headline, or only the text below it."""

import random

from newsdesk.build.data.rows import Row

OPENING = 4, 11
"""Words of an opening, as many as headlines have; the rest of the article is the other excerpt."""


def cut(rows: list[Row], seed: int) -> list[str]:
    """Return an opening and a rest of every article that has words enough for both.

    They are no rows: what an article was labelled for need not stand in an excerpt of it, so a teacher says what the
    excerpt is about.
    """
    chance = random.Random(seed)
    excerpts = []
    for row in rows:
        words = row.text.split(" ")
        at = chance.randint(*OPENING)
        if len(words) >= at + OPENING[0]:
            excerpts += [" ".join(words[:at]), " ".join(words[at:])]
    return excerpts
