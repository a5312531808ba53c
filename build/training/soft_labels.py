"""Soft labels: teachers' probabilities of training rows, of excerpts and of other texts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from newsdesk.server.runtime.arrays import Array

_ROWS = "rows.npy"
_TEXTS = "texts.parquet"
_OF_TEXTS = "texts.npy"


@dataclass(frozen=True)
class SoftLabels:
    """Probabilities of the training rows, and of texts that nobody labelled, FP32 [rows or texts, labels]."""

    rows: Array
    texts: list[str]
    of_texts: Array
    new: int = 0
    """So many texts, the first ones, are articles of their own; the others are excerpts of the rows, in pairs."""

    def without(self, texts: list[str], left_out: Array) -> "SoftLabels":
        """Return what is left where some rows, BOOL [rows], are left out, and their excerpts; `texts` are the rows'."""
        gone = {text for text, out in zip(texts, left_out, strict=True) if out}
        openings, rests = self.texts[self.new :: 2], self.texts[self.new + 1 :: 2]
        kept = [f"{opening} {rest}" not in gone for opening, rest in zip(openings, rests, strict=True)]
        keep = np.concatenate([np.ones(self.new, bool), np.repeat(np.array(kept, bool), 2)])
        return SoftLabels(
            self.rows[~left_out],
            [text for text, stays in zip(self.texts, keep, strict=True) if stays],
            self.of_texts[keep],
            self.new,
        )

    def save(self, folder: Path) -> None:
        """Write the files that `load` reads."""
        np.save(folder / _ROWS, self.rows.astype(np.float32))
        np.save(folder / _OF_TEXTS, self.of_texts.astype(np.float32))
        pq.write_table(pa.table({"text": pa.array(self.texts, pa.string())}), folder / _TEXTS, compression="zstd")

    @classmethod
    def load(cls, folder: Path, new: int) -> "SoftLabels":
        """Read what `save` wrote; so many of the texts, the first ones, are `new`."""
        texts = pq.read_table(folder / _TEXTS).column("text").to_pylist()
        return cls(np.load(folder / _ROWS), texts, np.load(folder / _OF_TEXTS), new)
