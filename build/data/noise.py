"""Noise that real senders make: source tags gone, typing errors, case lost, letters that only look alike."""

import random
import re

# "(Reuters)", "AP - ", "NEW YORK (AP) --", "Reuters - " at the head of a description.
_NAMES = r"(?:AP|AFP|Reuters|UPI|USATODAY\.com|SPACE\.com|Ziff Davis|MacCentral|TechWeb|washingtonpost\.com)"
_TAG = re.compile(rf"\({_NAMES}\)(?:\s+-+(?=\s))?")
_LEAD = re.compile(rf"\b{_NAMES}\s+-+\s+")
_TYPING_ERRORS = 0.04
"""Share of the letters."""


def without_sources(text: str) -> str:
    """Return the text without the news agency's tag: a shortcut that a classifier must not lean on."""
    return " ".join(_LEAD.sub("", _TAG.sub("", text)).split()) or text


def with_typing_errors(text: str, chance: random.Random) -> str:
    """Return the text with a share of its letters swapped with the next, dropped or doubled."""
    letters = list(text)
    for i in range(len(letters) - 1):
        if letters[i].isalpha() and chance.random() < _TYPING_ERRORS:
            match chance.randrange(3):
                case 0:
                    letters[i], letters[i + 1] = letters[i + 1], letters[i]
                case 1:
                    letters[i] = ""
                case 2:
                    letters[i] *= 2
    return "".join(letters).strip() or text


def with_case_noise(text: str, chance: random.Random) -> str:
    """Return the text in lower case, in capitals, or with every letter's case drawn."""
    match chance.randrange(3):
        case 0:
            return text.lower()
        case 1:
            return text.upper()
    return "".join(letter.upper() if chance.random() < 0.5 else letter.lower() for letter in text)


def with_look_alikes(text: str, chance: random.Random) -> str:
    """Return the text with a share of its letters replaced by Cyrillic ones that look alike, and unseen characters."""
    letters = []
    for letter in text:
        if letter in _LOOK_ALIKES and chance.random() < _REPLACED:
            letter = _LOOK_ALIKES[letter]
        letters.append(letter + chance.choice(_UNSEEN) if chance.random() < _ADDED else letter)
    return "".join(letters)


_LOOK_ALIKES = dict(zip("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ", strict=True))
_UNSEEN = "\u00ad\u200b\u200d\u2060"
_REPLACED, _ADDED = 0.3, 0.05
"""Shares of the letters."""
