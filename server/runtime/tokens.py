"""Text to token ids, with the Rust tokenizer."""

from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.casing import Casing


class Tokens:
    """One member's tokenizer. Not shared between threads: each process has its own, and Rust's threads stay off."""

    def __init__(self, path: Path, max_length: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._casing = Casing(self._tokenizer)
        self._most = max_length
        probe = self._tokenizer.encode("a")
        inner = [i for i, special in enumerate(probe.special_tokens_mask) if not special]
        self._before, self._after = probe.ids[: inner[0]], probe.ids[inner[-1] + 1 :]
        self._room = max_length - len(self._before) - len(self._after)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return each text's ids, INT [length], special tokens included, cut at the end to `max_length` of them."""
        kept = self._most - len(self._after)
        return [
            ids if len(ids) <= self._most else ids[:kept] + self._after
            for ids in (encoding.ids for encoding in self._encoded(texts))
        ]

    def windows(self, texts: list[str], overlap: float) -> tuple[list[list[int] | Array], Array]:
        """Return the ids of every window, text after text.

        A text of at most `max_length` ids is one window. A longer one has as few as hold all of it when each shares at
        least `overlap` of its room with the next; all are full, and they stand at even distances. Special tokens stand
        around each. Linear in the text.

        Args:
            texts: clean, n of them
            overlap: a share, 0 to 1

        Returns:
            The ids of each window, INT [length], and how many windows each text has, INT64 [n].
        """
        return self.read(texts, overlap)[:2]

    def read(self, texts: list[str], overlap: float) -> tuple[list[list[int] | Array], Array, Array]:
        """Return what `windows` does, and how many tokens each text has without special ones, INT64 [n]."""
        windows: list[list[int] | Array] = []
        counts = np.ones(len(texts), np.int64)
        encoded = self._encoded(texts)
        for i, encoding in enumerate(encoded):
            ids = encoding.ids
            if len(ids) <= self._most:
                windows.append(ids)
            else:
                cut = self._cut(np.array(ids), overlap)
                counts[i] = len(cut)
                windows += [*cut]
        around = len(self._before) + len(self._after)
        return windows, counts, np.fromiter((len(encoding) - around for encoding in encoded), np.int64, len(texts))

    def _encoded(self, texts: list[str]) -> list[Encoding]:
        encodings: list[Encoding] = self._tokenizer.encode_batch_fast(self._casing.restore(texts))
        return encodings

    def _cut(self, ids: Array, overlap: float) -> Array:
        """Return the windows of a long text, INT64 [windows, max_length]."""
        first, room = len(self._before), self._room
        inner = ids[first : len(ids) - len(self._after)]
        step = max(1, int(room * (1 - overlap)))
        count = 1 + -(-(len(inner) - room) // step)
        starts = np.linspace(0, len(inner) - room, count).astype(np.int64)  # rounded down: no step grows beyond `step`
        cut = np.empty((count, self._most), np.int64)
        cut[:, :first], cut[:, first + room :] = self._before, self._after
        cut[:, first : first + room] = inner[starts[:, None] + np.arange(room)]
        return cut
