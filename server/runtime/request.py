"""A request's inputs, checked: a bad one fails its own request with the reason."""

import numpy as np

from newsdesk.server.contract import DEFAULT_QUALITY, MAX_TEXT_BYTES, QUALITIES, QUALITY
from newsdesk.server.runtime import heartbeat
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.cascade import DEFAULT
from newsdesk.server.runtime.errors import QualityError, TextError
from newsdesk.server.runtime.text import clean

SHOWN = 16
"""Refused texts or qualities of one request that its message names."""
_PLACES = {name.encode(): place for place, name in enumerate(QUALITIES)}


def read(raw: bytes) -> str:
    """Return the clean text of one article as it came over the wire.

    Args:
        raw: UTF-8, at most MAX_TEXT_BYTES

    Raises:
        TextError: the text is too long, not UTF-8 or empty.
    """
    if len(raw) > MAX_TEXT_BYTES:
        raise TextError(f"{len(raw)} bytes, expected at most {MAX_TEXT_BYTES}, send a shorter text")
    try:
        text = clean(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise TextError(f"not UTF-8 (byte {error.start} is 0x{raw[error.start]:02x}), send UTF-8") from error
    if not text:
        raise TextError("empty, expected at least one visible character")
    return text


def read_texts(raw: Array) -> list[str]:
    """Return a request's clean texts.

    Args:
        raw: bytes, OBJECT [n]

    Raises:
        TextError: the index and the reason of bad ones, SHOWN at most.
    """
    texts, refused = [], []
    for index, text in enumerate(raw):
        heartbeat.beat()
        try:
            texts.append(read(text))
        except TextError as error:
            refused.append(f"text {index}: {error}")
    if refused:
        raise TextError(f"newsdesk refused {len(refused)} of {len(raw)} texts. {_some(refused)}")
    return texts


def read_qualities(raw: Array | None, count: int) -> Array:
    """Return the place in QUALITIES of each of a request's texts, INT64 [count].

    Args:
        raw: names of qualities, bytes, OBJECT [count]; None means balanced for all
        count: texts of the request

    Raises:
        QualityError: the index and the name of bad ones, SHOWN at most.
    """
    if raw is None:
        return np.full(count, DEFAULT)
    places = [_PLACES.get(quality, -1) for quality in raw]
    if -1 in places:
        refused = [f"quality {i}: {_shown(raw[i])}" for i, place in enumerate(places) if place < 0]
        raise QualityError(
            f"newsdesk refused {len(refused)} of {len(raw)} qualities. {_some(refused)}; expected one of "
            f"{', '.join(QUALITIES)}, or no {QUALITY} at all, which means {DEFAULT_QUALITY}"
        )
    return np.array(places)


def _some(refused: list[str]) -> str:
    more = f"; and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
    return f"{'; '.join(refused[:SHOWN])}{more}"


def _shown(quality: bytes) -> str:
    return repr(quality[:40].decode("utf-8", "replace")) + ("…" if len(quality) > 40 else "")
