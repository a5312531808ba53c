"""What real senders do to articles: source tags gone, typing errors, case lost."""

import random
import re
from collections.abc import Callable

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


def variants(seed: int) -> dict[str, Callable[[str], str]]:
    """Return each perturbation under its name, as a function of a text that always draws the same."""

    def drawn(change: Callable[[str, random.Random], str]) -> Callable[[str], str]:
        return lambda text: change(text, random.Random(f"{seed}\0{text}"))

    return {
        "sources stripped": without_sources,
        "typing errors": drawn(with_typing_errors),
        "case noise": drawn(with_case_noise),
    }
