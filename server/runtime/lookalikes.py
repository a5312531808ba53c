"""Letters of another script that stand in a Latin word because they look like its own.

Source: Unicode Technical Standard #39, "Unicode Security Mechanisms", confusables.txt, as the package
confusable-homoglyphs carries it.
"""

import functools
import json
import re
import unicodedata
from importlib.resources import files

# Where no such character stands, no word mixes scripts. U+024F ends Latin Extended-B; from U+2000 to U+2BFF stand
# punctuation and symbols, which news is full of.
_FOREIGN = re.compile(r"[\u0250-\u1fff\u2c00-\U0010ffff]")
_WORD = re.compile(r"[\w\u0300-\u036f]+")


def as_latin(text: str) -> str:
    """Return the text with every look-alike inside a Latin word replaced by the ASCII letter that it looks like.

    A word is Latin when it holds an ASCII letter and nothing is left of another script once its look-alikes are
    replaced; every other word stays as it is, so that Russian or Greek is never touched.
    """
    return _WORD.sub(_latin_word, text) if _FOREIGN.search(text) else text


def _latin_word(match: re.Match[str]) -> str:
    word = match[0]
    if word.isascii() or not any(character.isascii() and character.isalpha() for character in word):
        return word
    replaced = word.translate(_table())
    return replaced if all(map(_is_latin, replaced)) else word


def _is_latin(character: str) -> bool:
    return (
        character.isascii()
        or not character.isalpha()
        or unicodedata.name(character, "").startswith(("LATIN ", "MODIFIER LETTER "))
    )


@functools.cache
def _table() -> dict[int, str]:
    """Return each look-alike's ASCII letter, read once and only where a text needs it: the file has 900 kB."""
    known = json.loads((files("confusable_homoglyphs") / "confusables.json").read_text("utf-8"))
    table = {}
    for character, alike in known.items():
        if len(character) != 1 or _is_latin(character):
            continue
        letters = [other["c"] for other in alike if len(other["c"]) == 1 and other["c"].isascii()]
        letters = [letter for letter in letters if letter.isalpha()]
        if letters:
            # Unicode has one prototype for I and l; a capital letter looks like the capital.
            table[ord(character)] = "I" if letters[0] == "l" and character.isupper() else letters[0]
    return table
