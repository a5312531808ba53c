"""Case that a text has lost.

A tokenizer that tells "Apple" from "apple" finds little that it knows in capitals, or without any.
"""

import math
import re
from functools import lru_cache

from tokenizers import Tokenizer

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERS = _CAPITALS + _CAPITALS.lower()
_FEWEST_LETTERS = 20
_MOST_CAPITALS = 0.4
"""Share of the letters: one in 5,000 AG News articles has more, or has none."""
_LONGEST_WORD = 30
_KEPT_WORDS = 1 << 16


class Casing:
    """Gives a text the case back in which its words are best known to `tokenizer`, if that minds case at all."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        def ids(word: str) -> list[int]:
            """Return the ids of a word behind another, as most stand: byte-level ones have others for the first."""
            encoded: list[int] = tokenizer.encode(f"the {word}", add_special_tokens=False).ids
            return encoded

        unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "<unk>")

        def cost(form: str) -> float:
            """Vocabularies are in the order of frequency: as Zipf has it, a piece's rank is its cost."""
            pieces = ids(form)
            return math.inf if unknown in pieces else sum(math.log(2 + rank) for rank in pieces)

        self._minds = ids("News Goal") != ids("news goal")
        # Of equal cost, lower case: it stands first.
        self._form = lru_cache(_KEPT_WORDS)(lambda word: min((word, word.capitalize(), word.upper()), key=cost))

    def restore(self, texts: list[str]) -> list[str]:
        """Return the texts, those without their case with the likeliest one. Linear in the text."""
        return [self._restored(text) if lost(text) else text for text in texts] if self._minds else texts

    def _restored(self, text: str) -> str:
        return _WORD.sub(lambda word: word[0] if len(word[0]) > _LONGEST_WORD else self._form(word[0]), text.lower())


def lost(text: str) -> bool:
    """Return whether a text's Latin letters are in one case, or in any."""
    raw = text.encode(errors="surrogatepass")
    letters = len(raw) - len(raw.translate(None, _LETTERS))
    capitals = len(raw) - len(raw.translate(None, _CAPITALS))
    return letters >= _FEWEST_LETTERS and not 0 < capitals <= _MOST_CAPITALS * letters
