"""The one cleaning of an article, for training, calibration and serving alike.

News text collected from feeds carries artefacts: entities that lost their ampersand (`#39;`, `quot;`), entities,
HTML tags, and a backslash where a line broke. A model trained on clean text must be served clean text.
"""

import html
import re

# `#39;`, `quot;`: an entity whose ampersand was lost on the way, which html.unescape does not know.
_BARE_ENTITY = re.compile(
    r"(?<![&\w])(?<!amp;)(#\d{2,5};|(?:quot|amp|lt|gt|nbsp|apos|hellip|rsquo|lsquo|rdquo|ldquo|mdash|ndash);)"
)
# A tag: bounded, so that the time stays linear in the text, and starting with a letter, so that "3 < 4" stays.
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,300}>")
# Control characters (NUL among them), zero-width marks that no tokenizer reads, and white space of every kind.
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b\ufeff]+")
# html.unescape would hand these digits to int(), which raises from 4,300 digits on.
_ENDLESS_NUMBER = re.compile(r"#\d{8,};?")
_SUSPECTS = frozenset("&#;<\\")
_MOST_ESCAPES = 4


def clean(text: str) -> str:
    """Return the article as the members read it: entities decoded, tags and line-break backslashes made spaces.

    Linear in the length of the text, never longer than it, and idempotent for text that was escaped at most
    four times over. Returns "" where nothing is left.
    """
    if not _SUSPECTS.isdisjoint(text):
        for _ in range(_MOST_ESCAPES):  # "&amp;lt;b&amp;gt;" is escaped twice; unbounded, "&ampampamp…" is quadratic
            before = text
            text = _BARE_ENTITY.sub(r"&\1", _ENDLESS_NUMBER.sub(" ", text))
            text = _TAG.sub(" ", html.unescape(text).replace("\\", " "))
            if text == before:
                break
    return _SPACE.sub(" ", text).strip()
