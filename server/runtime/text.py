"""The one cleaning of an article, for training, calibration and serving alike.

News text collected from feeds carries artifacts: entities that lost their ampersand (`#39;`, `quot;`), entities,
HTML tags, and a backslash where a line broke. Text that was pasted carries characters that nobody sees, and letters
that only look like those of the word. A model trained on clean text must be served clean text.
"""

import html
import re
import unicodedata

from newsdesk.server.runtime.lookalikes import as_latin

# `#39;`, `quot;`: an entity whose ampersand was lost on the way, which html.unescape does not know.
_BARE_ENTITY = re.compile(
    r"(?<![&\w])(?<!amp;)(#\d{2,5};|(?:quot|amp|lt|gt|nbsp|shy|apos|hellip|rsquo|lsquo|rdquo|ldquo|mdash|ndash);)"
)
# A tag: bounded, so that the time stays linear in the text, and starting with a letter, so that "3 < 4" stays.
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,300}>")
# Control characters (NUL among them), and white space of every kind.
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
# Characters that show nothing, and part a word for who reads characters: all of Unicode's category Cf (soft hyphens,
# joiners, marks of direction), and of its "default ignorable code points" those of other categories.
_UNSEEN = re.compile(
    "[\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff0-\ufffb\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
# html.unescape would hand these digits to int(), which raises from 4,300 digits on.
_ENDLESS_NUMBER = re.compile(r"#\d{8,};?")
_SUSPECTS = frozenset("&#;<\\")
_MOST_ESCAPES = 4


def clean(text: str) -> str:
    """Return the article as the members read it.

    Entities are decoded, tags and line-break backslashes become spaces. Characters are those of Unicode's form NFKC,
    without the ones that show nothing, and a look-alike of another script inside a Latin word is the letter that it
    looks like.

    The time is linear in the length of the text. Cleaning is idempotent for text that was escaped at most four times
    over. ASCII never gets longer; of other characters NFKC makes 18 at most. Returns "" where nothing is left.
    """
    text = _as_seen(text)
    if not _SUSPECTS.isdisjoint(text):
        for _ in range(_MOST_ESCAPES):  # "&amp;lt;b&amp;gt;" is escaped twice; unbounded, "&ampampamp…" is quadratic
            before = text
            text = _BARE_ENTITY.sub(r"&\1", _ENDLESS_NUMBER.sub(" ", text))
            text = _TAG.sub(" ", _as_seen(html.unescape(text)).replace("\\", " "))
            if text == before:
                break
    return _SPACE.sub(" ", text).strip()


def _as_seen(text: str) -> str:
    """Return the characters that a person sees."""
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKC", _UNSEEN.sub("", text))
    latin = as_latin(plain)
    return latin if latin is plain else unicodedata.normalize("NFKC", latin)
