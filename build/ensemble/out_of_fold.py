"""Out-of-fold predictions: a member's probabilities of training rows that it was not fitted on."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from newsdesk.build.ensemble.texts import Texts
from newsdesk.build.errors import DataError
from newsdesk.server.runtime.arrays import Array

_FILE = "left_out.npz"
SLICE = "left out"


class OutOfFold(NamedTuple):
    """Probabilities FP [rows, labels], and the rows' labels and words INT [rows]; None where nobody counted words."""

    probabilities: Array
    labels: Array
    lengths: Array | None = None

    @classmethod
    def none(cls, count: int) -> "OutOfFold":
        """Return no rows, of so many labels."""
        return cls(np.empty((0, count), np.float32), np.empty(0, np.int64), np.empty(0, np.int64))

    def save(self, folder: Path) -> None:
        """Write the file that `load` reads."""
        np.savez(folder / _FILE, **{name: of_rows for name, of_rows in self._asdict().items() if of_rows is not None})

    @classmethod
    def load(cls, folder: Path) -> "OutOfFold":
        """Read the file that `save` wrote."""
        with np.load(folder / _FILE) as arrays:
            return cls(**arrays)

    def after(self, probabilities: Array, labels: Array) -> tuple[Array, Array]:
        """Return their probabilities and labels behind those of other rows."""
        return np.concatenate([probabilities, self.probabilities]), np.concatenate([labels, self.labels])

    def texts_after(self, texts: Texts, count: int) -> Texts:
        """Return what is known of the texts of `count` other rows and, behind them, of these.

        Each of these is a group of its own, and all are a slice of their own.

        Raises:
            DataError: nobody counted the words of these.
        """
        here = len(self.labels)
        if self.lengths is None and texts.lengths is not None:
            raise DataError("rows left out have no lengths; delete the artifacts of cross-fit, and build again")
        more = self.lengths, -1 - np.arange(here), np.full(here, SLICE)
        known = texts.lengths, texts.groups, texts.slices
        pairs = zip(known, more, strict=True)
        return Texts(*(None if a is None or b is None else np.concatenate([a, b]) for a, b in pairs))
