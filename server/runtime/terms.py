"""Text to the terms that a linear member weighs by TF-IDF: each n-gram once, with how often it stands in the text.

A member reads blocks of n-grams: of words, and of characters. Each block is scaled to length 1 by itself, so that the
many n-grams of characters do not drown the few words. The id of a term holds its row and its count, because a graph's
inputs are whole numbers: `row + rows * count`. The graph takes the two apart (`newsdesk.build.compile.linear`).
"""

import zlib
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.runtime.ngrams import Features, Ngrams

MOST = 255
"""A term that stands more often in a text counts as often as this: ids stay below 2^31, which OpenVINO computes in."""


class _Block(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    features: Features
    known: bytes
    """A bit for each bucket (zlib), of the buckets that have a row."""


class _TermsFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    blocks: Annotated[list[_Block], Meta(min_length=1)]


def load(path: Path) -> "Ngrams | Terms":
    """Return what reads texts for a bag: by the features of its n-grams, or by a linear member's terms.

    Raises:
        ManifestError: something in the file is wrong; the message says what.
    """
    try:
        fields = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        fields = {}
    return Terms.load(path) if "blocks" in fields else Ngrams.load(path)


class Terms:
    """Reads texts by blocks of n-grams. Never changed: may be shared between threads.

    The rows of a block stand behind those of the block before it. The first two of each are padding's and that of a
    text without a known n-gram, and weigh nothing.
    """

    def __init__(self, blocks: list[Ngrams]) -> None:
        self.blocks = blocks
        self.starts = np.cumsum([0, *(block.rows for block in blocks)])[:-1]
        """The first row of each block, INT64 [blocks]."""
        self.rows = sum(block.rows for block in blocks)

    @classmethod
    def load(cls, path: Path) -> "Terms":
        """Read a terms file.

        Raises:
            ManifestError: something in it is wrong; the message says what.
        """
        try:
            file = msgspec.json.decode(path.read_bytes(), type=_TermsFile)
            blocks = [_known(block) for block in file.blocks]
        except (msgspec.DecodeError, zlib.error, ValueError) as error:
            raise ManifestError(f"{path}: not a terms file: {error}. Rebuild the model (newsdesk build).") from error
        return cls(blocks)

    def save(self, path: Path) -> None:
        """Write the terms file that `load` reads."""
        blocks = [
            _Block(features=block.features, known=zlib.compress(np.packbits(_known_buckets(block)).tobytes(), 9))
            for block in self.blocks
        ]
        path.write_bytes(msgspec.json.encode(_TermsFile(blocks=blocks)))

    def encode(self, texts: list[str]) -> list[Array]:
        """Return each text's ids, INT64 [n], n ≥ 1: every term once, `row + rows * count`, in the order of rows."""
        return self.read(texts)[0]

    def read(self, texts: list[str]) -> tuple[list[Array], Array]:
        """Return each text's ids, as `encode` does, and how many of its n-grams are known.

        Args:
            texts: clean, n of them

        Returns:
            The ids, INT64 [ids of the text] each, and the n-grams known and in all, INT64 [n, 2].
        """
        keys, counted = [], np.zeros((len(texts), 2), np.int64)
        for start, block in zip(self.starts, self.blocks, strict=True):
            ids, of_block = block.read(texts)
            counted += of_block
            text = np.repeat(np.arange(len(texts)), [len(of_text) for of_text in ids])
            keys.append(np.concatenate(ids) + (text * self.rows + start))
        key = np.sort(np.concatenate(keys))
        first = np.flatnonzero(np.diff(key, prepend=-1))
        counts = np.minimum(np.diff(first, append=len(key)), MOST)
        text, row = np.divmod(key[first], self.rows)
        ids = row + self.rows * counts
        return np.split(ids, np.searchsorted(text, np.arange(1, len(texts)))) if texts else [], counted


def _known_buckets(block: Ngrams) -> Array:
    return np.ones(block.features.buckets, bool) if block.known is None else block.known


def _known(block: _Block) -> Ngrams:
    bits = np.unpackbits(np.frombuffer(zlib.decompress(block.known), np.uint8))
    if len(bits) != -(-block.features.buckets // 8) * 8:
        raise ValueError(f"{len(bits)} bits for {block.features.buckets} buckets")
    return Ngrams(block.features, bits[: block.features.buckets].astype(bool))
