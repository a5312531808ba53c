"""Text to the ids of hashed n-grams, of words and of the bytes within a word: what the student reads.

A word is a run of letters, digits and bytes beyond ASCII; any other visible ASCII character is a word by itself ("$"
says Business), and spaces and the general punctuation of Unicode part words. Every word has a polynomial hash over its
bytes, modulo 2^64 (Rabin and Karp's), an n-gram of words the polynomial over their hashes. Whole batches at once, in
time linear in their bytes, the same on every machine: no seed but the constants here.
"""

import zlib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.errors import ManifestError

CHUNK = 1 << 14
"""Bytes hashed together, if texts are no longer: what is made of them stays in the processor's cache."""
NOTHING = 1
"""The one id of a text without an n-gram that is known."""


class Features(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The n-grams that are read, and the number of buckets that they are hashed into: the member's features file."""

    buckets: Annotated[int, Meta(ge=2, le=1 << 26)] = 1 << 22
    words: tuple[Annotated[int, Meta(ge=1, le=4)], ...] = (1, 2)
    """Lengths of the n-grams of words."""
    parts: tuple[Annotated[int, Meta(ge=3, le=8)], ...] = ()
    """Lengths in bytes of the n-grams within a word, of which a mark stands on either side."""
    opening: Annotated[int, Meta(ge=0)] = 0
    """So many first words of a text, where its title stands, count a second time as words of the opening."""

    def __post_init__(self) -> None:
        if not (self.words or self.parts):
            raise ValueError("features without n-grams: give `words` (lengths in words) or `parts` (in bytes)")


class _FeaturesFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    features: Features
    known: bytes = b""
    """A bit for each bucket (zlib), of the buckets that the member has a row for; empty: of all."""


class Ngrams:
    """Reads texts by a member's features. Never changed: may be shared between threads."""

    def __init__(self, features: Features, known: Array | None = None) -> None:
        """`known`: bool [buckets], the buckets that become ids; an n-gram of another one is passed over.

        Most n-grams of any corpus stand in it once, and teach nothing: a table needs no rows for them.
        """
        self.features, self.known = features, known
        places = np.arange(features.buckets) if known is None else np.where(known, np.cumsum(known) - 1, -NOTHING - 1)
        self._ids = (places + NOTHING + 1).astype(np.int32)
        self.rows = NOTHING + 1 + (features.buckets if known is None else int(known.sum()))
        """Rows of a table for the ids: padding, NOTHING, and what is known."""

    @classmethod
    def load(cls, path: Path) -> "Ngrams":
        """Read a features file.

        Raises:
            ManifestError: something in it is wrong; the message says what.
        """
        try:
            file = msgspec.json.decode(path.read_bytes(), type=_FeaturesFile)
            known = np.unpackbits(np.frombuffer(zlib.decompress(file.known), np.uint8)) if file.known else None
        except (msgspec.DecodeError, zlib.error) as error:
            raise ManifestError(f"{path}: not a features file: {error}. Rebuild the model (newsdesk build).") from error
        if known is not None and len(known) != -(-file.features.buckets // 8) * 8:
            raise ManifestError(
                f"{path}: {len(known)} bits for {file.features.buckets} buckets. Rebuild the model (newsdesk build)."
            )
        return cls(file.features, None if known is None else known[: file.features.buckets].astype(bool))

    def save(self, path: Path) -> None:
        """Write the features file that `load` reads."""
        known = b"" if self.known is None else zlib.compress(np.packbits(self.known).tobytes(), 9)
        path.write_bytes(msgspec.json.encode(_FeaturesFile(features=self.features, known=known)))

    def encode(self, texts: list[str]) -> list[Array]:
        """Return each text's ids, INT64 [n], n ≥ 1, in 1..rows - 1: one kind after another, in reading order.

        Nothing is cut: a text is read whole, however long. The ids are views of few arrays, for reading only.
        """
        return self.read(texts)[0]

    def read(self, texts: list[str]) -> tuple[list[Array], Array]:
        """Return each text's ids, as `encode` does, and how many of its n-grams are known.

        Args:
            texts: clean, n of them

        Returns:
            The ids, INT64 [ids of the text] each, and the n-grams known and in all, INT64 [n, 2].
        """
        every: list[Array] = []
        counted = [np.empty((0, 2), np.int64)]
        for chunk in _chunks(texts):
            ids, counts = self._encode(chunk)
            every += ids
            counted.append(counts)
        return every, np.concatenate(counted)

    def _encode(self, texts: list[bytes]) -> tuple[list[Array], Array]:
        raw = np.frombuffer(b" %b " % b" ".join(texts), np.uint8)  # a space on either side of every text
        powers, inverses = _powers(max(2 * CHUNK, 1 << len(raw).bit_length()))
        values = _VALUES[raw]
        if raw.max() >= 0x80:
            _blank_punctuation(raw, values)
        terms = values * powers[: len(raw)]
        inside, alone = values != 0, _ALONE[raw]
        starts = np.flatnonzero(inside[1:] & (alone[1:] | alone[:-1] | ~inside[:-1])) + 1
        words = np.add.reduceat(terms, starts) * inverses[starts] if len(starts) else np.empty(0, np.uint64)
        ends = np.cumsum([len(text) + 1 for text in texts])  # of a text, and the space behind it
        firsts = np.searchsorted(starts, np.concatenate([[0], ends]))  # the words of text t: firsts[t]..firsts[t + 1]
        kinds = [_of_words(words, firsts, order) for order in self.features.words]
        if self.features.opening:
            kinds.append(_of_opening(words, firsts, self.features.opening))
        if self.features.parts:
            mark = alone | ~inside
            sums = np.concatenate([[np.uint64(0)], np.cumsum(np.where(mark, powers[: len(raw)], terms))])
            kinds += [_of_parts(sums, inverses, np.cumsum(mark), ends, length) for length in self.features.parts]
        known = [self._look_up(*kind) for kind in kinds]
        totals = [np.sum([counts for _, counts in of], axis=0) for of in (known, kinds)]
        return _lay_out(known, totals[0]), np.stack(totals, -1)

    def _look_up(self, hashes: Array, counts: Array) -> tuple[Array, Array]:
        """Return the ids of the known hashes, and their number in each text."""
        mixed = (hashes ^ (hashes >> np.uint64(32))) * _MIX
        ids = self._ids[(mixed >> np.uint64(32)) * np.uint64(self.features.buckets) >> np.uint64(32)]
        if self.known is None:
            return ids, counts
        known = ids > 0
        before = np.concatenate([[0], np.cumsum(known)])
        return ids[known], np.diff(before[np.concatenate([[0], np.cumsum(counts)])])


def _lay_out(kinds: list[tuple[Array, Array]], totals: Array) -> list[Array]:
    """Part ids by text; `kinds` are ids, in the order of texts, and their number in each text; `totals` in all."""
    bounds = np.concatenate([[0], np.cumsum(np.maximum(totals, 1))])
    laid = np.full(bounds[-1], NOTHING, np.int64)
    place = bounds[:-1].copy()
    for ids, counts in kinds:
        before = np.cumsum(counts) - counts
        laid[np.arange(len(ids)) + np.repeat(place - before, counts)] = ids
        place += counts
    return [laid[start:end] for start, end in pairwise(bounds.tolist())]


def _chunks(texts: list[str]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for text in texts:
        # Bytes beyond ASCII are parts of words whatever they mean, but case must not tell two words apart.
        encoded = text.encode() if text.isascii() else text.lower().encode("utf-8", "surrogatepass")
        if chunk and size + len(encoded) > CHUNK:
            yield chunk
            chunk, size = [], 0
        chunk.append(encoded)
        size += len(encoded)
    if chunk:
        yield chunk


def _of_words(words: Array, firsts: Array, order: int) -> tuple[Array, Array]:
    grams = words
    for further in range(1, order):
        grams = grams[:-1] * _STEP + words[further:]
    within = np.ones(len(grams), bool)
    for back in range(1, order):  # an n-gram that begins so near before a text's first word would reach into it
        across = firsts[1:-1] - back
        within[across[(across >= 0) & (across < len(grams))]] = False
    return grams[within] + _SALTS[order], np.maximum(np.diff(firsts) - (order - 1), 0)


def _of_opening(words: Array, firsts: Array, most: int) -> tuple[Array, Array]:
    counts = np.minimum(np.diff(firsts), most)
    before = np.cumsum(counts) - counts
    return words[np.arange(counts.sum()) + np.repeat(firsts[:-1] - before, counts)] + _SALTS[0], counts


def _of_parts(sums: Array, inverses: Array, marks: Array, ends: Array, length: int) -> tuple[Array, Array]:
    """`sums` are of the terms before each byte, `marks` the number of marks up to each byte, itself included."""
    count = max(len(marks) - length + 1, 0)
    at = np.flatnonzero(marks[length - 2 : length - 2 + count] == marks[:count])  # none but at the two ends
    hashes = (sums[at + length] - sums[at]) * inverses[at] + _SALTS[-length]
    return hashes, np.diff(np.searchsorted(at, ends), prepend=0)


def _blank_punctuation(raw: Array, values: Array) -> None:
    """Make U+2000 to U+207F (E2 80 80 to E2 81 BF: quotes, dashes, ellipsis) part words as spaces do."""
    at = np.flatnonzero((raw[:-2] == 0xE2) & (raw[1:-1] | 1 == 0x81))
    for following in range(3):
        values[at + following] = 0


@cache
def _powers(count: int) -> tuple[Array, Array]:
    """Return the first `count` powers of the base and of its inverse, modulo 2^64."""
    factors = np.full((2, count), [[_BASE], [pow(_BASE, -1, 1 << 64)]], np.uint64)
    factors[:, 0] = 1
    powers, inverses = np.cumprod(factors, axis=1)
    return powers, inverses


def _numbers(count: int) -> Array:
    """Return `count` arbitrary odd numbers, UINT64: SplitMix64 (Steele, Lea, Flood 2014) from 0."""
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state ^ (state >> np.uint64(31))) | np.uint64(1)


def _tables() -> tuple[Array, Array]:
    """Return each byte's value, 0 for what parts words, and whether it is a word by itself."""
    values, alone = _numbers(256), np.zeros(256, bool)
    values[:0x21] = values[0x7F] = 0
    values[ord("A") : ord("Z") + 1] = values[ord("a") : ord("z") + 1]
    for byte in range(0x21, 0x7F):
        alone[byte] = not chr(byte).isalnum()
    return values, alone


_BASE = 0xD6E8FEB86659FD93
_STEP = np.uint64(0xA0761D6478BD642F)
"""The base of the polynomial over words."""
_MIX = np.uint64(0xE7037ED1A0B428DB)
_SALTS = _numbers(16)
"""Numbers that tell kinds apart: n-grams of n words [n], words of the opening [0], n-grams of n bytes [-n]."""
_VALUES, _ALONE = _tables()
