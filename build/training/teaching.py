"""What teachers say about the training rows, about pieces of them and about other texts, for a member to learn from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_ROWS = "rows.npy"
_TEXTS = "texts.parquet"
_OF_TEXTS = "texts.npy"


@dataclass(frozen=True)
class Taught:
    """What teachers say: probabilities of the rows, FP32 [rows, labels], and of texts that nobody labelled."""

    rows: np.ndarray
    texts: list[str]
    of_texts: np.ndarray
    new: int = 0
    """So many texts, the first ones, are articles of their own; the others are pieces of the rows, in pairs."""

    def without(self, texts: list[str], left_out: np.ndarray) -> "Taught":
        """Return what is left where some rows, BOOL [rows], are left out, and their pieces; `texts` are the rows'."""
        gone = {text for text, out in zip(texts, left_out, strict=True) if out}
        openings, rests = self.texts[self.new :: 2], self.texts[self.new + 1 :: 2]
        kept = [f"{opening} {rest}" not in gone for opening, rest in zip(openings, rests, strict=True)]
        keep = np.concatenate([np.ones(self.new, bool), np.repeat(np.array(kept, bool), 2)])
        return Taught(
            self.rows[~left_out],
            [text for text, stays in zip(self.texts, keep, strict=True) if stays],
            self.of_texts[keep],
            self.new,
        )


def save(taught: Taught, folder: Path) -> None:
    np.save(folder / _ROWS, taught.rows.astype(np.float32))
    np.save(folder / _OF_TEXTS, taught.of_texts.astype(np.float32))
    pq.write_table(pa.table({"text": pa.array(taught.texts, pa.string())}), folder / _TEXTS, compression="zstd")


def load(folder: Path, new: int) -> Taught:
    texts = pq.read_table(folder / _TEXTS).column("text").to_pylist()
    return Taught(np.load(folder / _ROWS), texts, np.load(folder / _OF_TEXTS), new)
